"""Links that work once: an invitation, a new password, the first set-up. Only hashes of them are kept."""

from __future__ import annotations

from isocenter.features.accounts import queries
from isocenter.features.accounts.entries import Link, Purpose
from isocenter.features.accounts.secret_words import hash_of, random_word
from isocenter.kit.errors import Forbidden
from isocenter.platform.db import Row, Work

_S = 1_000_000
VALID_S = {Purpose.SETUP: 86_400, Purpose.INVITATION: 7 * 86_400, Purpose.RESET: 86_400}


class LinkUsedUp(Forbidden):
    """Never made, used or too old: one answer for all of these."""

    default_code = "link-not-valid"

    def __init__(self) -> None:
        super().__init__(
            "This link does not work, or no longer.",
            remedy="Ask an administrator for a new one; for the first set-up start the server again.",
        )


def new_link(purpose: Purpose, at_us: int) -> Link:
    return Link(random_word(), at_us + VALID_S[purpose] * _S)


def put_link(organization_id: int, account_id: int | None, purpose: Purpose, link: Link) -> Work[None]:
    """The account's earlier links work no longer."""
    if account_id is None:
        yield queries.FORGET_SETUP_LINKS(organization_id=organization_id)
    else:
        yield queries.FORGET_LINKS(organization_id=organization_id, account_id=account_id)
    yield queries.PUT_LINK(
        organization_id=organization_id,
        account_id=account_id,
        purpose=purpose,
        token_hash=hash_of(link.token),
        expires_at_us=link.expires_at_us,
    )


def found_link(token: str, at_us: int) -> Work[Row]:
    """Which organisation and account it is for; it stays unused. Raises LinkUsedUp."""
    rows = yield queries.FIND_LINK(token_hash=hash_of(token), now_us=at_us)
    if not rows:
        raise LinkUsedUp
    return rows[0]


def use_link(organization_id: int, token: str, at_us: int) -> Work[Row]:
    """Raises LinkUsedUp."""
    rows = yield queries.USE_LINK(token_hash=hash_of(token), now_us=at_us)
    if not rows or rows[0]["organization_id"] != organization_id:
        raise LinkUsedUp
    return rows[0]
