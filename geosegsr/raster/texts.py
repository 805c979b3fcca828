"""Names, units and tags of a raster. GDAL hands on what a file holds; what is not UTF-8 cannot be read through rasterio."""

from __future__ import annotations

from typing import Any

from geosegsr.notices import warn
from geosegsr.raster.metadata import is_outdated

# Domains that describe the file's encoding or pixel grid, which change, or that are read elsewhere.
_OWN_DOMAINS = {
    "COLOR_PROFILE", "DERIVED_SUBDATASETS", "GEOLOCATION", "IMAGE_STRUCTURE", "RPC", "SUBDATASETS", "rio_creation_kwds",
}  # fmt: skip


def band_names(source: Any, path: str) -> tuple[str | None, ...]:
    """The name of each band; None for all, with a warning, if one is not UTF-8.

    Args:
        source: Rasterio's dataset.
        path: What messages call it.
    """
    try:
        return tuple(source.descriptions)
    except UnicodeDecodeError:
        return _without("names", source, path)


def band_units(source: Any, path: str) -> tuple[str | None, ...]:
    """The unit of each band's values; as `band_names`."""
    try:
        return tuple(source.units)
    except UnicodeDecodeError:
        return _without("units", source, path)


def _without(what: str, source: Any, path: str) -> tuple[None, ...]:
    warn(f"'{path}': the {what} of its bands are left out, because they are not UTF-8 text")
    return tuple(None for _ in source.indexes)


def tags_of(source: Any, band: int, path: str) -> dict[str, str]:
    """Tags of the default domain, and those of others as "domain.key": a copy into a COG loses other domains.

    What no longer holds on another grid is left out, documents (xml:XMP and the like) are no tags, and a TIFF keeps neither empty
    values nor white space before others. If the name of a domain is not UTF-8, only the default domain is read, with a warning.

    Args:
        source: Rasterio's dataset.
        band: 1-based, or 0 for the tags of the whole raster.
        path: What messages call it.
    """
    tags = dict(source.tags(band))
    try:
        domains = source.tag_namespaces(band)
    except UnicodeDecodeError:
        warn(
            f"'{path}': tags outside the default domain are left out, because a domain's name is not UTF-8 text"
        )
        domains = []
    for domain in domains:
        if domain and domain not in _OWN_DOMAINS and not domain.startswith(("xml:", "json:")):
            tags.update({f"{domain}.{key}": value for key, value in source.tags(band, ns=domain).items()})
    return {key: value.lstrip() for key, value in tags.items() if value.strip() and not is_outdated(key)}
