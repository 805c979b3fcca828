"""Blocks whose tiles become those of the COG: the file is the one that GDAL makes, and runs resume as before."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, assert_refused, run_here
from comparison import cog_differences
from fakes import Fake
from once import once_before

import geosegsr
from geosegsr.errors import GeoSegSRError, GeoSegSRWarning, SceneError, VerificationError
from geosegsr.pipeline.task import Request
from geosegsr.raster import cog_levels
from geosegsr.raster.cog_block import TiledFormat

RUN = import_module("geosegsr.pipeline.run")
BLOCK = import_module("geosegsr.pipeline.block")
SCENES = Path(__file__).parents[3] / "shared" / "imagery" / "scenes"
SIZE = (131, 256)
"""Of a scene whose result at a scale of 4 takes two by two blocks, and has an overview of odd height."""
OPTIONS = ("-s", 4, "-m", "bicubic", "--block", 512, "--co", "BLOCKSIZE=128")


def made(source: Path, target: Path, scale: int = 4, *, by_gdal: bool = False, **options: object) -> int:
    """Upscale with tiles so small that there are several blocks and overviews; how many blocks held tiles of the result."""
    honest, levels = TiledFormat.of, []

    def of(*args: object, **kwargs: object) -> TiledFormat | None:
        form = None if by_gdal else honest(*args, **kwargs)  # type: ignore[arg-type]
        levels.append(form)
        return form

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TiledFormat, "of", of)
        settings = {"model": "bicubic", "block": 512, "creation": {"BLOCKSIZE": "128"}, **options}
        geosegsr.upscale(source, target, scale, **settings)  # type: ignore[arg-type]
    return len([form for form in levels if form is not None])


def write_alpha(path: Path, size: tuple[int, int]) -> Path:
    values = factory.pixels(4, size, "uint8")
    values[3] = np.where(factory.blob(size), 0, 255)
    return factory.write_scene(path, values, photometric="RGB", alpha="yes")


def write_mask(path: Path, size: tuple[int, int]) -> Path:
    return factory.write_scene(path, factory.pixels(3, size, "uint8"), mask=~factory.blob(size))


KINDS: dict[str, tuple[Callable[..., Path], bool]] = {
    "plain": (factory.write_plain, True),
    "nodata": (factory.write_nodata, True),
    "alpha": (write_alpha, True),
    "mask": (write_mask, False),
    "rotated": (factory.write_rotated, True),
    "gcps": (factory.write_gcps, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_the_one_that_gdal_makes(kind: str, tmp_path: Path) -> None:
    write, tiled = KINDS[kind]
    source = write(tmp_path / "in.tif", size=SIZE)
    found, wanted = tmp_path / "found.tif", tmp_path / "wanted.tif"
    assert made(source, found) == tiled
    made(source, wanted, by_gdal=True)
    assert cog_differences(found, wanted) == []


@pytest.mark.skipif(not SCENES.exists(), reason="needs the real scenes beside the repository")
@pytest.mark.parametrize(
    ("number", "path"),
    list(enumerate(sorted(SCENES.glob("*.tif")))),
    ids=[p.stem for p in sorted(SCENES.glob("*.tif"))],
)
@pytest.mark.filterwarnings("ignore::geosegsr.errors.GeoSegSRWarning")
def test_real_scenes(number: int, path: Path, tmp_path: Path) -> None:
    scale = (2, 3, 4)[number % 3]
    with rasterio.open(path) as source:
        size = min(source.width, 1020 // scale), min(source.height, 508 // scale)
    options = {"window": ((0, 0, *size)), "model": "nearest"}
    found, wanted = tmp_path / "found.tif", tmp_path / "wanted.tif"
    try:
        made(path, found, scale, **options)
    except SceneError as error:
        pytest.skip(str(error))
    made(path, wanted, scale, by_gdal=True, **options)
    assert cog_differences(found, wanted) == []


def test_all_files_of_a_run_are_made_so(tmp_path: Path) -> None:
    """Also an uncertainty with nodata in it, and bands of their own."""
    source = factory.write_nodata(tmp_path / "in.tif", size=(36, 40))
    for name, by_gdal in (("found", False), ("wanted", True)):
        target, beside = tmp_path / f"{name}.tif", tmp_path / f"{name}_beside.tif"
        options = {"model": Fake(), "ensemble": True, "uncertainty": beside}
        assert made(source, target, 2, by_gdal=by_gdal, **options) == (0 if by_gdal else 2)
        assert made(source, target, 2, by_gdal=by_gdal, separate=True) == (0 if by_gdal else 3)
    for name in ("{}.tif", "{}_beside.tif", "{}_b1.tif", "{}_b3.tif"):
        found, wanted = (tmp_path / name.format(which) for which in ("found", "wanted"))
        assert cog_differences(found, wanted) == []


def test_the_size_of_blocks_does_not_show(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", size=SIZE)
    paths = [tmp_path / f"{side}.tif" for side in (48, 256, 512, 2048)]
    for path in paths:
        made(source, path, block=int(path.stem))
    assert all(cog_differences(path, paths[0]) == [] for path in paths[1:])


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of tests take several cells."""
    monkeypatch.setattr(cog_levels, "_CELL", 256)


