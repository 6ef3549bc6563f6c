"""What an object store's refusals mean to somebody who runs an archive."""

from __future__ import annotations

from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable

DETAIL_CHARACTERS_MAX = 300

# obstore has a class for "not found" and raises the built-in one (seen with 0.12); reading the file that
# it uploads raises other OSErrors.
ANY_FAILURE = (BaseError, OSError)
MISSING = (NotFoundError, FileNotFoundError)

# What the services answer when a quota is used up (S3 and MinIO, Ceph, Azure) and HTTP's own word for it.
_FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "AccountQuota", "507 ")
_CLOCK = ("RequestTimeTooSkewed",)
_KEYS = (
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "AuthenticationFailed",
    "InvalidToken",
    "ExpiredToken",
)


def bucket_error(error: BaseException, doing: str) -> IsocenterError:
    """The typed error for one of obstore's (or of reading the file that it was to upload)."""
    text = " ".join(str(error).partition("Debug source:")[0].split())
    detail = f"{doing} failed: {text[:DETAIL_CHARACTERS_MAX]}"
    if any(sign in text for sign in _FULL):
        return OutOfSpace(detail, remedy="Raise the quota of the bucket or of its owner, or free space.")
    if any(sign in text for sign in _CLOCK):
        return _refused(detail, "This machine's clock is off: synchronise it (`timedatectl set-ntp true`).")
    if any(sign in text for sign in _KEYS) or isinstance(error, UnauthenticatedError):
        return _refused(detail, "The object store does not accept these keys: check access key and secret.")
    if isinstance(error, PermissionDeniedError):
        return _refused(detail, "Allow this account to get, put, list and delete objects in that bucket.")
    if isinstance(error, MISSING):
        return _refused(detail, "The bucket does not exist: make it, or correct the storage URL.")
    return Unavailable(
        detail,
        code="storage-unavailable",
        remedy="See whether the object store runs and whether its endpoint is right and reachable from here.",
        retry_after_s=10,
    )


def _refused(detail: str, remedy: str) -> Unavailable:
    return Unavailable(detail, code="storage-refused", remedy=remedy, retry_after_s=60)
