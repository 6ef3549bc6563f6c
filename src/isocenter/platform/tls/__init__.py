"""Certificates and the TLS contexts of both doors."""

from isocenter.platform.tls.calling import CallingTls
from isocenter.platform.tls.endpoint import TlsEndpoint
from isocenter.platform.tls.profiles import DicomProfile, Profile, TlsFiles, dicom_profile, https_profile

__all__ = [
    "CallingTls",
    "DicomProfile",
    "Profile",
    "TlsEndpoint",
    "TlsFiles",
    "dicom_profile",
    "https_profile",
]
