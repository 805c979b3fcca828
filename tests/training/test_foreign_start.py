"""Networks of other projects are trained further: the loss falls, a resumed run is an unbroken one, the result runs."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import rasterio
import torch
from foreign_networks import NETWORKS, foreign_network, saved_foreign
from training_kit import as_dtype, folder_of, ground, write

import geosegsr
from geosegsr.errors import Cancelled, CheckpointError, ConfigError, GeoSegSRWarning
from geosegsr.models.catalogue import load_foreign
from geosegsr.models.checkpoint import load_tensors, read_card
from geosegsr.models.contract import fitted
from geosegsr.models.foreign.conversion import convert_foreign
from geosegsr.models.foreign.network import ForeignNetwork, load_foreign_network, save_foreign_network
from geosegsr.training.config import resolve_config
from geosegsr.training.events import Stepped
from geosegsr.training.loop import train
from geosegsr.training.run_folder import RunFolder

pytest.importorskip("spandrel")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A converted SwinIR network of scale 2."""
    folder = tmp_path_factory.mktemp("start")
    convert_foreign(saved_foreign("SwinIR", folder), folder / "theirs.safetensors", licence="Apache-2.0")
    return folder / "theirs.safetensors"


def config(images, start, **changes):
    settings = {
        "data.hr": [str(images)], "data.patch": 8, "data.val_share": 0.25, "model.scale": 2, "model.init": str(start),
        "optimiser.batch": 2, "optimiser.learning_rate": 2e-3, "schedule.steps": 30, "schedule.warmup_steps": 2,
        "validation.every": 10, "validation.tile": 32, "validation.bundled": False, "checkpoint_every": 10,
        "device": "cpu", "precision": "fp32", "threads": 1,
    }  # fmt: skip
    return resolve_config(None, None, {**settings, **changes})


@pytest.fixture(scope="module")
def unbroken(images, start, tmp_path_factory):
    """A whole run: its folder, result and losses."""
    losses = []
    folder = tmp_path_factory.mktemp("runs") / "whole"

    def note(event):
        if isinstance(event, Stepped):
            losses.append(event.loss)

    return folder, train(config(images, start), folder, on_event=note), losses


def test_thirty_steps_lower_the_loss_and_raise_the_score(unbroken):
    _, result, losses = unbroken
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert result.score.main > result.start.main + 1


def test_the_result_is_a_checkpoint_as_the_start_was(unbroken, start, tmp_path):
    folder, result, _ = unbroken
    card, before = read_card(result.model), read_card(start)
    assert (card.architecture, card.licence, card.scale) == ("SwinIR", "Apache-2.0", 2)
    assert card.name == "SwinIR, fine-tuned"
    assert card.parents == (f"SwinIR (sha256 {before.sha256})",)
    assert card.config["bytes_a_pixel"] == before.config["bytes_a_pixel"]
    assert card.multiple_of == before.multiple_of
    scene = write(tmp_path / "scene.tif", as_dtype(ground(3, 37, 45), "uint16"))
    with pytest.warns(GeoSegSRWarning, match="behind bicubic"):  # of random weights after thirty steps
        geosegsr.upscale(scene, tmp_path / "out.tif", 2, result.model)
    with rasterio.open(tmp_path / "out.tif") as out:
        assert (out.shape, out.dtypes[0]) == ((74, 90), "uint16")
    again = config(folder.parents[1], result.model)
    assert again.model.preset == "foreign"
    assert resolve_config(None, None, {"model.init": str(start)}).precision == "fp32"


def test_a_resumed_run_is_an_unbroken_one(images, start, unbroken, tmp_path):
    def interrupt(event):
        if isinstance(event, Stepped) and event.step == 17:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    with pytest.raises(Cancelled):
        train(config(images, start), folder, on_event=interrupt)
    result = train(RunFolder(folder).read_config(), folder, resume=True)
    assert result.score == unbroken[1].score
    for name, values in load_tensors(unbroken[1].model)[0].items():
        torch.testing.assert_close(load_tensors(result.model)[0][name], values, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_every_architecture_learns_and_is_read_again(kind, tmp_path):
    """A step changes what each network computes, and its checkpoint gives the same pixels."""
    source = saved_foreign(kind, tmp_path)
    card = convert_foreign(source, tmp_path / "start.safetensors")
    network, _ = load_foreign_network(tmp_path / "start.safetensors")
    lr = torch.from_numpy(np.random.default_rng(0).random((2, 3, 19, 26), np.float32))
    hr = torch.nn.functional.interpolate(lr, scale_factor=card.scale)
    optimiser = torch.optim.Adam([p for p in network.train().parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(5):
        loss = (network(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        with torch.inference_mode():  # as a validation does between two steps
            network.eval()(lr)
        network.train()
    assert losses[-1] < losses[0]
    save_foreign_network(tmp_path / "tuned.safetensors", network, card)
    model = load_foreign(tmp_path / "tuned.safetensors", device="cpu")
    side = fitted(model.facts.min_size + 1, model.facts.multiple_of, 1)
    tile = np.random.default_rng(1).random((1, 3, side, side), np.float32)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(tile)).numpy()
    np.testing.assert_allclose(model(tile), expected, atol=1e-5)


def test_any_size_is_padded_and_cropped():
    network = ForeignNetwork(foreign_network("HAT").state_dict())
    assert network(torch.rand(1, 3, 5, 50)).shape == (1, 3, 10, 100)


def test_normalisation_keeps_its_statistics():
    network = ForeignNetwork(foreign_network("DAT").state_dict()).train()
    before = {name: value.clone() for name, value in network.tensors.items() if "running" in name}
    network(torch.rand(2, 3, 16, 16))
    assert before
    for name, value in before.items():
        assert torch.equal(network.tensors[name], value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.scale": 4}, "Pass --scale 2"),
        ({"model.tower": "ViT-B-32"}, "--tower: that is for SeG-SR networks"),
        ({"model.train": "lora"}, "--train-only"),
        ({"model.changes": {"width": 8}}, "model.changes"),
        ({"model.equivariance": "p4"}, "model.equivariance"),
    ],
)
def test_what_does_not_apply_is_refused_before_anything_is_written(changes, said, images, start, tmp_path):
    with pytest.raises(ConfigError, match=said):
        train(config(images, start, **changes), tmp_path / "run")


def test_an_unconverted_file_is_to_be_converted_first(images, tmp_path):
    with pytest.raises(CheckpointError, match=r"Convert it first: geosegsr convert .*SPAN\.pth -o"):
        train(config(images, saved_foreign("SPAN", tmp_path), **{"model.scale": 4}), tmp_path / "run")


def test_bands_in_another_order_are_refused(start, tmp_path):
    path = write(tmp_path / "hr" / "a.tif", as_dtype(ground(3, 64, 72), "uint8"))
    with rasterio.open(path, "r+") as file:
        for band, name in enumerate(("blue", "green", "red"), 1):
            file.set_band_description(band, name)
    with pytest.raises(ConfigError, match="Pass --bands 3,2,1"):
        train(config(path.parent, start), tmp_path / "run")