@pytest.mark.parametrize("kind", ["plain", "nodata", "alpha"])
@pytest.mark.parametrize("block", [110, 300, 512])
def test_blocks_whose_edges_do_not_meet_tiles_become_cells(
    kind: str, block: int, small_cells: None, tmp_path: Path
) -> None:
    """As those of networks: their tiles have any side."""
    source = KINDS[kind][0](tmp_path / "in.tif", size=(196, 268))
    found, wanted = tmp_path / "found.tif", tmp_path / "wanted.tif"
    options = {"model": Fake(), "block": block}
    assert made(source, found, 2, **options) == 1
    made(source, wanted, 2, by_gdal=True, **options)
    assert cog_differences(found, wanted) == []


# Runs that are interrupted.


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return factory.write_nodata(tmp_path / "in.tif", size=SIZE)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.tif"


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], scene: Path, target: Path) -> Callable[..., Outcome]:
    return lambda *options: run_here(capfd, "upscale", scene, "-o", target, *OPTIONS, *options)


@pytest.fixture
def unfinished(command: Callable[..., Outcome], target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job folder of a run whose blocks are all done."""

    def stop(*_: object, **__: object) -> None:
        raise SceneError("Cannot go on.")

    with monkeypatch.context() as patch:
        patch.setattr(RUN, "write_cog", stop)
        assert command().code == 1
    return target.with_name(target.name + ".geosegsr")


def resumed(outcome: Outcome) -> int:
    assert outcome.code == 0, outcome.err
    return int(json.loads(outcome.out)["blocks_resumed"])


def test_a_run_is_resumed_with_options_that_leave_tiles_alone(
    command: Callable[..., Outcome], unfinished: Path, scene: Path, target: Path, tmp_path: Path
) -> None:
    for name in ("overviews.tif", "overviews_4711_1.ovr.tmp", "uncertainty_4711_2.msk.ovr.tmp"):
        (unfinished / f"result-1a2b3c4d.{name}").write_bytes(b"half")
    assert resumed(command("--json", "--co", "NUM_THREADS=1", "--co", "BIGTIFF=YES")) == 4
    assert not unfinished.exists()
    made(scene, tmp_path / "wanted.tif", by_gdal=True, creation={"BLOCKSIZE": "128", "BIGTIFF": "YES"})
    with rasterio.open(target) as found, rasterio.open(tmp_path / "wanted.tif") as wanted:
        np.testing.assert_array_equal(found.read(), wanted.read())


def test_a_run_is_not_resumed_with_other_tiles(command: Callable[..., Outcome], unfinished: Path) -> None:
    for option in ("COMPRESS=LZW", "OVERVIEWS=NONE"):
        assert_refused(command("--co", option), 1, "Cannot resume", "tiles was", "--no-resume")
    assert command("--co", "COMPRESS=LZW", "--no-resume").code == 0


def test_a_damaged_block_is_computed_again(
    command: Callable[..., Outcome], unfinished: Path, scene: Path, target: Path, tmp_path: Path
) -> None:
    block = unfinished / "blocks" / "000001.tif"
    block.write_bytes(block.read_bytes()[:-100])
    outcome = command("--json")
    assert resumed(outcome) == 3
    assert "block 1 of the earlier run is missing or damaged" in outcome.err
    made(scene, tmp_path / "wanted.tif", by_gdal=True)
    assert cog_differences(target, tmp_path / "wanted.tif") == []


def test_a_block_that_changes_before_it_is_copied_is_noticed(
    scene: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RUN.write_cog

    def swapped(*args: object, **kwargs: object) -> None:
        blocks = target.with_name(target.name + ".geosegsr") / "blocks"
        (blocks / "000001.tif").write_bytes((blocks / "000000.tif").read_bytes())
        write(*args, **kwargs)

    monkeypatch.setattr(RUN, "write_cog", swapped)
    with pytest.raises((VerificationError, ValueError)) as refused:
        made(scene, target)
    assert "are not those computed" in str(refused.value) and "/proc/" not in str(refused.value)
    assert isinstance(refused.value, GeoSegSRError)
    assert not target.exists()


def test_blocks_that_are_tiles_need_no_second_look(
    scene: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were decoded and compared when they were made."""
    records = []
    honest = RUN.compute_block

    def kept(*args: object) -> object:
        record = honest(*args)
        records.append(record)  # not read back from here: blocks are computed side by side
        return record

    monkeypatch.setattr(RUN, "compute_block", kept)
    made(scene, target)
    assert [record.files["image"].checksum for record in records] == [None] * 4


def test_only_blocks_that_fit_are_planned(tmp_path: Path) -> None:
    """A side that was asked for is kept to, and plain blocks keep to the tiles of the model."""
    source = factory.write_plain(tmp_path / "in.tif", size=(1000, 1000))
    for block, creation, side in (
        (4000, {}, 0),  # one block
        (1500, {}, 256),
        (1023, {}, 0),
        (1500, {"OVERVIEW_RESAMPLING": "CUBIC"}, 0),
    ):
        request = Request(4, "bicubic", {"block": block}, creation)
        grid = request.prepare(str(source), tmp_path / "out.tif").planned.grid
        assert grid.rows.unit == side
        if side:
            assert max(b.window.height for b in grid.blocks) == side


# Runs whose blocks become cells.


@pytest.fixture
def in_cells(scene: Path, target: Path, small_cells: None) -> Callable[..., geosegsr.Report]:
    """Runs of 15 blocks that become four cells."""
    options = {"model": Fake(), "block": 110, "creation": {"BLOCKSIZE": "128"}}
    return lambda path=target, **more: geosegsr.upscale(scene, path, 2, **options, **more)


def stop_after(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, begun = RUN.compute_cell, itertools.count(1)

    def compute(*args: object) -> object:
        if next(begun) > cells:
            raise SceneError("Cannot go on.")
        return honest(*args)

    monkeypatch.setattr(RUN, "compute_cell", compute)


def test_only_blocks_with_nodata_are_compressed_on_their_way_into_cells(
    in_cells: Callable[..., geosegsr.Report], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_cells()
    with monkeypatch.context() as patch:
        patch.setattr(BLOCK, "SMALL_BYTES", 0)
        stop_after(0, patch)
        with pytest.raises(SceneError, match="Cannot go on"):
            in_cells(tmp_path / "large.tif")
        found = set()
        for path in (tmp_path / "large.tif.geosegsr" / "blocks").glob("*.tif"):
            with rasterio.open(path) as block:
                found.add((bool((block.read() == 0).any()), block.compression is not None))
        assert found == {(False, False), (True, True)}
    in_cells(tmp_path / "large.tif")
    assert cog_differences(target, tmp_path / "large.tif") == []


@pytest.mark.parametrize("cells", [0, 1, 3])
def test_a_run_is_resumed_among_its_cells(
    cells: int, in_cells: Callable[..., geosegsr.Report], target: Path, tmp_path: Path
) -> None:
    """Blocks that are in finished cells only were deleted, and are not computed again."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(cells, patch)
        with pytest.raises(SceneError, match="Cannot go on"):
            in_cells()
    files = len(list((target.with_name(target.name + ".geosegsr") / "blocks").glob("*.tif")))
    report = in_cells()
    assert report.blocks_resumed == report.blocks > 1 and files <= report.blocks + (cells == 1)
    in_cells(tmp_path / "undisturbed.tif")
    assert cog_differences(target, tmp_path / "undisturbed.tif") == []


def test_a_cell_that_was_damaged_is_made_again_with_its_blocks(
    in_cells: Callable[..., geosegsr.Report], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise SceneError("Cannot go on.")

    with monkeypatch.context() as patch:
        patch.setattr(RUN, "write_cog", stop)
        with pytest.raises(SceneError, match="Cannot go on"):
            in_cells()
    files = sorted((target.with_name(target.name + ".geosegsr") / "blocks").glob("*.tif"))
    files[-1].write_bytes(files[-1].read_bytes()[:-100])
    with pytest.warns(GeoSegSRWarning, match="of the earlier run is missing or damaged"):
        report = in_cells()
    assert 0 < report.blocks_resumed < report.blocks
    in_cells(tmp_path / "undisturbed.tif")
    assert cog_differences(target, tmp_path / "undisturbed.tif") == []


def test_a_cell_is_not_made_of_another_block(
    in_cells: Callable[..., geosegsr.Report], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap() -> None:
        blocks = target.with_name(target.name + ".geosegsr") / "blocks"
        (blocks / "000001.tif").write_bytes((blocks / "000000.tif").read_bytes())

    monkeypatch.setattr(RUN, "compute_cell", once_before(RUN.compute_cell, swap))
    with pytest.raises(
        VerificationError, match=r"Cannot use the block '.*0000..\.tif': its pixels are not those computed"
    ):
        in_cells()
    assert not target.exists()


def test_a_block_that_cannot_be_read_is_one_line(
    in_cells: Callable[..., geosegsr.Report], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> None:
        (target.with_name(target.name + ".geosegsr") / "blocks" / "000001.tif").write_bytes(b"II*")

    monkeypatch.setattr(RUN, "compute_cell", once_before(RUN.compute_cell, cut))
    with pytest.raises(SceneError, match=r"Cannot read the finished block '.*000001.tif'.*same command"):
        in_cells()
