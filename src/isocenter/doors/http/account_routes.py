"""Every route of ``features/accounts``."""

from __future__ import annotations

from fastapi import APIRouter

from isocenter.doors.http.api_key_routes import api_key_router
from isocenter.doors.http.auth_routes import auth_router
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.identity_provider_routes import identity_provider_router, identity_router
from isocenter.doors.http.me_routes import me_router, own_auth_router
from isocenter.doors.http.openid_routes import openid_router, own_openid_router
from isocenter.doors.http.organization_routes import organization_router, own_organization_router
from isocenter.doors.http.passkey_routes import (
    my_passkey_router,
    own_passkey_router,
    passkey_login_router,
)
from isocenter.doors.http.user_routes import user_router
from isocenter.features.accounts.opening import Accounts
from isocenter.features.archive.holdings import Holdings


def account_routers(
    accounts: Accounts, gate: Gate, holdings: Holdings, *, https: bool = False
) -> tuple[APIRouter, ...]:
    """``https``: browsers reach us by it."""
    return (
        auth_router(accounts, https=https),
        own_auth_router(accounts, gate),
        me_router(accounts, gate),
        passkey_login_router(accounts, https=https),
        own_passkey_router(accounts, gate),
        my_passkey_router(accounts, gate),
        user_router(accounts, gate),
        api_key_router(accounts, gate),
        own_organization_router(accounts, gate, holdings),
        organization_router(accounts, gate, holdings),
        openid_router(accounts, https=https),
        own_openid_router(accounts, gate, https=https),
        identity_provider_router(accounts, gate),
        identity_router(accounts, gate),
    )
