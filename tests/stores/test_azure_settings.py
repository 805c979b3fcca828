"""Variables of Azure's tools, and what obstore and GDAL make of them."""

from __future__ import annotations

import pytest

from geosegsr.raster.store_options import store_options

pytest.importorskip("obstore")
from geosegsr.stores.others import azure_settings, open_other


def test_a_connection_string_says_all() -> None:
    text = (
        "DefaultEndpointsProtocol=http;AccountName=me;AccountKey=abc/+==;BlobEndpoint=http://127.0.0.1:1/me/;"
    )
    assert azure_settings({"AZURE_STORAGE_CONNECTION_STRING": text}) == {
        "account_name": "me", "account_key": "abc/+==", "endpoint": "http://127.0.0.1:1/me",
    }  # fmt: skip


def test_the_account_has_two_names() -> None:
    assert azure_settings({"AZURE_STORAGE_ACCOUNT": "me"}) == {"account_name": "me"}
    assert store_options({"AZURE_STORAGE_ACCOUNT_NAME": "me"}) == {"AZURE_STORAGE_ACCOUNT": "me"}


@pytest.mark.parametrize(
    ("endpoint", "host", "https"),
    [("http://minio:9000", "minio:9000", "NO"), ("https://u:p@s3.example.org/", "s3.example.org", "YES")],
)
def test_gdal_learns_of_the_endpoint(endpoint: str, host: str, https: str) -> None:
    options = {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": https, "AWS_VIRTUAL_HOSTING": "FALSE"}
    assert store_options({"AWS_ENDPOINT_URL": endpoint}) == options
    assert store_options({"AWS_ENDPOINT_URL": "http://other", "AWS_ENDPOINT_URL_S3": endpoint}) == options
    assert store_options({"AWS_ENDPOINT_URL": endpoint, "AWS_S3_ENDPOINT": "own"}) == {}


def test_googles_store_opens_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert open_other("gs", "bucket").address == "gs://bucket"
