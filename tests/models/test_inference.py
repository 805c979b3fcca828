"""The torch side of the Upscaler contract: the same values whatever the batch, thread, process or memory."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geosegsr.context import cores_of_a_block
from geosegsr.errors import CheckpointError, ConfigError, GeoSegSRWarning
from geosegsr.models import device, inference
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import load_upscaler
from geosegsr.models.checkpoint import load_checkpoint, read_card, save_checkpoint
from geosegsr.models.contract import Facts, Upscaler
from geosegsr.models.device import BATCH_PIXELS, batch_size, choose_device, choose_precision
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.models.segsr.precision import without_tf32
from tests.kits.small_network import SMALL


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    model = SeGSR(preset("compact", scale=2, **SMALL))
    file = tmp_path_factory.mktemp("model") / "m.safetensors"
    card = ModelCard.of(model.config, "small", tile=64, overlap=16, halo=4)
    save_checkpoint(file, model, card)
    return file


@pytest.fixture
def tiles():
    return np.random.default_rng(0).random((5, 3, 48, 32), dtype=np.float32)


@pytest.fixture
def upscaler(path):
    return load_upscaler(path, device="cpu", precision="fp32")


def test_it_is_an_upscaler_with_the_cards_facts(upscaler, path):
    assert isinstance(upscaler, Upscaler)
    card = read_card(path)
    assert upscaler.facts == Facts(
        "small", f"{card.sha256}-fp32", scale=2, bands=3, tile=64, overlap=16, halo=4, multiple_of=1, min_size=16,
        batch=1, linear=False, device="cpu", precision="fp32", card=card,
    )  # fmt: skip
    bf16 = load_upscaler(path, device="cpu", precision="bf16").facts
    assert bf16.fingerprint == f"{card.sha256}-bf16"


def test_it_computes_what_the_network_does(upscaler, path, tiles):
    model, _ = load_checkpoint(path)
    sr = upscaler(tiles)
    assert sr.dtype == np.float32 and sr.shape == (5, 3, 96, 64)
    with torch.inference_mode():
        np.testing.assert_allclose(sr, model(torch.from_numpy(tiles)).numpy(), atol=1e-5)
        guided = model(torch.from_numpy(tiles), torch.from_numpy(tiles[:, ::-1].copy())).numpy()
    np.testing.assert_allclose(upscaler(tiles, tiles[:, ::-1]), guided, atol=1e-5)


@pytest.mark.parametrize("name", ["segsr", "segsr-swinir", "segsr-rcan", "compact"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tile_has_the_same_bits_alone_and_among_others(tmp_path, name, precision, monkeypatch):
    monkeypatch.setattr(inference, "NARROW", 0)
    small = {**SMALL, "heads": 2, "window": 8} if name in ("segsr", "segsr-swinir") else SMALL
    model = SeGSR(preset(name, scale=2, **{**small, "head_width": 8, "modulation_width": 4}))
    save_checkpoint(tmp_path / "m.safetensors", model, ModelCard.of(model.config, name))
    upscaler = load_upscaler(tmp_path / "m.safetensors", device="cpu", precision=precision)
    tiles = np.random.default_rng(1).random((3, 3, 32, 16), dtype=np.float32)
    together = upscaler(tiles)
    for i in range(3):
        assert np.array_equal(upscaler(tiles[i : i + 1])[0], together[i])


def test_tiles_of_narrow_scenes_are_computed_in_float32(path, upscaler):
    rough = load_upscaler(path, device="cpu", precision="bf16")
    tiles = np.random.default_rng(1).random((1, 3, 48, 41), dtype=np.float32)
    assert not np.array_equal(rough(tiles), upscaler(tiles))
    for narrow in (tiles[..., :40], tiles[:, :, :40], tiles[:, :, :8, :1]):
        assert np.array_equal(rough(narrow), upscaler(narrow))
    assert rough.workspace_bytes(48, 40) == upscaler.workspace_bytes(48, 40)
    assert rough.workspace_bytes(48, 48) < upscaler.workspace_bytes(48, 48)
    assert rough.facts.precision == "bf16"
    assert rough.in_float32() is rough.in_float32()


def test_a_file_that_was_replaced_is_not_loaded_again_for_narrow_scenes(path, tmp_path):
    copy = tmp_path / "m.safetensors"
    copy.write_bytes(path.read_bytes())
    rough = load_upscaler(copy, device="cpu", precision="bf16")
    save_checkpoint(copy, SeGSR(preset("compact", scale=2, **SMALL)), read_card(path))
    with pytest.raises(CheckpointError, match="was replaced during the run"):
        rough(np.zeros((1, 3, 16, 16), np.float32))


def test_a_partial_batch_is_filled_up_to_the_fixed_size(upscaler, tiles):
    seen = []
    network = upscaler.network
    upscaler.network = lambda lr, guide: (seen.append(len(lr)), network(lr, guide))[1]
    upscaler.batch = 2
    sr = upscaler(tiles)
    assert seen == [2, 2, 2]
    upscaler.batch = 1
    np.testing.assert_allclose(sr, upscaler(tiles), atol=1e-5)


def box_mean(reach, scale):
    """A network whose pixels depend on lr pixels up to `reach` away, and not on the size of its tile."""

    def network(lr, guide=None):
        side = 2 * reach + 1
        wide = torch.nn.functional.pad(lr, (reach, reach, reach, reach), mode="reflect")
        mean = torch.nn.functional.avg_pool2d(wide, side, stride=1)
        return torch.nn.functional.interpolate(mean, scale_factor=scale, mode="nearest")

    return network


@pytest.mark.filterwarnings("ignore::geosegsr.errors.GeoSegSRWarning")
@pytest.mark.parametrize(("halo", "multiple_of"), [(7, 1), (3, 4)])
@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (61, 40)])
def test_a_tile_split_for_want_of_memory_keeps_its_context(path, shape, halo, multiple_of):
    """As far as the model's halo, and the multiple that its sides must be, reach."""
    upscaler = load_upscaler(path, device="cpu", precision="fp32")
    upscaler.facts = replace(upscaler.facts, halo=halo, multiple_of=multiple_of)
    network = box_mean(max(halo, multiple_of), upscaler.facts.scale)
    calls = []

    def short_of_memory(lr, guide=None):
        calls.append(lr.shape[-2:])
        if lr.shape[-2:] == shape:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return network(lr)

    lr = np.random.default_rng(0).random((1, 3, *shape), dtype=np.float32)
    upscaler.network = network
    whole = upscaler(lr)
    upscaler.network = short_of_memory
    np.testing.assert_allclose(upscaler(lr), whole, atol=1e-6)
    assert len(calls) == 3


