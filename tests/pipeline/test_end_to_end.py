"""Networks through the whole pipeline: presets, scales, other bands, seams."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
import torch
from geosegsr_cli.main import main
from published_kit import GOLDEN, REFERENCE, published_state
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage

import geosegsr
from geosegsr.evaluation.seams import seam_ratio
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset, presets

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "scene.tif"


def checkpoint(path: Path, name: str, scale: int, **entries: object) -> Path:
    """A model with random weights."""
    torch.manual_seed(7)
    config = preset(name, scale=scale)
    network = SeGSR(config).eval()
    save_checkpoint(path, network, ModelCard.of(config, name, **entries))
    return path


def mask_is_kept(source: Path, target: Path, scale: int, window: tuple[slice, slice]) -> bool:
    with rasterio.open(source) as before, rasterio.open(target) as after:
        coarse = before.read_masks()[(slice(None), *window)]
        return np.array_equal(after.read_masks(), np.repeat(np.repeat(coarse, scale, 1), scale, 2))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_compact_preset_at_every_scale(scale: int, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model.safetensors", "compact", scale)
    target = tmp_path / "out.tif"
    # The sample's nodata corner lies within the window.
    report = geosegsr.upscale(SAMPLE, target, scale, model, window=(380, 300, 100, 100), tile=64, overlap=16)
    assert (report.width, report.height) == (100 * scale, 100 * scale)
    assert report.value_range == "0..255 (range of uint8)"
    assert cog_validate(str(target), strict=True, quiet=True)[0]
    assert mask_is_kept(SAMPLE, target, scale, (slice(300, 400), slice(380, 480)))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_at_every_scale_on_a_real_scene(
    name: str, scale: int, real_scenes: Path, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path / "model.safetensors", name, scale)
    source = real_scenes / "ortho_25cm_1000.tif"
    target = tmp_path / "out.tif"
    report = geosegsr.upscale(source, target, scale, model, window=(300, 200, 70, 66))
    assert (report.width, report.height) == (70 * scale, 66 * scale)
    assert cog_validate(str(target), strict=True, quiet=True)[0]


def test_bands_beyond_the_models(tmp_path: Path) -> None:
    names = ["coastal", "blue", "green", "red", "red edge", "nir"]
    source = factory.write_scene(tmp_path / "in.tif", factory.pixels(6, (40, 50)), descriptions=names)
    model = checkpoint(tmp_path / "model.safetensors", "compact", 2, grey=True)
    results = {}
    for other in ("model", "bicubic", "drop"):
        target = tmp_path / f"{other}.tif"
        geosegsr.upscale(source, target, 2, model, other_bands=other, value_range=(0, 10000))
        with rasterio.open(target) as out:
            results[other] = dict(zip(out.descriptions, out.read(), strict=True))
            if other != "drop":
                assert '"grey"' in out.tags()["GEOSEGSR_OPTIONS"] or other == "bicubic"
    assert list(results["drop"]) == ["blue", "green", "red"]
    assert list(results["model"]) == list(results["bicubic"]) == names
    for colour in ("red", "green", "blue"):
        np.testing.assert_array_equal(results["model"][colour], results["drop"][colour])
    geosegsr.upscale(source, tmp_path / "plain.tif", 2, "bicubic", bands=[6])
    with rasterio.open(tmp_path / "plain.tif") as plain:
        np.testing.assert_array_equal(results["bicubic"]["nir"], plain.read(1))
    assert not np.array_equal(results["model"]["nir"], results["bicubic"]["nir"])


def test_a_trained_model_gives_the_same_pixels_for_any_block_and_worker(tmp_path: Path) -> None:
    source = factory.write_nodata(tmp_path / "in.tif", dtype="uint8")
    model = checkpoint(tmp_path / "model.safetensors", "compact", 2)
    pixels = []
    for block, workers in ((40, None), (1000, None), (60, 2)):
        target = tmp_path / f"{block}.tif"
        geosegsr.upscale(source, target, 2, model, tile=32, overlap=16, block=block, workers=workers)
        with rasterio.open(target) as out:
            pixels.append(out.read())
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[0], pixels[2])


def test_tiles_on_block_borders_are_computed_once_and_never_for_another_run(tmp_path: Path) -> None:
    source = factory.write_scene(tmp_path / "in.tif", factory.pixels(3, (90, 100), "uint8"))
    pixels = []
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        network = SeGSR(preset("compact", scale=2)).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        model = tmp_path / f"{name}.safetensors"
        save_checkpoint(model, network, ModelCard.of(network.config, name))
        options = {"tile": 32, "overlap": 16, "block": 64, "overwrite": True}
        report = geosegsr.upscale(source, tmp_path / "out.tif", 2, model, **options)
        assert report.tiles_computed == report.tiles
        with rasterio.open(tmp_path / "out.tif") as out:
            pixels.append(out.read())
        geosegsr.upscale(source, tmp_path / "one.tif", 2, model, **{**options, "block": 1000})
        with rasterio.open(tmp_path / "one.tif") as out:
            np.testing.assert_array_equal(pixels[-1], out.read())
    assert not np.array_equal(*pixels)


def test_one_tile_through_files_is_the_network_itself(tmp_path: Path) -> None:
    values = np.random.default_rng(3).random((3, 64, 64)).astype(np.float32)
    source = factory.write_scene(tmp_path / "in.tif", values)
    model = checkpoint(tmp_path / "model.safetensors", "compact", 4)
    geosegsr.upscale(source, tmp_path / "out.tif", 4, model, value_range=(0, 1), precision="fp32", tile=64)
    from geosegsr.models.checkpoint import load_checkpoint

    network, _ = load_checkpoint(model)
    with torch.inference_mode(), rasterio.open(tmp_path / "out.tif") as out:
        expected = network(torch.from_numpy(values)[None])[0].numpy()
        scale = np.abs(expected).max()
        assert np.abs(out.read() - expected).max() / scale < 1e-5


def seams(source: Path, target: Path, model: str | Path, overlap: int | None) -> float:
    """Roughness of a result where the say of one tile begins or ends, against the same places without tiles."""
    whole = target.with_name("whole.tif")
    options = {"tile": 64, "overlap": overlap, "value_range": (0, 255)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an overlap of 0 is warned about
        geosegsr.upscale(source, target, 2, model, **options)
        geosegsr.upscale(source, whole, 2, model, value_range=(0, 255), tile=256)
        grid = geosegsr.plan(source, 2, model, **options).rendering.grid  # type: ignore[arg-type]
    rows, cols = ([2 * edge for pair in axis.supports for edge in pair] for axis in (grid.rows, grid.cols))
    with rasterio.open(target) as tiled, rasterio.open(whole) as untiled:
        found, there = (seam_ratio(file.read().astype(np.float64), rows, cols) for file in (tiled, untiled))
    return found / there


@pytest.fixture
def soft_scene(tmp_path: Path) -> Path:
    with rasterio.open(SAMPLE) as sample:
        soft = ndimage.gaussian_filter(sample.read()[:, :200, :200].astype(np.float32), (0, 2, 2))
    return factory.write_scene(tmp_path / "soft.tif", soft)


@pytest.mark.parametrize("name", ["bicubic", "compact"])
def test_seams_are_no_rougher_than_the_picture(name: str, soft_scene: Path, tmp_path: Path) -> None:
    model = name if name == "bicubic" else checkpoint(tmp_path / "model.safetensors", name, 2)
    assert seams(soft_scene, tmp_path / "out.tif", model, None if name == "bicubic" else 32) < 1.25


def test_tiles_without_overlap_show_their_seams(soft_scene: Path, tmp_path: Path) -> None:
    assert seams(soft_scene, tmp_path / "out.tif", "bicubic", 0) > 3


@pytest.mark.parametrize(
    ("which", "folder"),
    [
        ("segsr_small", GOLDEN),
        ("segsr_x4", REFERENCE),
        pytest.param("segsr_x2", REFERENCE, marks=pytest.mark.slow),
    ],
)
def test_published_values_through_the_command_line(which: str, folder: Path, tmp_path: Path) -> None:
    if not folder.exists():
        pytest.skip("needs the equality data beside the repository")
    state, prompts = published_state(which, folder)
    torch.save({"params_ema": state}, tmp_path / "net.pth")
    torch.save({f"text_locals.{i}": p[:, None] for i, p in enumerate(prompts)}, tmp_path / "prompts.pth")
    del state
    model = tmp_path / "model.safetensors"
    line = ["convert", f"{tmp_path}/net.pth", "-o", str(model), "--prompts", f"{tmp_path}/prompts.pth"]
    assert geosegsr_command(line) == 0
    data = np.load(folder / f"{which}.npz")
    scale = data["output"].shape[-1] // data["input"].shape[-1]
    tile = str(max(data["input"].shape[2:]))
    source = factory.write_scene(tmp_path / "in.tif", data["input"][0])
    line = ["upscale", str(source), "-o", f"{tmp_path}/out.tif", "--scale", str(scale), "--model", str(model)]
    assert (
        geosegsr_command(
            [*line, "--range", "0", "1", "--precision", "fp32", "--tile", tile, "--overlap", "8"]
        )
        == 0
    )
    with rasterio.open(tmp_path / "out.tif") as out:
        expected = data["output"][0]
        assert np.abs(out.read() - expected).max() / np.abs(data["output"]).max() < 1e-4


def geosegsr_command(line: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(line)
    return int(stop.value.code or 0)
