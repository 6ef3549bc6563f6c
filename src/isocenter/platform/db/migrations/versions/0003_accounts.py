"""People, their logins, keys of programs, links that work once."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
Flag = sa.SmallInteger()


def _table(name: str, *columns: Any) -> None:
    op.create_table(
        name,
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f(f"fk_{name}_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
    )


def _refers(name: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{name}_{column}_{other}"))


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, server_default="", nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, server_default="0", nullable=False)


def _flag(name: str) -> sa.Column[int]:
    return sa.Column(name, Flag, server_default="0", nullable=False)


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def _instant(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, nullable=False)


def _instant_or_never(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, nullable=True)


def upgrade() -> None:
    _table(
        "account",
        _word("login"),
        _text("display_name"),
        _word("role"),
        _flag("operator"),
        _text("password_hash"),
        _word("state"),
        _number("version"),
        _text("totp_secret"),
        _flag("totp_confirmed"),
        _number("totp_step"),
        _instant("created_at_us"),
        _instant_or_never("last_login_at_us"),
        _instant_or_never("password_changed_at_us"),
        sa.UniqueConstraint("login", name=op.f("uq_account_login")),
    )
    _table(
        "login_session",
        sa.Column("account_id", BigInt, nullable=False),
        _instant("created_at_us"),
        _instant("expires_at_us"),
        _instant_or_never("revoked_at_us"),
        _instant_or_never("last_used_at_us"),
        _instant_or_never("proven_at_us"),
        _text("address"),
        _text("user_agent"),
        _refers("login_session", "account_id", "account"),
    )
    _table(
        "refresh_token",
        sa.Column("session_id", BigInt, nullable=False),
        _word("token_hash"),
        _instant_or_never("used_at_us"),
        _refers("refresh_token", "session_id", "login_session"),
        sa.UniqueConstraint("token_hash", name=op.f("uq_refresh_token_token_hash")),
    )
    _table(
        "api_key",
        _text("name"),
        _text("prefix"),
        _word("secret_hash"),
        sa.Column("permissions", Text, server_default="[]", nullable=False),
        _text("created_by"),
        _instant("created_at_us"),
        _instant_or_never("expires_at_us"),
        _instant_or_never("revoked_at_us"),
        _instant_or_never("last_used_at_us"),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_key_secret_hash")),
    )
    _table(
        "one_time_link",
        sa.Column("account_id", BigInt, nullable=True),
        _word("purpose"),
        _word("token_hash"),
        _instant("expires_at_us"),
        _instant_or_never("used_at_us"),
        _refers("one_time_link", "account_id", "account"),
        sa.UniqueConstraint("token_hash", name=op.f("uq_one_time_link_token_hash")),
    )
    _table(
        "recovery_code",
        sa.Column("account_id", BigInt, nullable=False),
        _word("code_hash"),
        _instant_or_never("used_at_us"),
        _refers("recovery_code", "account_id", "account"),
    )
    _table(
        "passkey",
        sa.Column("account_id", BigInt, nullable=False),
        _word("credential_id"),
        _word("public_key"),
        _text("user_handle"),
        _number("sign_count"),
        sa.Column("transports", Text, server_default="[]", nullable=False),
        _text("name"),
        _flag("backup_eligible"),
        _flag("backed_up"),
        _instant("created_at_us"),
        _instant_or_never("last_used_at_us"),
        _instant_or_never("revoked_at_us"),
        _refers("passkey", "account_id", "account"),
        sa.UniqueConstraint("credential_id", name=op.f("uq_passkey_credential_id")),
    )
    _table(
        "used_challenge",
        _word("challenge_hash"),
        _instant("expires_at_us"),
        sa.UniqueConstraint("challenge_hash", name=op.f("uq_used_challenge_challenge_hash")),
    )
    _identity_providers()
    for table, column in (
        ("account", "organization_id"),
        ("login_session", "account_id"),
        ("refresh_token", "session_id"),
        ("api_key", "organization_id"),
        ("one_time_link", "account_id"),
        ("recovery_code", "account_id"),
        ("passkey", "account_id"),
        ("used_challenge", "organization_id"),
        ("external_identity", "account_id"),
        ("openid_login", "provider_id"),
        ("openid_session", "provider_id"),
    ):
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def _identity_providers() -> None:
    _table(
        "identity_provider",
        _word("name"),
        _text("title"),
        _word("issuer"),
        _word("client_id"),
        _text("client_secret"),
        sa.Column("enabled", Flag, server_default="1", nullable=False),
        sa.Column("settings", Text, server_default="{}", nullable=False),
        _instant("created_at_us"),
        sa.UniqueConstraint(
            "organization_id", "name", name=op.f("uq_identity_provider_organization_id_name")
        ),
    )
    _table(
        "external_identity",
        sa.Column("account_id", BigInt, nullable=False),
        _word("issuer"),
        _word("subject"),
        _instant("created_at_us"),
        _instant_or_never("last_login_at_us"),
        _refers("external_identity", "account_id", "account"),
        sa.UniqueConstraint(
            "organization_id",
            "issuer",
            "subject",
            name=op.f("uq_external_identity_organization_id_issuer_subject"),
        ),
    )
    _table(
        "openid_login",
        sa.Column("provider_id", BigInt, nullable=False),
        _word("state_hash"),
        _word("browser_hash"),
        _word("step"),
        _text("return_to"),
        sa.Column("account_id", BigInt, nullable=True),
        _number("session_id"),
        _text("link_hash"),
        _instant("expires_at_us"),
        _instant_or_never("used_at_us"),
        _refers("openid_login", "provider_id", "identity_provider"),
        _refers("openid_login", "account_id", "account"),
        sa.UniqueConstraint("state_hash", name=op.f("uq_openid_login_state_hash")),
    )
    _table(
        "openid_session",
        sa.Column("session_id", BigInt, nullable=False),
        sa.Column("provider_id", BigInt, nullable=False),
        _instant("ends_at_us"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["login_session.id"],
            name=op.f("fk_openid_session_session_id_login_session"),
            ondelete="CASCADE",
        ),
        _refers("openid_session", "provider_id", "identity_provider"),
        sa.UniqueConstraint("session_id", name=op.f("uq_openid_session_session_id")),
    )
