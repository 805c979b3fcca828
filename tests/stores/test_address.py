from __future__ import annotations

from pathlib import Path

import pytest

from geosegsr.errors import ConfigError
from geosegsr.stores.address import Address, is_in_store


@pytest.mark.parametrize(
    ("text", "url", "gdal"),
    [
        ("s3://b/k/x.tif", "s3://b/k/x.tif", "/vsis3/b/k/x.tif"),
        ("gs://b/x.tif", "gs://b/x.tif", "/vsigs/b/x.tif"),
        ("az://c/x.tif", "az://c/x.tif", "/vsiaz/c/x.tif"),
        ("/vsis3/b/k/x.tif", "s3://b/k/x.tif", "/vsis3/b/k/x.tif"),
        (str(Path("s3://b/k/x.tif")), "s3://b/k/x.tif", "/vsis3/b/k/x.tif"),
        ("s3://b/k/", "s3://b/k/", "/vsis3/b/k/"),
        ("s3://b", "s3://b/", "/vsis3/b/"),
    ],
)
def test_an_address_has_a_url_and_a_name_of_gdals(text: str, url: str, gdal: str) -> None:
    address = Address.parse(text)
    assert (str(address), address.gdal) == (url, gdal)
    assert Address.parse(str(address)) == Address.parse(address.gdal) == address
    assert is_in_store(text)


@pytest.mark.parametrize(
    "text", ["x.tif", "http://a/x.tif", "s3x://b/k", "a/s3://b/k", "/vsicurl/http://a", ""]
)
def test_other_names_are_not_in_a_store(text: str) -> None:
    assert not is_in_store(text)
    with pytest.raises(ConfigError, match="Pass s3://"):
        Address.parse(text)


@pytest.mark.parametrize(
    "key", ["a//b", "/a", "../a", "a/./b", "a/..", "a?versionId=3", "a#b", "a\nb", "a//", "."]
)
def test_a_key_that_a_store_or_gdal_reads_otherwise_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="another key"):
        Address.parse(f"s3://b/{key}")


def test_names_beside_and_below() -> None:
    at = Address.parse("s3://b/k/x.tif")
    assert str(at.beside("x.json")) == "s3://b/k/x.json"
    assert str(Address.parse("s3://b/x.tif").beside("y")) == "s3://b/y"
    assert str(Address.parse("s3://b/k/") / "x") == str(Address.parse("s3://b/k") / "x") == "s3://b/k/x"
    assert str(Address.parse("s3://b") / "x") == "s3://b/x"
    assert at.name == "x.tif"
