"""What goes wrong is said in one line, with the right exit code, and leaves no file that looks finished."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, assert_refused, run, run_here, run_in_shell

import geosegsr
from geosegsr.errors import SceneError, VerificationError

RUN = import_module("geosegsr.pipeline.run")
"""Where tests replace the steps of a run."""
Run = Callable[..., Outcome]
SMALL_BLOCKS = ("--tile", 32, "--overlap", 8, "--block", 96)
TRIANGLE = "POLYGON ((463300 5426300, 463500 5426300, 463500 5426100, 463300 5426300))"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_plain(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where results go; empty."""
    path = tmp_path / "results"
    path.mkdir()
    return path


@pytest.fixture
def upscale(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs upscale on a scene, to out.tif in the results' folder unless told otherwise."""

    def call(source: object, *args: object, output: object = folder / "out.tif") -> Outcome:
        return run_here(capfd, "upscale", source, "-o", output, *args)

    return call


def left_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write_mixed_dtypes(path: Path) -> Path:
    """A VRT of two bands, the second of another dtype."""
    source = factory.write_plain(path.with_suffix(".tif"), count=1)
    height, width = factory.SIZE
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">'
        f"{source.name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, kind in ((1, "UInt16"), (2, "Float32"))
    )
    path = path.with_suffix(".vrt")
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>')
    return path


def write_masks_of_bands(path: Path) -> Path:
    """A VRT of two bands, each with a mask of its own."""
    source = factory.write_plain(path.with_suffix(".tif"), count=2, dtype="uint8")
    height, width = factory.SIZE
    part = f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>'
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">{part}{band}</SourceBand></SimpleSource>'
        f'<MaskBand><VRTRasterBand dataType="Byte">{part}{band}</SourceBand></SimpleSource></VRTRasterBand></MaskBand>'
        "</VRTRasterBand>"
        for band in (1, 2)
    )
    path = path.with_suffix(".vrt")
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>')
    return path


def write_only_subdatasets(path: Path) -> Path:
    """A GeoPackage of two rasters, with none of its own."""
    path = path.with_suffix(".gpkg")
    for name in ("first", "second"):
        with rasterio.open(
            path, "w", driver="GPKG", count=1, height=16, width=16, dtype="uint8", crs="EPSG:3857",
            transform=rasterio.Affine(10, 0, 0, 0, -10, 0), RASTER_TABLE=name,
            APPEND_SUBDATASET="NO" if name == "first" else "YES",
        ) as target:  # fmt: skip
            target.write(np.full((1, 16, 16), 7, np.uint8))
    return path


def write_text(path: Path) -> Path:
    path.write_text("no raster")
    return path


def write_web_page(path: Path) -> Path:
    path.write_text("\n<!DOCTYPE html><html><body>Please log in</body></html>")
    return path


def write_pointer(path: Path) -> Path:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    return path


def write_nothing(path: Path) -> Path:
    return path


def write_empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    ("write", "parts"),
    [
        (write_nothing, ["no such file", "Check the path"]),
        (write_text, ["as a raster", "not recognized"]),
        (write_empty, ["as a raster"]),
        (write_web_page, ["not recognized", "web page", "login"]),
        (write_pointer, ["not recognized", "git lfs pull"]),
        (factory.write_truncated, ["at rows 0-256, columns 0-256", "damaged, incomplete", "copy it again"]),
        (factory.write_palette, ["colour table", "gdal_translate -expand rgb"]),
        (factory.write_complex, ["complex64", "Convert it to real numbers"]),
        (write_only_subdatasets, ["2 subdatasets", "first", "second"]),
        (factory.write_bandwise_nodata, ["0.0, 65535.0", "--nodata V"]),
        (write_mixed_dtypes, ["float32, uint16", "--bands"]),
        (write_masks_of_bands, ["its own mask", "gdal_translate -mask mask,1"]),
    ],
)
def test_a_source_that_cannot_be_upscaled(
    write: Callable[[Path], Path], parts: list[str], tmp_path: Path, folder: Path, upscale: Run
) -> None:
    source = write(tmp_path / "source.tif")
    assert_refused(upscale(source), 1, f"'{source}'", *parts)
    assert left_in(folder) == []


