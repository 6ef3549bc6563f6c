"""Can people use passkeys here, and where? Browsers decide that by the name and scheme of the page."""

from __future__ import annotations

from collections.abc import Iterator

from isocenter.cli.doctor.findings import Finding, good, unknown
from isocenter.platform.settings import Settings
from isocenter.platform.settings.model import is_loopback

_NAME_IT = "Set public_url to the https:// address, with a name, that people open."


def passkeys(settings: Settings) -> Iterator[Finding]:
    """No illness where there are none: passwords and codes of an app do without."""
    if settings.auth == "off":
        return
    domain, origins = settings.relying_party
    if not domain:
        yield unknown(
            "passkeys",
            f"Browsers offer none for {settings.public_url_or_default}: they ask for a name and HTTPS.",
            _NAME_IT,
        )
    elif domain == "localhost" and not is_loopback(settings.bind):
        yield unknown(
            "passkeys", "They belong to localhost: only browsers of this machine have any.", _NAME_IT
        )
    else:
        yield good("passkeys", f"They belong to {domain} and work on pages of {', '.join(origins)}.")