def watch(upscaler):
    """Have every call of the network leave how many calls were inside, and how many threads it had."""
    inside, seen = [], []
    network = upscaler.network

    def watched(*tensors):
        inside.append(1)
        seen.append((len(inside), torch.get_num_threads()))
        out = network(*tensors)
        inside.pop()
        return out

    upscaler.network = watched
    return seen


def test_threads_take_turns_on_a_gpu_and_get_their_own_tiles(upscaler, tiles, monkeypatch):
    expected = upscaler(tiles)
    monkeypatch.setattr(upscaler, "device", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(inference, "sent", lambda array, device: torch.from_numpy(array))
    seen = watch(upscaler)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: upscaler(tiles[i : i + 1]), range(5)))
    assert {most for most, _ in seen} == {1}
    assert np.array_equal(np.concatenate(results), expected)


def test_a_gpu_is_free_for_others_while_a_result_is_on_its_way(upscaler, tiles, monkeypatch):
    expected, held = upscaler(tiles), []

    class Watched(device.Returning):
        def __init__(self, result):
            held.append(upscaler._lock.locked())
            super().__init__(result)

        def array(self):
            held.append(upscaler._lock.locked())
            return super().array()

    monkeypatch.setattr(upscaler, "device", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(inference, "sent", lambda array, device: torch.from_numpy(array))
    monkeypatch.setattr(inference, "Returning", Watched)
    assert np.array_equal(upscaler(tiles), expected)
    assert held == [True, False] * len(tiles)


def float32_settings():
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    return cudnn.fp32_precision, cuda.fp32_precision, torch.get_float32_matmul_precision()


@pytest.fixture(params=["highest", "high"])
def host_precision(request):
    """What the program around geosegsr has asked of float32 products."""
    mkldnn, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = mkldnn.fp32_precision, cuda.fp32_precision
    if request.param != "highest":
        torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")
    mkldnn.fp32_precision, cuda.fp32_precision = before


def test_on_a_gpu_float32_is_not_rounded_to_tf32(upscaler, tiles, monkeypatch, host_precision):
    monkeypatch.setattr(upscaler, "device", SimpleNamespace(type="cuda"))
    monkeypatch.setattr(inference, "sent", lambda array, device: torch.from_numpy(array))
    before, seen, network = float32_settings(), [], upscaler.network
    upscaler.network = lambda *tensors: (seen.append(float32_settings()), network(*tensors))[1]
    upscaler(tiles)
    assert set(seen) == {("ieee", "ieee", "highest")}
    assert float32_settings() == before


def test_tf32_stays_off_until_the_last_call_ends(host_precision):
    before = float32_settings()
    first, second = without_tf32(), without_tf32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert float32_settings() == ("ieee", "ieee", "highest")
    second.__exit__(None, None, None)
    assert float32_settings() == before


def test_on_a_cpu_a_call_uses_the_cores_of_its_block(upscaler, tiles):
    before = torch.get_num_threads()
    seen = watch(upscaler)

    def call(i):
        cores_of_a_block.set(3)
        return upscaler(tiles[i : i + 1])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(5)))
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {before}
    assert {threads for _, threads in seen} == {3}
    np.testing.assert_allclose(np.concatenate(results), upscaler(tiles), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("side", [32, 48, 96])
def test_the_cores_of_a_block_change_no_bit(side, precision, tmp_path):
    """A tower with few tokens, adapters and a sensor: MKL splits products of few rows by the number of threads."""
    torch.manual_seed(0)
    model = SeGSR(preset("compact", scale=2, depths=(1, 1), lora_rank=2, sensor_width=8))
    save_checkpoint(tmp_path / "m.safetensors", model, ModelCard.of(model.config, "m"))
    tile = np.random.default_rng(1).random((1, 3, side, side), dtype=np.float32)

    def call(cores):
        cores_of_a_block.set(cores)
        torch.set_num_threads(cores)  # while the file is opened, too
        own = load_upscaler(tmp_path / "m.safetensors", device="cpu", precision=precision)
        return own.for_sensor((0.6, 0.2, 0.01, 0.0))(tile)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1) as pool:
            first, *others = pool.map(call, (1, 2, 3, 5, 8))
    finally:
        torch.set_num_threads(before)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_another_process_gets_the_same_model(upscaler, tiles):
    copy = pickle.loads(pickle.dumps(upscaler))
    assert copy.facts == upscaler.facts
    assert np.array_equal(copy(tiles), upscaler(tiles))


