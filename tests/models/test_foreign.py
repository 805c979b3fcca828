"""Networks of other projects: recognised, measured, and run with nothing of theirs changed."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_networks import (
    NETWORKS,
    SEES_ALL,
    foreign_network,
    grey_network,
    rcan_network,
    saved,
    saved_foreign,
)
from small_network import SMALL
from torch import nn

from geosegsr.errors import CheckpointError, ConfigError, GeoSegSRWarning
from geosegsr.models.catalogue import is_foreign, load_foreign, resolve_upscaler, shared_upscaler
from geosegsr.models.checkpoint import read_card
from geosegsr.models.foreign.conversion import convert_foreign
from geosegsr.models.foreign.probe import TOLERANCE, VISIBLE
from geosegsr.models.segsr import enlarge
from geosegsr.models.segsr.network import SeGSR, preset

spandrel = pytest.importorskip("spandrel")
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:.*were not allocated by ONNX")
KINDS = sorted(NETWORKS)


def noise(bands: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((1, bands, height, width), np.float32)


class Reach(nn.Module):
    """A network whose pixels see three pixels far."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.Conv2d(3, 3, 7, padding=3, groups=3, bias=False)
        nn.init.constant_(self.blur.weight, 1 / 49)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blur(x).repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_architecture_gives_its_own_networks_pixels(kind, tmp_path):
    path = saved_foreign(kind, tmp_path)
    network = spandrel.ModelLoader("cpu").load_from_file(path)
    model = load_foreign(path, device="cpu")
    facts = model.facts
    assert is_foreign(path)
    assert kind in facts.name
    assert (facts.bands, facts.precision, facts.card) == (3, "fp32", None)
    side = -(-facts.min_size // facts.multiple_of) * facts.multiple_of
    lr = noise(3, side + facts.multiple_of, side + 2 * facts.multiple_of)
    with torch.inference_mode():
        expected = network(torch.from_numpy(lr)).numpy()
    assert facts.scale == expected.shape[-1] // lr.shape[-1]
    np.testing.assert_allclose(model(lr).clip(0, 1), expected, atol=1e-6)  # spandrel itself clips


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_halo_a_cut_changes_nothing(kind, tmp_path):
    model = load_foreign(saved_foreign(kind, tmp_path), device="cpu")
    facts = model.facts
    unit = facts.multiple_of
    cut, side = -(-8 // unit) * unit, -(-(3 * facts.halo + 32) // unit) * unit
    lr = noise(3, side, side + unit)
    lr[..., :cut, :] = 0.7 + 0.3 * lr[..., :cut, :]  # other ground than the rest
    whole, part = model(lr), model(lr[..., cut:, cut:])
    kept = (cut + facts.halo) * facts.scale
    seen = facts.halo * facts.scale
    said = (TOLERANCE + 2 * model.findings.unsettled) * max(1, np.abs(whole).max())
    np.testing.assert_allclose(part[..., seen:, seen:], whole[..., kept:, kept:], atol=said)


def test_what_depends_on_all_of_a_tile_is_measured(tmp_path):
    """DAT attends over channels, and so averages over the tile: no halo makes its tiles the parts of a whole."""
    found = {kind: load_foreign(saved_foreign(kind, tmp_path), device="cpu").findings for kind in KINDS}
    seeing = {kind for kind in KINDS if found[kind].unsettled > TOLERANCE}
    assert seeing == {SEES_ALL}
    assert found[SEES_ALL].unsettled < VISIBLE


def test_a_network_that_changes_its_input_leaves_ours_alone(tmp_path):
    lr = noise(3, 24, 24)
    before = lr.copy()
    with pytest.warns(GeoSegSRWarning):
        model = load_foreign(saved(rcan_network(), tmp_path / "RCAN.pth"), device="cpu")
    np.testing.assert_array_equal(model(lr), model(lr))
    np.testing.assert_array_equal(lr, before)


def test_narrow_tiles_are_computed_in_float32(tmp_path):
    path = saved_foreign("RealESRGAN Compact", tmp_path)
    half, whole = (load_foreign(path, device="cpu", precision=precision) for precision in ("bf16", "fp32"))
    narrow, wide = noise(3, 24, 64), noise(3, 48, 64)
    np.testing.assert_array_equal(half(narrow), whole(narrow))
    assert np.abs(half(wide) - whole(wide)).max() > 1e-4


def test_the_measured_halo_is_that_of_a_network_whose_reach_is_known(tmp_path):
    path = tmp_path / "reach.pt"
    torch.jit.script(Reach()).save(str(path))
    facts = load_foreign(path, device="cpu", trusted=True).facts
    assert (facts.halo, facts.scale, facts.multiple_of) == (3, 2, 1)


def test_a_network_that_sees_the_whole_tile_is_said_to(tmp_path):
    path = saved(rcan_network(), tmp_path / "RCAN.pth")
    with pytest.warns(GeoSegSRWarning, match="depend on all of a tile"):
        load_foreign(path, device="cpu")


def test_reflectance_beyond_one_is_not_clipped(tmp_path):
    model = load_foreign(saved_foreign("RealESRGAN Compact", tmp_path), device="cpu")
    lr = noise(3, 16, 16) + 2
    with torch.inference_mode():
        expected = foreign_network("RealESRGAN Compact")(torch.from_numpy(lr)).numpy()
    assert expected.max() > 1
    np.testing.assert_allclose(model(lr), expected, atol=1e-5)


def test_a_network_of_one_band_takes_any_number_of_bands_alone(tmp_path):
    path = saved(grey_network(), tmp_path / "grey.pth")
    model = load_foreign(path, device="cpu")
    lr = noise(5, 16, 24)
    assert model.facts.bands is None
    with torch.inference_mode():
        alone = grey_network()(torch.from_numpy(lr[0][:, None])).numpy()
    np.testing.assert_allclose(model(lr)[0], alone[:, 0], atol=1e-6)


def test_a_range_of_255_is_scaled_in_and_out(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + (x > 100).float() * 51).repeat_interleave(2, -1).repeat_interleave(2, -2)

    path = tmp_path / "fixed.pt"
    torch.jit.script(Fixed()).save(str(path))
    model = load_foreign(path, device="cpu", trusted=True, span=(0, 255))
    lr = np.full((1, 3, 8, 8), 0.5, np.float32)
    np.testing.assert_allclose(model(lr), 0.7, atol=1e-6)
    with pytest.raises(ConfigError, match="--model-range 0 255"):
        load_foreign(path, trusted=True, span=(1, 0))


def test_batches_and_repetition_change_no_pixel(tmp_path):
    model = load_foreign(saved_foreign("SPAN", tmp_path), device="cpu")
    tiles = np.concatenate([noise(3, 24, 24, seed) for seed in range(3)])
    together = model(tiles)
    for i in range(3):
        np.testing.assert_array_equal(model(tiles[i : i + 1])[0], together[i])


def test_another_process_opens_the_same_file_only(tmp_path):
    path = saved_foreign("SPAN", tmp_path)
    model = load_foreign(path, device="cpu")
    pickled = pickle.dumps(model)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled)(noise(3, 16, 16)), model(noise(3, 16, 16)))
    saved_foreign("ESRGAN", tmp_path).rename(path)
    with pytest.raises(CheckpointError, match="not the file that this run was planned with"):
        pickle.loads(pickled)


