"""How GDAL reaches object stores where the clouds' own tools have settings that it does not know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit


def store_options(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """GDAL's options for what AWS_ENDPOINT_URL, AWS_REGION and AZURE_STORAGE_ACCOUNT_NAME say.

    An endpoint is addressed by paths: servers at home seldom have a name for each bucket.

    Args:
        environment: The variables.
    """
    options: dict[str, str] = {}
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint and "AWS_S3_ENDPOINT" not in environment:
        found = urlsplit(endpoint)
        options["AWS_S3_ENDPOINT"] = found.netloc.rpartition("@")[2] + found.path.rstrip("/")
        options["AWS_HTTPS"] = "NO" if found.scheme == "http" else "YES"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    for name, other in (
        ("AWS_REGION", "AWS_DEFAULT_REGION"),
        ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
    ):
        if name not in environment and other in environment:
            options[name] = environment[other]
    return options
