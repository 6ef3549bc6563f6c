"""Who may call, and who tried."""

from __future__ import annotations

import sqlalchemy as sa

from isocenter.platform.db.types import (
    BigInt,
    Flag,
    Text,
    count,
    instant,
    metadata,
    organization,
    primary_key,
    text,
)

ae_title = sa.Table(
    "ae_title",
    metadata,
    primary_key(),
    organization(),
    sa.Column("title", Text, nullable=False),
    text("host"),  # the address or network it may call from; empty: any
    sa.Column("services", Text, nullable=False, server_default="store,find,move,get,commit,worklist"),
    text("certificate"),  # a name or fingerprint that the peer's must have; empty: none is asked for
    text("description"),
    instant("created_at_us"),
    sa.Column("last_seen_at_us", BigInt),
    text("last_seen_host"),
    sa.UniqueConstraint("title", "host"),  # whose scanner it is must be one organisation's alone
    sa.Index(None, "organization_id", "title"),
)

ae_destination = sa.Table(  # where a title is reached: to it objects are sent, and reports
    "ae_destination",
    metadata,
    primary_key(),
    organization(),
    sa.Column("title", Text, nullable=False),
    sa.Column("address", Text, nullable=False),  # a host's name or address
    sa.Column("port", BigInt, nullable=False),
    sa.Column("tls", Flag, nullable=False, server_default="0"),
    text("tls_name"),  # in its certificate; empty: the address
    text("transfer_syntaxes"),  # UIDs it likes best, separated by commas; empty: each object in its own
    sa.Column("associations_max", BigInt, nullable=False, server_default="4"),
    sa.Column("availability_after_s", BigInt),  # tell it of studies that rest so long; NULL: never
    text("description"),
    instant("created_at_us"),
    sa.UniqueConstraint("organization_id", "title"),
)

refused_association = sa.Table(
    "refused_association",
    metadata,
    primary_key(),
    organization(),
    sa.Column("calling_ae_title", Text, nullable=False),
    sa.Column("peer_host", Text, nullable=False),
    text("called_ae_title"),
    text("reason"),
    text("certificate"),  # the fingerprint of the one that it showed
    count("times"),
    instant("first_at_us"),
    instant("last_at_us"),
    sa.UniqueConstraint("organization_id", "calling_ae_title", "peer_host"),
)
