"""Do the certificates work, and for how much longer?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from isocenter.cli.doctor.findings import Finding, bad, good
from isocenter.cli.tls import doors_with_tls
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import Settings
from isocenter.platform.tls import dicom_profile
from isocenter.platform.tls.certificates import facts_of, problems_of, read_chain
from isocenter.platform.tls.profiles import DicomProfile

_REMEDY = "Put a good certificate and its key in their place; the server takes them up within a minute."


def certificates(settings: Settings) -> Iterator[Finding]:
    """One finding a problem; those that expire within 30 days are named too."""
    for door, files in doors_with_tls(settings):
        name = f"{door} TLS"
        try:
            problems = problems_of(files, datetime.now(UTC))
            if not problems:
                dicom_profile(DicomProfile.BCP195).loaded(files)  # as the server will
        except InvalidInput as error:
            yield bad(name, error.detail, error.remedy)
            continue
        if not problems:
            expires = facts_of(read_chain(files.certificate)[0]).expires
            yield good(name, f"The certificate and its key fit together; valid until {expires:%Y-%m-%d}.")
        for problem in problems:
            yield bad(name, problem, _REMEDY)
