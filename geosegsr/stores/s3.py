"""S3, and servers that speak its protocol, by boto3.

boto3 finds credentials, region and endpoint as the AWS command line does. It has what other clients lack: uploads that are
completed only where there is no object.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NotConnected

from geosegsr.errors import ConfigError, ObjectExistsError, ObjectMissingError, StoreError
from geosegsr.stores import patience
from geosegsr.stores.contract import Entry
from geosegsr.stores.reasons import refused, unreachable

T = TypeVar("T")

_CONNECTIONS = 16
_PASSING = {408, 429, 500, 502, 503, 504}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_ABSENT = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}


class S3Store:
    """A bucket; see `geosegsr.stores.contract.Store`."""

    def __init__(self, client: Any, bucket: str, session: Session | None = None) -> None:
        self.client, self.bucket, self._session = client, bucket, session
        self._answers = False
        self.address = f"s3://{bucket}"

    @classmethod
    def open(cls, bucket: str) -> S3Store:
        """The bucket of that name, by the environment and the profiles of AWS.

        Raises:
            ConfigError: The profile does not exist, or settings do not fit together.
        """
        try:
            session = Session()
            region = session.region_name or "us-east-1"
            return cls(session.client("s3", region_name=region, config=_config(session)), bucket, session)
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(
                f"Cannot use 's3://{bucket}': AWS's settings in the environment or in ~/.aws do not work "
                f"({type(error).__name__}). Check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL."
            ) from None

    def gdal_options(self) -> dict[str, str]:
        endpoint = urlsplit(self.client.meta.endpoint_url)
        options = {"AWS_REGION": str(self.client.meta.region_name)}
        if not (endpoint.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            options["AWS_S3_ENDPOINT"] = endpoint.netloc.rpartition("@")[2] + endpoint.path.rstrip("/")
            options["AWS_HTTPS"] = "NO" if endpoint.scheme == "http" else "YES"
            options["AWS_VIRTUAL_HOSTING"] = "FALSE"
        found = None
        with suppress(BotoCoreError):
            found = None if self._session is None else self._session.get_credentials()
        if found is None:
            return options
        keys = found.get_frozen_credentials()
        options |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
        return options | ({"AWS_SESSION_TOKEN": keys.token} if keys.token else {})

    def head(self, key: str) -> Entry | None:
        try:
            found = self._call("head_object", key, "read")
        except ObjectMissingError:
            return None
        return Entry(key, found["ContentLength"], found["ETag"].strip('"'))

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            return b""
        end = "" if stop is None else stop - 1
        part = {} if (start, stop) == (0, None) else {"Range": f"bytes={start}-{end}"}

        def read(tried: int) -> bytes:
            content: bytes = self._request("get_object", key, **part)["Body"].read()
            return content

        return self._patiently(read, key, "read")

    def put(
        self, key: str, data: bytes, *, new: bool = False, replaces: str | None = None, kind: str = ""
    ) -> str:
        unless: dict[str, str] = {"IfNoneMatch": "*"} if new else {}
        if replaces is not None:
            unless = {"IfMatch": f'"{replaces}"'}

        def write(tried: int) -> str:
            try:
                answer = self._request(
                    "put_object", key, Body=data, ContentMD5=_md5(data), **_typed(kind), **unless
                )
            except ClientError as error:
                # The answer to an earlier try may have been lost.
                mine = self._by_earlier_try(error, tried, key, data) if unless else None
                if mine is None:
                    raise
                return mine
            return str(answer["ETag"]).strip('"')

        return self._patiently(write, key, "write")

    def list(self, prefix: str = "") -> Iterator[Entry]:
        more: dict[str, str] = {}
        while True:
            found = self._call("list_objects_v2", None, "list", Prefix=prefix, **more)
            for entry in found.get("Contents", ()):
                yield Entry(entry["Key"], entry["Size"], entry["ETag"].strip('"'))
            if not found.get("IsTruncated"):
                return
            more = {"ContinuationToken": found["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        with suppress(ObjectMissingError):
            self._call("delete_object", key, "delete")

    @contextmanager
    def upload(self, key: str, *, kind: str = "") -> Iterator[S3Upload]:
        begun = self._call("create_multipart_upload", key, "write", **_typed(kind))
        upload = S3Upload(self, key, begun["UploadId"])
        try:
            yield upload
        finally:
            if not upload.completed:
                upload.abort()

    def discard(self, key: str, identity: str) -> None:
        with suppress(ObjectMissingError):
            self._call("abort_multipart_upload", key, "write", UploadId=identity)

    def _call(self, operation: str, key: str | None, verb: str, **arguments: Any) -> Any:
        return self._patiently(lambda tried: self._request(operation, key, **arguments), key, verb)

    def _request(self, operation: str, key: str | None, **arguments: Any) -> Any:
        named = {} if key is None else {"Key": key}
        return getattr(self.client, operation)(Bucket=self.bucket, **named, **arguments)

    def _patiently(self, request: Callable[[int], T], key: str | None, verb: str) -> T:
        """Repeat a request as long as that may help; foreign errors become ours, without what they say."""
        address = self.address if key is None else f"{self.address}/{key}"
        try:
            longest = patience.PATIENCE_S if self._answers else patience.AT_FIRST_S
            answer = patience.patiently(request, _may_pass, patience=longest)
            self._answers = True
            return answer
        except ClientError as error:
            self._answers = True
            code, status = _code(error), _status(error)
            if code in _TAKEN:
                raise ObjectExistsError(
                    f"Cannot write '{address}': another object has that name by now."
                ) from None
            if code in _ABSENT and key is not None:
                raise ObjectMissingError(f"Cannot {verb} '{address}': there is no such object.") from None
            raise refused(verb, address, code, status) from None
        except BotoCoreError as error:
            raise unreachable(verb, address, type(error).__name__) from None

    def _by_earlier_try(self, error: ClientError, tried: int, key: str, data: bytes) -> str | None:
        """The ETag of the object that an earlier try of the same request has made, if one did."""
        repeated = tried or error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        if not repeated or _code(error) not in _TAKEN:
            return None
        found = self._request("get_object", key)
        return str(found["ETag"]).strip('"') if found["Body"].read() == data else None


class S3Upload:
    """A multipart upload; see `geosegsr.stores.contract.Upload`."""

    def __init__(self, store: S3Store, key: str, identity: str) -> None:
        self.identity = identity
        self.completed = False
        self._store, self._key = store, key
        self._parts: dict[int, str] = {}
        self._sums: dict[int, bytes] = {}
        self._lock = Lock()

    def part(self, number: int, data: bytes) -> None:
        answer = self._call("upload_part", PartNumber=number, Body=data, ContentMD5=_md5(data))
        with self._lock:
            self._parts[number] = answer["ETag"]
            self._sums[number] = _digest(data)

    def complete(self, *, new: bool = False) -> bool:
        parts = [{"PartNumber": number, "ETag": self._parts[number]} for number in sorted(self._parts)]
        unless = {"IfNoneMatch": "*"} if new else {}
        arguments: dict[str, Any] = {"UploadId": self.identity, "MultipartUpload": {"Parts": parts}, **unless}

        def finish(tried: int) -> str:
            try:
                answer = self._store._request("complete_multipart_upload", self._key, **arguments)
            except ClientError as error:
                if new and _code(error) == "NotImplemented" and arguments.pop("IfNoneMatch", None):
                    self._check_free()
                    return finish(tried)
                if not (tried and _code(error) == "NoSuchUpload"):
                    raise
                # The answer to an earlier try was lost.
                answer = self._store._request("head_object", self._key)
            return str(answer["ETag"]).strip('"')

        etag = self._store._patiently(finish, self._key, "write")
        self.completed = True
        return etag == self._etag()

    def abort(self) -> None:
        """Discard what was uploaded; the store is asked twice, because a part may still be on its way."""
        for _ in range(2):
            with suppress(StoreError, ClientError, BotoCoreError):
                self._store._request("abort_multipart_upload", self._key, UploadId=self.identity)

    def _check_free(self) -> None:
        """What is left where the server knows no conditions."""
        if self._store.head(self._key) is not None:
            raise ObjectExistsError(
                f"Cannot write '{self._store.address}/{self._key}': another object has that name by now."
            )

    def _etag(self) -> str:
        """What S3 calls an object of these parts, unless it encrypts it with a key of its own."""
        joined = b"".join(self._sums[number] for number in sorted(self._sums))
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self._sums)}"

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self._store._call(operation, self._key, "write", UploadId=self.identity, **arguments)


def _config(session: Session) -> Config:
    """What boto3 is told unless the environment or the profile says it."""
    profile = session._session.get_scoped_config()

    def told(name: str) -> bool:
        return name.upper() in os.environ or name.removeprefix("aws_") in profile

    chosen: dict[str, Any] = {"max_pool_connections": _CONNECTIONS, "connect_timeout": 10, "read_timeout": 60}
    if not (told("aws_retry_mode") or told("aws_max_attempts")):
        chosen["retries"] = {"mode": "standard", "total_max_attempts": 4}
    # Many servers that speak S3's protocol know no other checksum than MD5, which is sent with every object and part.
    if not told("aws_request_checksum_calculation"):
        chosen["request_checksum_calculation"] = "when_required"
    if not told("aws_response_checksum_validation"):
        chosen["response_checksum_validation"] = "when_required"
    return Config(**chosen)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return _status(error) in _PASSING or _code(error) in {"SlowDown", "RequestTimeout"}
    lost = isinstance(error, (NotConnected, HTTPClientError, ResponseStreamingError))
    return lost and not isinstance(error, SSLError)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _typed(kind: str) -> dict[str, str]:
    return {"ContentType": kind} if kind else {}


def _digest(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _md5(data: bytes) -> str:
    return b64encode(_digest(data)).decode()
