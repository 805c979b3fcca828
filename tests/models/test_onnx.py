"""Models as ONNX files: the values of torch, at any size, and the metadata that Deepness reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from scene_factory import write_nodata
from small_network import SMALL

import geosegsr
from geosegsr.errors import ConfigError, JobError
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import load_foreign, load_upscaler
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.foreign.onnx_file import TILES
from geosegsr.models.onnx import MOST_DIFFERENCE, export_onnx
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.sensor.descriptor import SensorDescriptor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZES = [
    (1, 16, 16), (1, 17, 31), (1, 31, 17), (1, 32, 32), (1, 33, 64), (1, 48, 48), (1, 63, 65), (1, 64, 64), (1, 80, 20),
    (1, 96, 96), (1, 100, 37), (1, 128, 40), (2, 16, 47), (2, 30, 30), (2, 43, 58), (2, 64, 33), (3, 20, 20), (3, 49, 51),
    (4, 24, 40), (5, 18, 90),
]  # fmt: skip
TOLD = (0.8, 0.3, 0.01, 0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = SeGSR(preset("compact", bands=4, scale=2, sensor_width=8, **SMALL))
    card = ModelCard.of(network.config, "small", trained_on="nothing")
    path = tmp_path_factory.mktemp("onnx") / "small.safetensors"
    save_checkpoint(path, network, card)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    target = checkpoint.with_name("small.onnx")
    found = export_onnx(load_upscaler(checkpoint, device="cpu", precision="fp32"), target, descriptor=TOLD)
    assert (found.path, found.name, found.scale, found.bands) == (str(target), "small", 2, 4)
    assert found.bytes == target.stat().st_size and found.largest_difference <= MOST_DIFFERENCE
    return target


def test_the_file_has_the_values_of_torch_at_any_size_and_batch(checkpoint: Path, exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    model = load_upscaler(checkpoint, device="cpu", precision="fp32").for_sensor(TOLD)
    rng = np.random.default_rng(1)
    for n, height, width in SIZES:
        lr = rng.random((n, 4, height, width), np.float32)
        lr[:, :2, :9, :12] = 0.25  # flat ground
        expected = np.concatenate([model(image[None]) for image in lr])
        found = session.run(None, {"lr": lr})[0]
        assert found.shape == expected.shape and np.abs(found - expected).max() < 2e-5, (n, height, width)


def test_inputs_and_outputs_are_named(exported: Path) -> None:
    graph = onnx.load(exported).graph
    (lr,), (sr,) = graph.input, graph.output
    assert (lr.name, sr.name) == ("lr", "sr")
    assert dims(lr) == ["batch", 4, "height", "width"]
    assert dims(sr) == ["batch", 4, "2*height", "2*width"]


def dims(value: Any) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_a_fixed_file_is_what_deepness_accepts(checkpoint: Path, tmp_path: Path) -> None:
    """Its superresolution mode needs one input, one output of square sides, a batch of one, and metadata as JSON."""
    target = tmp_path / "fixed.onnx"
    export_onnx(load_upscaler(checkpoint, device="cpu", precision="fp32"), target, tile=64)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (lr,), (sr,) = session.get_inputs(), session.get_outputs()
    assert lr.shape == [1, 4, 64, 64] and sr.shape == [1, 4, 128, 128]
    found = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert found["model_type"].capitalize() == "Superresolution"
    assert found["tile_size"] == 64 and 0 < found["tiles_overlap"] < 100
    assert found["geosegsr"]["scale"] == 2 and len(found["geosegsr"]["sha256"]) == 64
    assert found["geosegsr_sensor"] == [0.94, 0.49, 0.0, 0.0]


def test_what_cannot_be_exported_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_upscaler(checkpoint, device="cpu", precision="fp32")
    taken = tmp_path / "taken.onnx"
    taken.write_text("mine")
    with pytest.raises(JobError, match="--overwrite"):
        export_onnx(model, taken)
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export_onnx(model, tmp_path / "model.pt")

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(torch.export, "export", refuse)
    with pytest.raises(ConfigError, match=r"cannot express its network \(no such operator\)"):
        export_onnx(model, tmp_path / "new.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"] and taken.read_text() == "mine"


def test_a_file_is_a_model_too_with_the_same_pixels(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    """Of any size, and of one size only."""
    ours = load_upscaler(checkpoint, device="cpu", precision="fp32")
    fixed = tmp_path / "fixed.onnx"
    export_onnx(ours, fixed, descriptor=TOLD, tile=64)
    expected, told = ours.for_sensor(TOLD), (load_foreign(path, device="cpu") for path in (exported, fixed))
    for model, side in zip(told, (80, 64), strict=True):
        lr = np.random.default_rng(2).random((2, 4, side, side), np.float32)
        assert (model.facts.scale, model.facts.bands) == (2, 4)
        np.testing.assert_allclose(
            model(lr), np.concatenate([expected(tile[None]) for tile in lr]), atol=2e-5
        )


def test_a_file_of_ours_says_how_it_is_tiled_and_an_impossible_saying_is_measured(
    checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    ours, told = load_upscaler(checkpoint, device="cpu").facts, load_foreign(exported, device="cpu").facts
    sizes = ("tile", "overlap", "halo", "multiple_of", "min_size")
    assert [getattr(told, name) for name in sizes] == [getattr(ours, name) for name in sizes]
    for wrong in ({"tile": 10**9}, {"overlap": 0}, {"halo": "far"}, {"multiple_of": 0}):
        model = onnx.load(exported)
        (entry,) = (entry for entry in model.metadata_props if entry.key == TILES)
        entry.value = json.dumps({**json.loads(entry.value), **wrong})
        path = tmp_path / "wrong.onnx"
        onnx.save(model, path)
        measured = load_foreign(path, device="cpu").facts
        assert measured.tile <= 256 and 2 * measured.halo <= measured.overlap < measured.tile


def test_a_scene_gets_the_pixels_of_the_model_itself(
    checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    """In tiles, of odd sides, with nodata, to a DN of 16 bits."""
    scene = write_nodata(tmp_path / "scene.tif", dtype="uint16", count=4, size=(131, 173), nodata=0)
    how = {"sensor": SensorDescriptor(*TOLD), "value_range": (0, 10_000), "consistency": False, "tile": 96}
    for model, name in ((checkpoint, "ours"), (exported, "theirs")):
        geosegsr.upscale(scene, tmp_path / f"{name}.tif", 2, model, precision="fp32", **how)
    with rasterio.open(tmp_path / "ours.tif") as ours, rasterio.open(tmp_path / "theirs.tif") as theirs:
        np.testing.assert_array_equal(ours.read_masks(), theirs.read_masks())
        np.testing.assert_allclose(ours.read().astype(int), theirs.read().astype(int), atol=1)


def test_a_missing_package_is_named_with_its_extra(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"geosegsr\[onnx\]"):
        export_onnx(load_upscaler(checkpoint, device="cpu", precision="fp32"), tmp_path / "new.onnx")
