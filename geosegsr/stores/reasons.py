"""Why a store did not do something, in our words: what stores say may hold names of accounts, keys and signatures."""

from __future__ import annotations

import re

from geosegsr.errors import StoreError

_KNOWN = {
    "AccessDenied": ("the credentials do not allow it", "Check the rights on the bucket, and the credentials."),
    "NoSuchBucket": ("there is no such bucket", "Check its name, and the endpoint."),
    "InvalidAccessKeyId": ("the store does not know the access key", "Check the credentials."),
    "SignatureDoesNotMatch": ("the secret key is wrong", "Check the credentials."),
    "ExpiredToken": ("the credentials have expired", "Renew them, and repeat the same command."),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "Set the clock, and repeat the same command."),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "Set AWS_REGION to it."),
    "NotImplemented": ("the store does not know this request", "Use another store, or a local path."),
    "EntityTooLarge": ("it is too large for the store", "Pass a local path."),
    "NoCredentialsError": ("there are no credentials", "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
    "PartialCredentialsError": ("the credentials are incomplete", "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
    "UnauthorizedSSOTokenError": ("the login has expired", "Run 'aws sso login', and repeat the same command."),
    "SSOTokenLoadError": ("there is no login", "Run 'aws sso login', and repeat the same command."),
}  # fmt: skip
_BY_STATUS = {401: "ExpiredToken", 403: "AccessDenied"}
_WORD = re.compile(r"[A-Za-z]{1,60}")
_LATER = "Check the address, the credentials and the connection, and repeat the same command."


def refused(verb: str, address: str, code: str, status: int = 0) -> StoreError:
    """The error of a store that says no, or that is too busy for minutes.

    Args:
        verb: What was tried: "read", "write", "list", "delete".
        address: The object or the bucket.
        code: The store's word for it, such as "AccessDenied".
        status: Of HTTP, where it is known.
    """
    known = _KNOWN.get(code) or _KNOWN.get(_BY_STATUS.get(status, ""))
    if known is None:
        busy = status == 429 or status >= 500
        word = code if _WORD.fullmatch(code) else f"HTTP status {status}"
        known = (
            (f"the store is busy or fails ({word})", "Repeat the same command later.")
            if busy
            else (f"the store refuses it ({word})", "Check the address and the credentials.")
        )
    return StoreError(f"Cannot {verb} '{address}': {known[0]}. {known[1]}")


def unreachable(verb: str, address: str, kind: str) -> StoreError:
    """The error of a store that gives no answer, or to which no request could be sent.

    Args:
        verb: As above.
        address: As above.
        kind: The type of the client's error.
    """
    reason, advice = _KNOWN.get(kind) or (f"the store gives no answer ({kind})", _LATER)
    return StoreError(f"Cannot {verb} '{address}': {reason}. {advice}")
