"""When a scene was acquired: as told, by its tags, or by the name that its provider gave it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

from geosegsr.errors import ConfigError
from geosegsr.raster.products import container_of

# Tags that may hold the time of acquisition; the first that does counts. TIFF's own tag is last: it may be the time of the
# file.
_TIME_TAGS = (
    "IMAGERY.ACQUISITIONDATETIME", "ACQUISITIONDATETIME", "SENSING_TIME", "DATATAKE_1_DATATAKE_SENSING_START",
    "PRODUCT_START_TIME", "DATE_ACQUIRED", "ACQUISITION_DATE", "EXIF_DateTimeOriginal", "TIFFTAG_DATETIME",
)  # fmt: skip
_TIFF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) ")
_DAY, _CLOCK = r"(20\d\d[01]\d[0-3]\d|19[789]\d[01]\d[0-3]\d)", r"([0-2]\d[0-5]\d[0-5]\d)"
_NAMES = (
    # Sentinel-2: S2B_MSIL2A_20240501T101559_N0510_..., and images in it: T33UUB_20240501T101559_B02
    re.compile(rf"(?:^|_)(?:S2[A-D]_\w+?|T\d\d[A-Z]{{3}})_{_DAY}T{_CLOCK}(?:_|\.|$)"),
    # Landsat collections: LC08_L2SP_191027_20240501_20240509_02_T1
    re.compile(rf"(?:^|_)L[COTEM]\d\d_\w{{4}}_\d{{6}}_{_DAY}_()"),
    # PlanetScope and SkySat: 20240501_101559_22_2465_3B_AnalyticMS, 20240501_101559_ssc1_u0001
    re.compile(rf"^{_DAY}_{_CLOCK}_"),
)
_OLD_LANDSAT = re.compile(r"^L[COTEM]\d{7}\d{0,1}(\d{4})(\d{3})[A-Z]{3}\d\d")
"""Scene identifiers of Landsat before its collections: LC81910272014122LGN00, with the day of the year."""
_ONE_PASS = timedelta(hours=12)
"""Images further apart in time were not acquired together; a pass may cross midnight in UTC."""
_NAMED = 3
"""Names that are listed with each date."""


@dataclass(frozen=True)
class Acquired:
    """When a scene was acquired: a moment, or an interval."""

    start: datetime
    """In UTC."""
    end: datetime
    """The same where the moment is known."""

    @classmethod
    def parse(cls, text: str) -> Acquired:
        """From "2024-05-01T10:20:30Z" or "2024-05-01/2024-05-31"; without a zone it is UTC.

        Raises:
            ConfigError: The text is neither.
        """
        start, _, end = text.partition("/")
        moments = _moment(start), _moment(end or start)
        if moments[0] is None or moments[1] is None or moments[0] > moments[1]:
            raise ConfigError(
                f"Cannot use '{text}' as the time of a scene. Pass --datetime 2024-05-01T10:20:30Z, "
                "or two times with a slash between them."
            )
        return cls(moments[0], moments[1])

    @classmethod
    def of(cls, tags: Mapping[str, str], source: str) -> Acquired:
        """What the tags of a scene say, or else its name.

        Raises:
            ConfigError: Neither says when.
        """
        found = cls.of_tags(tags) or cls.of_name(source)
        if found is None:
            raise ConfigError(
                f"Cannot write a STAC item about '{source}': neither its tags nor its name say when it was acquired. "
                "Pass --datetime TIME, such as 2024-05-01, or a start and an end with a slash between them."
            )
        return found

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Acquired | None:
        """The time in a file's tags; None if they hold none."""
        for name in _TIME_TAGS:
            text = tags.get(name, "").strip()
            if name == "DATE_ACQUIRED":
                text += f"T{tags.get('SCENE_CENTER_TIME', '00:00:00')}"
            moment = _moment(re.split(r"[;,]", text)[0])
            if moment is not None:
                return cls(moment, moment)
        return None

    @classmethod
    def of_name(cls, source: str) -> Acquired | None:
        """The time in the name of a file, or of a folder that holds it, as Sentinel-2, Landsat and Planet name theirs.

        A name with a day alone gives the whole day.
        """
        for name in reversed(PurePath(container_of(source)).parts):
            for pattern in _NAMES:
                if match := pattern.search(name):
                    return cls._of_day(*match.groups())
            if match := _OLD_LANDSAT.match(name):
                first = datetime(int(match[1]), 1, 1, tzinfo=UTC)
                return cls._of_day(f"{first + timedelta(days=int(match[2]) - 1):%Y%m%d}", "")
        return None

    @classmethod
    def _of_day(cls, day: str, clock: str) -> Acquired | None:
        moment = _moment(f"{day}T{clock or '000000'}")
        if moment is None:
            return None
        return cls(moment, moment if clock else moment + timedelta(days=1, seconds=-1))


def several_dates(named: Iterable[tuple[str, Acquired]]) -> str | None:
    """What was acquired when: "2024-05-01 (a.tif, b.tif), 2024-06-10 (c.tif)"; None if all were acquired together.

    Args:
        named: What a user knows each image by, and its time.
    """
    passes: list[list[tuple[str, Acquired]]] = []
    for name, acquired in sorted(set(named), key=lambda item: (item[1].start, item[0])):
        if not passes or acquired.start - max(other.end for _, other in passes[-1]) > _ONE_PASS:
            passes.append([])
        passes[-1].append((name, acquired))
    if len(passes) < 2:
        return None
    listed = []
    for together in passes:
        names = sorted({name for name, _ in together})
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        listed.append(f"{together[0][1].start:%Y-%m-%d} ({', '.join(names[:_NAMED])}{more})")
    return ", ".join(listed)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(_TIFF_TIME.sub(r"\1-\2-\3 ", text.strip()))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it is before the year 1 or after 9999
        return None
