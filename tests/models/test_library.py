"""Models that a user adds under a name."""

import functools
import hashlib
import http.server
import json
import threading

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from geosegsr_cli.main import cli
from training_kit import TINY

import geosegsr
from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import located, resolve_upscaler
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.library import add_model, find_in_library, library_models
from geosegsr.models.segsr.network import SeGSR, preset


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's folder."""
    monkeypatch.setenv("GEOSEGSR_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def file(tmp_path):
    """A checkpoint from elsewhere."""
    network = SeGSR(preset("compact", scale=2, bands=1, **TINY))
    path = tmp_path / "from" / "town-x2.safetensors"
    path.parent.mkdir()
    save_checkpoint(path, network, ModelCard.of(network.config, "town", trained_on="a town"))
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_added_model_is_found_by_its_name_everywhere(file, folder):
    assert add_model(str(file)) == folder / "town-x2.safetensors"
    assert located("town-x2") == folder / "town-x2.safetensors"
    assert resolve_upscaler("town-x2", 2).facts.bands == 1
    assert add_model(str(file)) == folder / "town-x2.safetensors"  # again: the same file
    assert library_models() == (folder / "town-x2.safetensors",)
    assert [path.name for path in folder.iterdir()] == ["town-x2.safetensors"]
    with pytest.raises(ConfigError, match="nor one that geosegsr models lists"):
        resolve_upscaler("village", 2)


def test_a_name_that_is_taken_or_impossible_is_refused(file, folder):
    add_model(str(file), name="mine")
    other = file.with_name("other.safetensors")
    network = SeGSR(preset("compact", scale=2, bands=2, **TINY))
    save_checkpoint(other, network, ModelCard.of(network.config, "other"))
    before = digest(folder / "mine.safetensors")
    with pytest.raises(ConfigError, match=r"another model has that name.*--name"):
        add_model(str(other), name="mine")
    assert digest(folder / "mine.safetensors") == before
    for name in ("bundled", "bicubic", "../up", "a/b", "", ".hidden", "x.safetensors"):
        with pytest.raises(ConfigError, match="Cannot call a model"):
            add_model(str(file), name=name or " ")
    assert find_in_library("../mine") is None


def test_checksums_are_checked(file, folder):
    right = digest(file)
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {right}, and 0000"):
        add_model(str(file), sha256="0" * 64)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.with_name("bad.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"from/bad.safetensors.*checksum of its tensors"):
        add_model(str(file.with_name("bad.safetensors")))
    file.with_name("cut.safetensors").write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=r"from/cut.safetensors"):
        add_model(str(file.with_name("cut.safetensors")))
    assert not list(folder.iterdir())
    assert add_model(str(file), sha256=right.upper()).exists()


@pytest.fixture
def server(file):
    """The address of a server of the checkpoint's folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(file.parent))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_model_is_fetched_from_an_address(server, file, folder):
    path = add_model(f"{server}/town-x2.safetensors?token=secret")
    assert path == folder / "town-x2.safetensors"
    assert digest(path) == digest(file)
    with pytest.raises(
        CheckpointError, match=r"Cannot fetch .*HTTPError.*geosegsr models add FILE"
    ) as caught:
        add_model(f"{server}/none.safetensors?token=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(CheckpointError, match="On a machine with a network"):
        add_model("http://127.0.0.1:9/none.safetensors")


def test_a_model_is_fetched_from_hugging_face(file, folder, monkeypatch):
    import huggingface_hub as hub

    stated = digest(file)
    asked = []
    monkeypatch.setattr(hub, "list_repo_files", lambda name, revision: ["README.md", "town-x2.safetensors"])
    monkeypatch.setattr(hub, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(file))
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: type("Meta", (), {"etag": stated}))
    assert add_model("hf:someone/town") == folder / "town.safetensors"
    assert add_model("hf:someone/town/town-x2.safetensors@v1") == folder / "town-x2.safetensors"
    assert asked[-1] == (("someone/town", "town-x2.safetensors"), {"revision": "v1"})
    stated = "1" * 64
    with pytest.raises(CheckpointError, match="SHA-256"):
        add_model("hf:someone/town", name="again")
    monkeypatch.setattr(hub, "list_repo_files", lambda name, revision: ["a.safetensors", "b.safetensors"])
    with pytest.raises(ConfigError, match="it has 2 files"):
        add_model("hf:someone/town", name="again")

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "list_repo_files", offline)
    with pytest.raises(CheckpointError, match=r"huggingface.co/someone/town.*On a machine with a network"):
        add_model("hf:someone/town", name="again")
    with pytest.raises(ConfigError, match="needed is hf:OWNER/NAME"):
        add_model("hf:town", name="again")


def test_the_command_adds_lists_and_shows(file, folder):
    def run(*arguments):
        return CliRunner().invoke(cli, ["models", *map(str, arguments)])

    added = run("add", file, "--name", "mine")
    assert added.exit_code == 0, added.output
    assert "--model mine" in added.output
    (folder / "broken.safetensors").write_bytes(b"nothing")
    listed = run()
    assert any(line.startswith("mine") and "x2" in line for line in listed.output.splitlines())
    assert "broken.safetensors" in listed.output
    assert "trained on a town" in run("mine").output.replace("trained on   ", "trained on ").replace(
        "  ", " "
    )
    assert str(folder / "mine.safetensors") in json.loads(run("--json").stdout)["checkpoints"]
    assert run("mine", "--name", "x").exit_code == 2
    assert run("add").exit_code == 2


def test_an_added_model_upscales(file, tmp_path):
    add_model(str(file), name="mine")
    scene = xr.DataArray(np.arange(400, dtype=np.uint8).reshape(1, 20, 20), dims=("band", "y", "x"))
    assert geosegsr.super_resolve(scene, 2, model="mine").shape == (1, 40, 40)