def test_a_file_that_changed_meanwhile_is_refused(tmp_path, path):
    file = tmp_path / "m.safetensors"
    file.write_bytes(path.read_bytes())
    sent = pickle.dumps(load_upscaler(file, device="cpu"))
    model, card = load_checkpoint(file)
    torch.nn.init.zeros_(model.conv_first.weight)
    save_checkpoint(file, model, card)
    with pytest.raises(CheckpointError, match="changed"):
        pickle.loads(sent)


# Out of memory


def limited(network, most_pixels, calls=None):
    """The network, on a device where only so many pixels fit."""

    def run(lr, guide=None):
        if calls is not None:
            calls.append(tuple(lr.shape))
        if lr.shape[0] * lr.shape[2] * lr.shape[3] > most_pixels:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return network(lr, guide)

    return run


def test_out_of_memory_halves_the_batch_and_tries_the_same_tiles_again(upscaler, tiles):
    expected, calls = upscaler(tiles), []
    upscaler.batch = 4
    upscaler.network = limited(upscaler.network, 48 * 32, calls)
    with pytest.warns(GeoSegSRWarning) as told:
        sr = upscaler(tiles)
    assert np.array_equal(sr, expected)
    assert [shape[0] for shape in calls] == [4, 2, 1, 1, 1, 1, 1]
    assert [str(w.message).split(":")[0] for w in told] == ["out of memory on cpu"] * 2
    assert upscaler.batch == 1


def test_out_of_memory_with_one_tile_splits_it(upscaler):
    upscaler.network = lambda lr, guide=None: lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    tiles = np.random.default_rng(0).random((2, 3, 50, 37), dtype=np.float32)
    expected = upscaler(tiles)
    calls = []
    upscaler.network = limited(upscaler.network, 700, calls)
    with pytest.warns(GeoSegSRWarning) as told:
        assert np.array_equal(upscaler(tiles), expected)
        assert np.array_equal(upscaler(tiles, tiles), expected)
    assert any("splitting a tile of 37 x 50" in str(w.message) for w in told)
    assert min(shape[2] for shape in calls) > 2 * upscaler.facts.halo