@pytest.mark.parametrize("kind", ["SwinIR", "ESRGAN"])
def test_a_converted_network_computes_the_same_and_is_not_measured_again(kind, tmp_path, monkeypatch):
    path, target = saved_foreign(kind, tmp_path), tmp_path / "converted.safetensors"
    original = load_foreign(path, device="cpu")
    card = convert_foreign(path, target, name="theirs", licence="Apache-2.0", trained_on="DIV2K")
    assert (card.architecture, card.licence, card.trained_on) == (kind, "Apache-2.0", "DIV2K")
    assert card == read_card(target)
    monkeypatch.setattr("geosegsr.models.foreign.upscaler.measure", None)
    model = resolve_upscaler(target, card.scale, device="cpu")
    side = model.facts.min_size + 16
    np.testing.assert_array_equal(model(noise(3, side, side)), original(noise(3, side, side)))
    assert model.facts.name == "theirs"
    assert (model.facts.tile, model.facts.halo, model.facts.overlap) == (
        original.facts.tile, original.facts.halo, original.facts.overlap,
    )  # fmt: skip


def test_weights_published_as_safetensors_without_a_card_are_recognised(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "span.safetensors"
    save_file({k: v.contiguous() for k, v in foreign_network("SPAN").state_dict().items()}, path)
    assert is_foreign(path)
    assert shared_upscaler(path, 4, device="cpu").facts.scale == 4


class Alone(nn.Module):
    """A network without its second argument."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.network(lr)


def exported(network: nn.Module, path: Path, unit: int = 1) -> Path:
    """A torch.export program for tiles whose sides are multiples of a unit."""
    rows, cols = (torch.export.Dim(name, min=2, max=512) for name in ("rows", "cols"))
    shapes = ({2: rows * unit, 3: cols * unit},)
    example = torch.rand(1, 3, 64, 96)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("form", ["TorchScript", "torch.export"])
def test_a_program_runs_only_when_it_is_trusted(form, tmp_path):
    network = Reach().eval()
    if form == "TorchScript":
        path = tmp_path / "network.pt"
        torch.jit.script(network).save(str(path))
    else:
        path = exported(network, tmp_path / "network.pt2")
    with pytest.raises(CheckpointError, match="--trust-model"):
        load_foreign(path, device="cpu")
    model = load_foreign(path, device="cpu", trusted=True)
    lr = torch.from_numpy(noise(3, 40, 56))
    with torch.inference_mode():
        np.testing.assert_allclose(model(lr.numpy()), network(lr).numpy(), atol=1e-6)


@pytest.mark.slow
def test_an_exported_network_of_this_package_computes_the_same(tmp_path):
    torch.manual_seed(0)
    network = Alone(SeGSR(preset("compact", scale=2, **SMALL)).eval())
    lr = torch.from_numpy(noise(3, 128, 128))
    enlarge._kernel.cache_clear()  # as in a process that has computed nothing yet
    model = load_foreign(exported(network, tmp_path / "network.pt2", 16), device="cpu", trusted=True)
    with torch.inference_mode():
        expected = network(lr).numpy()
    np.testing.assert_allclose(model(lr.numpy()), expected, atol=1e-5)


def test_code_in_a_torchscript_file_does_not_run_untrusted(tmp_path):
    """torch runs a module's own __setstate__ when it loads the file: here it would raise."""

    class Trap(nn.Module):
        @torch.jit.export
        def __getstate__(self) -> tuple[int, bool]:
            return 0, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[int, bool]) -> None:
            self.training = state[1]
            raise RuntimeError("the trap ran")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    path = tmp_path / "trap.pt"
    torch.jit.script(Trap()).save(str(path))
    with pytest.raises(CheckpointError) as refused:
        load_foreign(path, device="cpu")
    assert "trap ran" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("noise.pth", b"\x80\x02no pickle", "damaged"),
        ("empty.pth", b"", "damaged"),
        ("noise.onnx", b"no graph", "no ONNX file"),
        ("noise.pt2", b"no program", "--trust-model"),
        ("noise.safetensors", b"\0" * 20, "not a safetensors file"),
    ],
)
def test_damaged_files_end_in_one_line(name, content, said, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as refused:
        resolve_upscaler(path, 4, device="cpu")
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


def test_a_cut_program_is_refused_without_a_traceback(tmp_path, caplog):
    whole = exported(Reach().eval(), tmp_path / "network.pt2").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_foreign(tmp_path / "cut.pt2", device="cpu", trusted=True)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_foreign_tensors_and_other_purposes_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="knows no architecture"):
        load_foreign(tmp_path / "other.pth")
    from spandrel.architectures.DnCNN import DnCNN

    saved(DnCNN(in_nc=3, out_nc=3, nc=64, nb=17), tmp_path / "denoise.pth", "")
    with pytest.raises(CheckpointError, match="another purpose"):
        load_foreign(tmp_path / "denoise.pth")
    state = foreign_network("SwinIR").state_dict()
    torch.save({"params": dict(list(state.items())[:-3])}, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        load_foreign(tmp_path / "cut.pth")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"params": Evil()}))
    with pytest.raises(CheckpointError, match="would run code"):
        load_foreign(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