def test_an_unreachable_source(folder: Path, upscale: Run) -> None:
    source = "/vsicurl/http://127.0.0.1:9/scene.tif"
    assert_refused(upscale(source), 1, f"'{source}'", "127.0.0.1")
    assert left_in(folder) == []


@pytest.mark.parametrize(
    ("write", "extra", "warning"),
    [
        (factory.write_no_crs, (), "has no coordinate reference system; neither will the result."),
        (
            factory.write_plain,
            ("--overlap", 0, "--model", "bicubic"),
            "an overlap of 0 is less than the 4 pixels",
        ),
        (factory.write_nir_as_alpha, (), "that is tagged alpha holds more than mask values"),
        (factory.write_subdatasets, (), "holds 2 rasters: the first is used"),
    ],
)
def test_what_only_needs_a_warning(
    write: Callable[[Path], Path],
    extra: tuple[object, ...],
    warning: str,
    tmp_path: Path,
    folder: Path,
    upscale: Run,
) -> None:
    outcome = upscale(write(tmp_path / "source.tif"), *extra)
    assert (outcome.code, outcome.said) == (0, [])
    assert len(outcome.warned) == 1
    assert warning in outcome.warned[0]
    assert left_in(folder) == ["out.tif"]


@pytest.mark.parametrize(
    ("orientation", "placed", "shown"),
    [("6", False, "turned to the right"), ("1", False, ""), ("6", True, "")],
)
def test_a_photo_that_is_shown_turned_is_named(
    orientation: str, placed: bool, shown: str, folder: Path, upscale: Run, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Once by `info` and once by `upscale`; a georeference says where the pixels lie, whatever EXIF says."""
    place = {} if placed else {"crs": None, "transform": None}
    scene = factory.write_plain(tmp_path / "photo.tif", tags={"EXIF_Orientation": orientation}, **place)
    said = run_here(capfd, "info", scene).out
    assert said.count("EXIF orientation") == said.count(f"shown {shown} by") == bool(shown)
    outcome = upscale(scene, "--model", "bicubic")
    assert outcome.code == 0
    warned = [line for line in outcome.warned if "EXIF" in line]
    assert len(warned) == bool(shown) and all(f"is shown {shown} by" in line for line in warned)


USAGE = [
    (["--scale", "0"], ["--scale", "cannot upscale by 0", "2, 3, 4, 8"]),
    (["--scale", "1.5"], ["--scale", "cannot upscale by 1.5", "2, 3, 4, 8"]),
    (["--scale", "5"], ["--scale", "cannot upscale by 5", "2, 3, 4, 8"]),
    (["--scale", "-4"], ["--scale", "cannot upscale by -4"]),
    (["--band-kind", "picture"], ["--band-kind", "'picture' is not of the form BAND=KIND, such as 4=class"]),
    (["--bands", ""], ["--bands", "'' is not a list"]),
    (["--window", 0.5, 0, 1, 1], ["--window", "0.5"]),
    (["--range", 5], ["--range", "requires 2 arguments"]),
    (["--nodata", "x"], ["--nodata", "'x'"]),
    (["--co", "COMPRESS"], ["--co", "KEY=VALUE"]),
    (["--co", "=ZSTD"], ["--co", "KEY=VALUE"]),
    (["--precision", "fp8"], ["--precision", "'fp8'"]),
    (["--frob"], ["--frob"]),
    (["another.tif"], ["Several scenes cannot be written to", "out.tif'", "is not a folder", "out.tif/'"]),
    (["--name", "{stem}.tif"], ["--name", "is not one"]),
    (["--on-error", "stop"], ["--on-error", "is not one"]),
]


@pytest.mark.parametrize(("options", "parts"), USAGE, ids=lambda value: " ".join(map(str, value)))
def test_wrong_usage(
    options: list[object], parts: list[str], scene: Path, folder: Path, upscale: Run
) -> None:
    assert_refused(upscale(scene, *options), 2, *parts, "--help`.")
    assert left_in(folder) == []


BANDS = [
    (["--bands", "a,b"], ["band 'a'", "'{scene}'", "numbers from 1 to 3"]),
    (["--band-kind", "9=class"], ["--band-kind 9=class", "'{scene}'", "1, 2, 3"]),
    (["--bands", "0"], ["band 0", "'{scene}'", "bands 1 to 3"]),
    (["--bands", "9"], ["band 9", "'{scene}'", "bands 1 to 3"]),
    (["--bands", "1,7,8"], ["band 7, 8", "bands 1 to 3"]),
    (["--bands", "1,2,1"], ["'{scene}'", "may be named once", "--bands"]),
    (["--nodata", "-1"], ["nodata -1", "'{scene}'", "uint16", "from 0 to 65535"]),
    (["--nodata", "1.5"], ["nodata 1.5", "uint16"]),
    (["--nodata", "nan"], ["nodata nan", "uint16"]),
    (["--nodata", "65536"], ["nodata 65536", "uint16"]),
]
AREAS = [
    (["--bbox", 0, 0, 1, 1], ["outside '{scene}'", "--aoi-crs"]),
    (["--bbox", 14, 48, 15, 48.1, "--aoi-crs", "EPSG:4326"], ["outside '{scene}'"]),
    (["--bbox", 0, 89, 1, 95, "--aoi-crs", "EPSG:4326"], ["it lies outside '{scene}'"]),
    (["--bbox", 5, 0, 1, 1], ["(5.0, 0.0, 1.0, 1.0)", "--bbox W S E N"]),
    (["--bbox", "nan", 0, 1, 1], ["nan", "--bbox W S E N"]),
    (["--bbox", "-inf", "-inf", "inf", "inf"], ["finite", "--bbox W S E N"]),
    (["--bbox", 0, 0, 1, 1, "--aoi-crs", "EPSG:99999"], ["'EPSG:99999'", "--aoi-crs"]),
    (["--bbox", 0, 0, 1, 1, "--aoi-crs", "moon"], ["'moon'", "--aoi-crs"]),
    (["--aoi-crs", "EPSG:4326"], ["--aoi-crs", "--aoi or --bbox"]),
    (["--window", 60, 0, 5, 5], ["(60, 0, 5, 5)", "'{scene}'", "64 columns and 48 rows"]),
    (["--window", -1, 0, 5, 5], ["(-1, 0, 5, 5)", "--window"]),
    (["--window", 0, 0, 0, 5], ["(0, 0, 0, 5)", "--window"]),
    (["--aoi", "POLYGON ((0 0, 1 0, 1 1, 0 0))"], ["outside '{scene}'"]),
    (["--aoi", "POLYGON ((0 0, 1"], ["'POLYGON ((0 0, 1'", "neither WKT nor GeoJSON", "--aoi"]),
    (["--aoi", '{"type": "Polygon"'], ["neither WKT nor GeoJSON", "--aoi"]),
    (["--aoi", "missing.geojson"], ["'missing.geojson'", "it is not a file", "--aoi"]),
    (["--aoi", "{scene}"], ["'{scene}'", "--aoi with a vector file"]),
    (["--aoi", "LINESTRING (463300 5426300, 463400 5426200)"], ["LineString", "--aoi with polygons"]),
    (["--aoi", "POINT (463300 5426300)"], ["Point", "--aoi with polygons"]),
    (
        ["--aoi", "CURVEPOLYGON (CIRCULARSTRING (0 0, 9 0, 9 9, 0 9, 0 0))"],
        ["no plain polygons", "CONVERT_TO_LINEAR"],
    ),
    (["--aoi", "POLYGON EMPTY"], ["empty", "--aoi with polygons"]),
    (["--aoi", TRIANGLE, "--window", 0, 0, 5, 5], ["only one of --aoi, --bbox and --window"]),
]
TILING = [
    (["--scale", 1], ["upscale by 1", "--guide FILE", "--scale 4"]),
    (["--tile", 32, "--overlap", 32], ["overlap of 32", "tiles of 32", "--overlap 8"]),
    (["--overlap", 600], ["overlap of 600", "tiles of 288", "--overlap 72"]),
    (["--overlap", -1], ["overlap of -1", "--overlap"]),
    (["--tile", 0], ["tiles of 0", "--tile"]),
    (["--tile", -8], ["tiles of -8", "--tile"]),
    (["--block", 0], ["blocks of 0", "--block"]),
    (["--block", -64], ["blocks of -64", "--block"]),
]
WRITING = [
    (["--co", "FOO=1"], ["'FOO'", "no such option"]),
    (["--co", "COMPRES=LZW"], ["'COMPRES'", "Did you mean 'COMPRESS'?"]),
    (["--co", "COMPRESS=ZIP"], ["COMPRESS=ZIP", "DEFLATE"]),
    (["--co", "COMPRESS=JPEG"], ["3 uint16 bands", "COMPRESS=JPEG", "--co"]),
    (["--co", "BLOCKSIZE=7"], ["BLOCKSIZE=7", "128"]),
    (["--co", "BLOCKSIZE=200"], ["BLOCKSIZE=200", "multiple of 16"]),
    (["--co", "BLOCKSIZE=big"], ["BLOCKSIZE=big"]),
    (["--co", "LEVEL=99"], ["LEVEL=99"]),
    (["--co", "NUM_THREADS=many"], ["NUM_THREADS=many", "ALL_CPUS"]),
    (["--co", "OVERVIEW_RESAMPLING=nice"], ["OVERVIEW_RESAMPLING=nice", "AVERAGE"]),
    (["--co", "NBITS=12"], ["NBITS=12"]),
    (["--co", "OVERVIEW_COUNT=0"], ["OVERVIEW_COUNT=0", "1 to 30"]),
    (["--co", "OVERVIEW_COMPRESS=JPEG"], ["OVERVIEW_COMPRESS=JPEG"]),
    (["--co", "OVERVIEWS=FORCE_USE_EXISTING"], ["OVERVIEWS=FORCE_USE_EXISTING", "IGNORE_EXISTING"]),
    (["--co", "TARGET_SRS=EPSG:4326"], ["'TARGET_SRS'", "another grid", "gdalwarp"]),
    (["--co", "RES=1"], ["'RES'", "another grid"]),
    (["--nodata", 0, "--co", "COMPRESS=JPEG"], ["nodata 0 and COMPRESS=JPEG", "COMPRESS=DEFLATE"]),
    (["--co", "COMPRESS=LERC", "--co", "MAX_Z_ERROR=much"], ["MAX_Z_ERROR=much", "a number from 0"]),
    (["--co", "MAX_Z_ERROR_OVERVIEW=-1"], ["MAX_Z_ERROR_OVERVIEW=-1", "a number from 0"]),
]
MODELS = [
    (["--range", 5, 5], ["range 5 to 5", "--range LO HI"]),
    (["--range", 9, 1], ["range 9 to 1", "--range LO HI"]),
    (["--range", "nan", 1], ["range nan to 1", "--range LO HI"]),
    (["--model", "nearest", "--device", "gpu"], ["device 'gpu'", "--device auto"]),
    (["--model", "bicubick"], ["'bicubick'", "nearest, bilinear, bicubic, lanczos", "--model"]),
    (["--model", "."], ["'.'", "--model"]),
    (["--model", "missing.safetensors"], ["'missing.safetensors'"]),
    (["--model", "{scene}"], ["'{scene}'", "as a model"]),
]
ENGINES = [
    (["--workers", 0], ["0 workers", "--workers"]),
    (["--workers", -2], ["-2 workers", "--workers"]),
    (["--workers", 2, "--scheduler", "tcp://127.0.0.1:9"], ["--workers and --scheduler"]),
    (["--scheduler", "tcp://127.0.0.1:9"], ["'tcp://127.0.0.1:9'", "dask scheduler", "--workers N"]),
    (["--scheduler", "nonsense"], ["'nonsense'", "dask scheduler", "--workers N"]),
    (["--scheduler", "foo://127.0.0.1:9"], ["'foo://127.0.0.1:9'", "dask scheduler"]),
]


@pytest.mark.parametrize(
    ("options", "parts"),
    [*BANDS, *AREAS, *TILING, *WRITING, *MODELS, *ENGINES],
    ids=lambda value: " ".join(map(str, value)).replace("/", "|")[:60],
)
def test_options_that_cannot_work(
    options: list[object],
    parts: list[str],
    scene: Path,
    folder: Path,
    upscale: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geosegsr.workers.engine._CONNECT_TIMEOUT_S", 1)
    given = [str(option).replace("{scene}", str(scene)) for option in options]
    assert_refused(upscale(scene, *given), 1, *[part.replace("{scene}", str(scene)) for part in parts])
    assert left_in(folder) == []


@pytest.mark.parametrize(
    "option",
    ["OVERVIEWS=NONE", "BLOCKSIZE=128", "BLOCKSIZE=1024", "COMPRESS=JPEG", "COMPRESS=LERC", "OVERVIEW_COMPRESS=JPEG",
     "INTERLEAVE=BAND", "RESAMPLING=CUBIC", "NBITS=8", "BIGTIFF=YES"],
)  # fmt: skip
def test_creation_options_that_work(option: str, tmp_path: Path, folder: Path, upscale: Run) -> None:
    """They pass verification, of overviews and lossy pixels too: it must not fail after all the work."""
    source = factory.write_plain(tmp_path / "a.tif", dtype="uint8", size=(140, 150), photometric="rgb")
    outcome = upscale(source, "--co", option)
    assert (outcome.code, outcome.said) == (0, [])
    assert left_in(folder) == ["out.tif"]


def test_an_undeclared_mark_in_heights_ends_in_what_to_type(
    tmp_path: Path, folder: Path, upscale: Run
) -> None:
    heights = (100 + 800 * factory.texture(1, 60, 70)).astype(np.float32)
    heights[0, 3, 3] = np.finfo(np.float32).min
    source = factory.write_scene(tmp_path / "heights.tif", heights)
    outcome = upscale(source)
    assert "--nodata -3.4028235e+38" in outcome.warned[0]
    assert outcome.code == 1 and "not finite" in outcome.said[0] and "--nodata" in outcome.said[0]
    outcome = upscale(source, "--nodata", "-3.4028235e+38", "--no-resume")
    assert (outcome.code, outcome.said, outcome.warned) == (0, [], [])


def test_colours_that_jpeg_would_invent_are_refused_before_the_work(
    tmp_path: Path, folder: Path, upscale: Run
) -> None:
    undefined = [rasterio.enums.ColorInterp.undefined] * 3
    source = factory.write_plain(
        tmp_path / "a.tif", dtype="uint8", colorinterp=undefined, photometric="minisblack"
    )
    assert_refused(upscale(source, "--co", "COMPRESS=JPEG"), 1, "colorinterp", "--co")
    assert left_in(folder) == []


def test_without_a_command_the_help_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = run_here(capfd)
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: geosegsr")


@pytest.mark.parametrize(
    ("args", "part"),
    [(["frobnicate"], "'frobnicate'"), (["upscale"], "'-o'"), (["upscale", "-o", "out/"], "SRC")],
)
def test_usage_of_the_command_itself(args: list[str], part: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(run_here(capfd, *args), 2, part, "--help`.")


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (write_nothing, "no such file"),
        (write_text, "not recognized"),
        (factory.write_truncated, "damaged"),
        (factory.write_complex, "complex"),
    ],
)
def test_info_says_what_is_wrong(
    write: Callable[[Path], Path], part: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "source.tif")
    assert_refused(run_here(capfd, "info", source), 1, f"'{source}'", part)


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        (["missing.tif", "-o", "out.tif"], 1, "'missing.tif'"),
        (["a.tif", "-o", "out.tif", "-s", "5"], 2, "--scale"),
    ],
)
def test_a_process_of_its_own_says_the_same(args: list[str], code: int, part: str, tmp_path: Path) -> None:
    assert_refused(run("upscale", *args, cwd=tmp_path), code, part)
    assert left_in(tmp_path) == []


# The target.


def test_a_target_that_exists_stays_as_it_is(scene: Path, folder: Path, upscale: Run) -> None:
    target = folder / "out.tif"
    target.write_bytes(b"precious")
    assert_refused(upscale(scene), 1, f"'{target}'", "it exists", "--overwrite")
    assert target.read_bytes() == b"precious"
    assert left_in(folder) == ["out.tif"]


@pytest.mark.parametrize("ending", [".aux.xml", ".msk", ".ovr"])
def test_what_gdal_would_take_for_a_part_of_the_result_is_told(
    ending: str, scene: Path, folder: Path, upscale: Run
) -> None:
    beside = folder / f"out.tif{ending}"
    beside.write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")
    assert_refused(upscale(scene), 1, f"'{folder / 'out.tif'}'", f"rm '{beside}'")
    assert left_in(folder) == [beside.name]


@pytest.mark.parametrize("name", ["a" * 250 + ".tif", os.fsdecode(b"\xff.tif")])
def test_a_target_of_a_name_that_cannot_be_is_refused_before_the_work(
    name: str, scene: Path, folder: Path, upscale: Run
) -> None:
    assert_refused(upscale(scene, output=folder / name), 1, "Cannot write '", "tif")
    assert left_in(folder) == []


def test_a_target_that_is_no_file_stays_as_it_is(scene: Path, folder: Path, upscale: Run) -> None:
    os.mkfifo(folder / "out.tif")
    assert_refused(upscale(scene, "--overwrite"), 1, f"'{folder / 'out.tif'}'", "a device or a pipe")
    assert (folder / "out.tif").is_fifo()


def test_overwrite_replaces_a_target(scene: Path, folder: Path, upscale: Run) -> None:
    target = folder / "out.tif"
    target.write_bytes(b"precious")
    assert upscale(scene, "--overwrite").code == 0
    with rasterio.open(target) as result:
        assert result.shape == (192, 256)
    assert left_in(folder) == ["out.tif"]


def test_overwrite_keeps_the_old_target_when_the_source_breaks_off(
    tmp_path: Path, folder: Path, upscale: Run
) -> None:
    source = factory.write_truncated(tmp_path / "source.tif")
    (folder / "out.tif").write_bytes(b"precious")
    outcome = upscale(source, "--overwrite", "--tile", 64, "--overlap", 8, "--block", 256)
    assert_refused(outcome, 1, f"'{source}'", "damaged")
    assert (folder / "out.tif").read_bytes() == b"precious"


def test_overwrite_keeps_the_old_target_when_the_new_one_is_not_what_was_computed(
    tmp_path: Path, folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = RUN.write_cog

    def write_one_wrong_pixel(part: Path, *args: object, **kwargs: object) -> object:
        copied = honest(part, *args, **kwargs)  # type: ignore[arg-type]
        with rasterio.open(part) as written:
            row = written.read(1)[100].tobytes()
        content = part.read_bytes()
        assert content.count(row) == 1
        part.write_bytes(content.replace(row, bytes([row[0] ^ 1]) + row[1:]))
        return copied

    monkeypatch.setattr(RUN, "write_cog", write_one_wrong_pixel)
    source = factory.write_plain(tmp_path / "source.tif", count=1)
    (folder / "out.tif").write_bytes(b"precious")
    outcome = upscale(source, "--overwrite", "--co", "COMPRESS=NONE")
    assert_refused(outcome, 1, "bytes are not those copied", "not moved into place")
    assert (folder / "out.tif").read_bytes() == b"precious"

    monkeypatch.undo()
    assert upscale(source, "--overwrite", "--co", "COMPRESS=NONE").code == 0
    assert left_in(folder) == ["out.tif"]


def test_a_result_that_is_not_accepted_never_stands_under_the_target_name(
    scene: Path, folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise VerificationError("Cannot accept it.")

    monkeypatch.setattr(RUN, "verify_cog", refuse)
    assert_refused(upscale(scene), 1, "Cannot accept it.")
    assert not (folder / "out.tif").exists()


def test_the_target_folder_must_exist(scene: Path, folder: Path, upscale: Run) -> None:
    target = folder / "new" / "out.tif"
    assert_refused(upscale(scene, output=target), 1, f"'{target}'", f"mkdir -p '{target.parent}'")
    assert left_in(folder) == []


def test_the_target_must_be_no_folder(scene: Path, folder: Path) -> None:
    with pytest.raises(SceneError, match="it is a folder"):
        geosegsr.upscale(scene, folder)
    assert left_in(folder) == []


@pytest.mark.parametrize("through", ["its name", "a link"])
def test_the_target_must_not_be_the_source(through: str, folder: Path, upscale: Run) -> None:
    source = factory.write_plain(folder / "source.tif")
    before = source.read_bytes()
    target = source
    if through == "a link":
        target = folder / "link.tif"
        target.symlink_to(source)
    assert_refused(upscale(source, "--overwrite", output=target), 1, f"'{target}'", "the source itself")
    assert source.read_bytes() == before
    assert not list(folder.glob("*.geosegsr"))


def test_a_read_only_folder(scene: Path, mounted: Callable[[str], Path], upscale: Run) -> None:
    folder = mounted("ro")
    assert_refused(upscale(scene, output=folder / "out.tif"), 1, f"'{folder / 'out.tif'}'", "read-only")


def test_a_folder_that_turns_out_to_be_read_only(
    scene: Path, mounted: Callable[[str], Path], upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mounted("ro")
    monkeypatch.setattr(os, "access", lambda *_: True)  # as on network drives, which only say so on writing
    outcome = upscale(scene, output=folder / "out.tif")
    assert_refused(outcome, 1, f"'{folder / 'out.tif'}'", "Read-only file system")


# A full disk.


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system in memory with the given options, more than once on the same folder."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options: str) -> Path:
        options = f"remount,{options}" if folder.is_mount() else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount file systems")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def larger_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty blocks of some 20 kB each at the small size, and a COG of 250 kB."""
    return factory.write_plain(tmp_path_factory.mktemp("scene") / "larger.tif", count=1, size=(100, 120))


@pytest.mark.parametrize(
    ("size", "blocks", "said"),
    [
        ("100k", SMALL_BLOCKS, "Cannot write block"),
        ("450k", SMALL_BLOCKS, "Cannot write part 0 of the COG"),
        ("600k", SMALL_BLOCKS, "Cannot write part 0 of the COG"),
        ("400k", SMALL_BLOCKS[:4], "result-"),
    ],
)
def test_a_full_disk_is_one_line_and_no_work_is_lost(
    size: str,
    blocks: tuple[object, ...],
    said: str,
    larger_scene: Path,
    mounted: Callable[[str], Path],
    upscale: Run,
) -> None:
    folder = mounted(f"size={size}")
    target = folder / "out.tif"
    outcome = upscale(larger_scene, *blocks, output=target)
    assert_refused(
        outcome,
        1,
        str(folder),
        said,
        "No space left on device",
        "finished blocks are kept",
        "Free some space",
    )
    assert left_in(folder) == ["out.tif.geosegsr"]

    mounted("size=10m")
    again = upscale(larger_scene, *blocks, output=target)
    assert again.code == 0
    assert "resumed)" in again.err
    assert left_in(folder) == ["out.tif"]
    assert_same_pixels(target, undisturbed(larger_scene, folder, upscale))


def test_a_full_disk_is_not_laid_to_the_files_that_are_open(
    larger_scene: Path, mounted: Callable[[str], Path], upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is tried before a run closes them too.
    monkeypatch.setattr("geosegsr.pipeline.standing.try_creation_options", lambda *_, **__: None)
    target = mounted("size=500k") / "out.tif"
    assert upscale(larger_scene, *SMALL_BLOCKS, output=target).code == 1
    mounted("size=10m")
    assert upscale(larger_scene, *SMALL_BLOCKS, output=target).code == 0


def test_a_disk_without_room_for_one_block(
    larger_scene: Path, mounted: Callable[[str], Path], upscale: Run
) -> None:
    folder = mounted("size=8k")
    outcome = upscale(larger_scene, *SMALL_BLOCKS, "--model", "bicubic", output=folder / "out.tif")
    assert_refused(outcome, 1, str(folder), "No space left on device")
    assert left_in(folder) == []
    assert len(outcome.warned) == 1
    assert "If the disk fills up, the run can be resumed" in outcome.warned[0]


@pytest.mark.parametrize(("limit", "stage"), [(1_000, "block"), (100_000, "COG")])
def test_a_limit_on_the_size_of_files(
    limit: int, stage: str, larger_scene: Path, folder: Path, upscale: Run
) -> None:
    target = folder / "out.tif"
    outcome = run(
        "upscale", larger_scene, "-o", target, *SMALL_BLOCKS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert_refused(outcome, 1, str(folder), "File too large", "Free some space or fix the cause")
    assert not target.exists()
    assert left_in(folder) == ([] if stage == "block" else ["out.tif.geosegsr"])
    assert upscale(larger_scene, *SMALL_BLOCKS).code == 0
    assert_same_pixels(target, undisturbed(larger_scene, folder, upscale))


def undisturbed(source: Path, folder: Path, upscale: Run) -> Path:
    target = folder / "undisturbed.tif"
    assert upscale(source, *SMALL_BLOCKS, output=target).code == 0
    return target


def assert_same_pixels(found: Path, wanted: Path) -> None:
    with rasterio.open(found) as a, rasterio.open(wanted) as b:
        assert np.array_equal(a.read(), b.read())


# Standard streams that are full, closed or gone.


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2> >(exit)"])
def test_trouble_with_standard_error_leaves_the_work_alone(
    redirection: str, scene: Path, folder: Path
) -> None:
    args = ("upscale", "-m", "bicubic", "--json", *SMALL_BLOCKS)
    one = run_in_shell(redirection, *args, scene, "-o", folder / "out.tif", "-v")
    assert one.code == 0, one
    assert json.loads(one.out)["path"] == str(folder / "out.tif")
    (folder / "bad.tif").write_text("no raster")
    several = run_in_shell(redirection, *args, scene, folder / "bad.tif", "-o", folder)
    assert several.code == 1
    assert {json.loads(line)["status"] for line in several.out.splitlines()} == {"done", "failed"}
    assert run_in_shell(redirection, *args, scene, "-o", folder, "--workers", 1).code == 0
    assert run_in_shell(redirection, "upscale", folder / "none.tif", "-o", folder / "new.tif").code == 1
    assert run_in_shell(redirection, "upscale", "--no-such-option").code == 2


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
@pytest.mark.parametrize("as_json", [("--json",), ()])
def test_a_report_that_cannot_be_written_is_told_and_the_result_stands(
    redirection: str, reason: str, as_json: tuple[str, ...], scene: Path, folder: Path
) -> None:
    args = ("upscale", scene, "-o", folder / "out.tif", "-m", "bicubic", *as_json)
    assert_refused(run_in_shell(redirection, *args), 1, "Cannot write to standard output", reason)
    assert left_in(folder) == ["out.tif"]
    several = ("upscale", scene, "-o", folder, "-m", "bicubic", *as_json)
    assert_refused(
        run_in_shell(redirection, *several, "--dry-run"), 1, "Cannot write to standard output", reason
    )
    missing = run_in_shell(redirection, "upscale", folder / "none.tif", "-o", folder / "new.tif", *as_json)
    assert_refused(missing, 1, "no such file")


def test_a_vrt_may_stand_in_place_of_its_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vrt = write_mixed_dtypes(tmp_path / "mixed").read_text().replace("<VRTDataset", "<VRTDataset" + " " * 300)
    text = vrt.replace("Float32", "UInt16").replace('relativeToVRT="1">', f'relativeToVRT="0">{tmp_path}/')
    outcome = run_here(capfd, "info", text, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["driver"] == "VRT"


def test_a_reader_that_has_gone_is_no_trouble(scene: Path) -> None:
    outcome = run_in_shell("| true", "info", scene)
    assert (outcome.code, outcome.err) == (1, "")


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("upscal", "in.tif"), "Did you mean 'upscale'?"),
        (("xyz",), "Pass one of convert, evaluate"),
        (("SCENE", "-o", "out.tif"), "Did you mean 'upscale SCENE'?"),
        (("upscale", "SCENE", "--scal", "2"), "No such option '--scal'. Did you mean '--scale'?"),
        (("upscale", "SCENE", "out.tif"), "Missing option '-o'. Did you mean -o out.tif?"),
        (("upscale", "SCENE"), "Missing option '-o'. Pass -o FILE.tif"),
    ],
)
def test_the_nearest_word_is_named(
    args: tuple[str, ...], hint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = str(factory.write_plain(tmp_path / "in.tif"))
    outcome = run_here(capfd, *(scene if arg == "SCENE" else arg for arg in args))
    assert_refused(outcome, 2, hint.replace("SCENE", scene))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "too little memory"),
        (MemoryError("Unable to allocate 3.2 GiB"), "--block"),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception,
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    scene = factory.write_plain(tmp_path / "in.tif")
    monkeypatch.setattr(import_module("geosegsr.pipeline.upscale"), "upscale", fail)
    outcome = run_here(capfd, "upscale", scene, "-o", tmp_path / "out.tif", "--json")
    assert_refused(outcome, 1, said, str(error))


def test_another_failed_import_keeps_its_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ImportError("no module of that name")

    scene = factory.write_plain(tmp_path / "in.tif")
    monkeypatch.setattr(import_module("geosegsr.pipeline.upscale"), "upscale", fail)
    outcome = run_here(capfd, "upscale", scene, "-o", tmp_path / "out.tif")
    assert outcome.code == 1 and "Traceback" in outcome.err