def test_pieces_of_the_real_network_stay_close_to_the_whole(upscaler):
    tile = np.random.default_rng(0).random((1, 3, 128, 64), dtype=np.float32)
    expected = upscaler(tile)
    upscaler.network = limited(upscaler.network, 96 * 64)
    with pytest.warns(GeoSegSRWarning) as told:
        sr = upscaler(tile)
    assert all("splitting a tile" in str(w.message) for w in told)
    assert sr.shape == expected.shape and np.abs(sr - expected).max() < 0.05


def test_out_of_memory_for_any_piece_is_said_in_one_line(upscaler, tiles):
    upscaler.network = limited(upscaler.network, 0)
    with pytest.warns(GeoSegSRWarning), pytest.raises(ConfigError, match="out of memory"):
        upscaler(tiles)


def test_other_faults_are_not_taken_for_memory(upscaler, tiles):
    def broken(lr, guide=None):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    upscaler.network = broken
    with pytest.raises(RuntimeError, match="mat1"):
        upscaler(tiles)


# Devices and precisions


def test_arrays_that_do_not_fit_are_refused(upscaler, tiles):
    with pytest.raises(ConfigError, match=r"\(N, 3, h, w\)"):
        upscaler(tiles[:, :2])
    with pytest.raises(ConfigError, match="guide"):
        upscaler(tiles, tiles[:2])


def test_unknown_devices_name_those_that_exist():
    with pytest.raises(ConfigError, match="this machine has cpu"):
        choose_device("tpu")
    with pytest.raises(ConfigError, match="cuda:99"):
        choose_device("cuda:99")
    assert choose_device("cpu").type == "cpu"


def test_precisions_of_a_cpu(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    assert choose_precision("auto", cpu) == "bf16"
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    assert choose_precision("auto", cpu) == "fp32"
    assert choose_precision("bf16", cpu) == "bf16"
    with pytest.raises(ConfigError, match="fp16 on a CPU"):
        choose_precision("fp16", cpu)
    with pytest.raises(ConfigError, match="It can be"):
        choose_precision("fp8", cpu)


def test_a_batch_on_a_gpu_fits_into_half_of_the_free_memory():
    assert batch_size(288, 10**8, 10**10) == BATCH_PIXELS // 288**2 == 4
    assert batch_size(64, 10**8, 10**11) == 81
    assert batch_size(64, 10**8, 2 * 10**9) == 10
    assert batch_size(64, 10**8, 10**8) == batch_size(1000, 10**8, 10**12) == 1


def test_threads_share_a_model_whose_batches_are_halved_once(upscaler, tiles):
    expected, calls = upscaler(tiles), []
    upscaler.batch = 4
    upscaler.network = limited(upscaler.network, 2 * 48 * 32, calls)
    with pytest.warns(GeoSegSRWarning), ThreadPoolExecutor(3) as pool:
        results = list(pool.map(upscaler, [tiles] * 6))
    assert upscaler.batch == 2
    for sr in results:
        np.testing.assert_allclose(sr, expected, atol=1e-5)


@pytest.mark.gpu
def test_threads_that_share_a_gpu_get_their_own_results(path, tiles):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cuda = load_upscaler(path, device="cuda", precision="fp32")
    inputs = [np.roll(tiles, shift, axis=3) for shift in range(16)]
    expected = [cuda(lr) for lr in inputs]
    with ThreadPoolExecutor(8) as pool:
        for sr, alone in zip(pool.map(cuda, inputs), expected, strict=True):
            assert np.array_equal(sr, alone)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(path, tiles, upscaler):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for precision, tolerance in (("fp32", 1e-3), ("bf16", 0.05), ("fp16", 0.02)):
        cuda = load_upscaler(path, device="cuda", precision=precision)
        assert cuda.facts.batch > 1
        np.testing.assert_allclose(cuda(tiles), upscaler(tiles), atol=tolerance)
        assert np.array_equal(cuda(tiles[3:4])[0], cuda(tiles)[3])


FAULTS = """
import resource, sys, threading
from geosegsr.cpu import keep_freed_memory
size = int(sys.argv[1])
keep_freed_memory(of_any_size=size > 32 << 20)
def layers():
    for _ in range(200 * (8 << 20) // size):
        bytearray(b"x") * size
thread = threading.Thread(target=layers)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start(); thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_of_one_layer_serves_the_next_unless_the_environment_decides():
    def faults(size=8 << 20, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, str(size)],
            env={**environment, **more},
            capture_output=True,
            check=True,
        )
        return int(done.stdout)

    once = (8 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults() < 3 * once
    assert faults(64 << 20) < 3 * 8 * once
    assert faults(MALLOC_ARENA_MAX="8", MALLOC_MMAP_THRESHOLD_="1000000") > 100 * once
