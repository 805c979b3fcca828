"""Stores by their address. What talks to them is loaded here, by whoever uses one."""

from __future__ import annotations

from functools import lru_cache

from geosegsr.errors import require
from geosegsr.stores.address import Address
from geosegsr.stores.contract import Store


def open_store(address: Address) -> Store:
    """The store that an address is in; one for all threads, with the credentials of the environment.

    No request is sent yet.

    Raises:
        ConfigError: The extra geosegsr[cloud] is not installed, or the environment's settings do not fit together.
    """
    return _opened(address.scheme, address.bucket)


@lru_cache(maxsize=16)
def _opened(scheme: str, bucket: str) -> Store:
    if scheme == "s3":
        require("cloud", f"use '{scheme}://{bucket}'", "boto3")
        from geosegsr.stores.s3 import S3Store

        return S3Store.open(bucket)
    require("cloud", f"use '{scheme}://{bucket}'", "obstore")
    from geosegsr.stores.others import open_other

    return open_other(scheme, bucket)


def forget_stores() -> None:
    """Have stores opened anew, with the credentials that the environment has by then."""
    _opened.cache_clear()
