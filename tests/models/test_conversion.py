"""From published weights to a checkpoint, through the command line and with files that mean no good."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from geosegsr_cli.main import cli
from published_kit import GOLDEN, published_state

from geosegsr.errors import CheckpointError, ConfigError, GeoSegSRWarning, JobError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, read_card, save_checkpoint
from geosegsr.models.conversion import convert_published, drawn_prompts, read_tensors
from geosegsr.models.pretrained import load_tower, tower_fields
from geosegsr.models.segsr.network import SeGSR, preset


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The small fill as the authors' training program would save it, and its prompts beside it."""
    folder = tmp_path_factory.mktemp("published")
    state, prompts = published_state("segsr_small", GOLDEN)
    torch.save({"params": {}, "params_ema": state, "iter": 64000}, folder / "net_g.pth")
    torch.save({f"text_locals.{i}": p[:, None] for i, p in enumerate(prompts)}, folder / "prompts.pth")
    return folder


def test_the_command_line_gives_the_published_values(published, tmp_path):
    target = tmp_path / "x2.safetensors"
    source = str(published / "net_g.pth")
    done = CliRunner().invoke(
        cli, ["convert", source, "-o", str(target), "--prompts", str(published / "prompts.pth")]
    )
    assert done.exit_code == 0, done.output
    assert "x2, 3 bands" in done.output
    model, card = load_checkpoint(target)
    data = np.load(GOLDEN / "segsr_small.npz")
    with torch.inference_mode():
        sr = model.merge_lora()(torch.from_numpy(data["input"])).numpy()
    assert np.abs(sr - data["output"]).max() / np.abs(data["output"]).max() < 1e-4
    assert (card.scale, card.storage, card.tile, card.multiple_of) == (2, "float32", 64, 8)


def test_a_seed_is_recorded_and_said_aloud(published, tmp_path):
    for name in ("a", "b"):
        with pytest.warns(GeoSegSRWarning, match="at random from seed 7"):
            card = convert_published(
                published / "net_g.pth", tmp_path / f"{name}.safetensors", prompt_seed=7, name="m"
            )
    assert "seed 7" in card.notes
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    model, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(model.localisation.prompts, drawn_prompts(2, 32, 7))
    assert drawn_prompts(2, 512, 7).std() == pytest.approx(512**-0.5, rel=0.1)


def test_a_state_dict_with_holes_is_refused(published, tmp_path):
    state = torch.load(published / "net_g.pth")["params_ema"]
    del state["layers.1.residual_group.overlap_attn.proj.weight"]
    torch.save(state, tmp_path / "hole.pth")
    with pytest.raises(CheckpointError, match=r"units\.1\.overlap\.proj\.weight"):
        convert_published(tmp_path / "hole.pth", tmp_path / "x.safetensors", prompt_seed=1)


def test_prompts_must_come_from_somewhere_and_only_one_place(tmp_path):
    for given in ({}, {"prompts": "p.pth", "prompt_seed": 1}):
        with pytest.raises(ConfigError, match="--prompt-seed N"):
            convert_published(tmp_path / "a.pth", tmp_path / "b.safetensors", **given)


def test_an_existing_target_stays(tmp_path):
    (tmp_path / "b.safetensors").write_text("precious")
    with pytest.raises(JobError, match="--overwrite"):
        convert_published(tmp_path / "a.pth", tmp_path / "b.safetensors", prompt_seed=1)
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        convert_published(tmp_path / "a.pth", tmp_path / "b.pth", prompt_seed=1)


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


BAD_SOURCES = {
    "code": lambda p: torch.save({"params": {"a": torch.zeros(1)}, "x": Evil()}, p),
    "bare pickle": lambda p: p.write_bytes(pickle.dumps(Evil())),
    "text": lambda p: p.write_text("<html>404</html>"),
    "empty": lambda p: p.write_bytes(b""),
    "cut short": lambda p: (torch.save({"a": torch.zeros(1000)}, p), p.write_bytes(p.read_bytes()[:500])),
    "another network": lambda p: torch.save({"fc.weight": torch.zeros(3, 3)}, p),
    "numbers": lambda p: torch.save({"a": 3}, p),
    "a list": lambda p: torch.save([torch.zeros(3)], p),
    "a tensor": lambda p: torch.save(torch.zeros(3), p),
    "missing": lambda p: None,
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_files_that_are_no_state_dict_give_one_clear_line(kind, tmp_path, capsys):
    path = tmp_path / "net.pth"
    BAD_SOURCES[kind](path)
    with pytest.raises(CheckpointError) as refused:
        convert_published(path, tmp_path / "x.safetensors", prompt_seed=0)
    assert "net.pth" in str(refused.value) and "\n" not in str(refused.value)
    assert "never" not in capsys.readouterr().out
    assert not (tmp_path / "x.safetensors").exists()


def test_safetensors_sources_are_read_too(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["a"], torch.ones(2))
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        read_tensors(tmp_path / "a.safetensors")


# Pretrained towers

TOWER = {"tower_width": 32, "tower_layers": 2, "tower_heads": 2, "tower_grid": 4, "tower_output": 16}
SMALL = {**TOWER, "width": 8, "depths": (1,), "heads": 2, "window": 4, "squeeze": 4, "prompt_heads": 2}


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual."])
def test_towers_load_from_files_of_whole_models_bit_for_bit(tmp_path, prefix):
    from open_clip.transformer import VisionTransformer

    theirs = VisionTransformer(64, 16, 32, 2, 2, 4.0, output_dim=16).state_dict()
    torch.save(
        {**{prefix + k: v for k, v in theirs.items()}, **({"logit_scale": torch.ones(())} if prefix else {})},
        tmp_path / "clip.pt",
    )
    model = SeGSR(preset("segsr", scale=2, **SMALL, lora_rank=2))
    load_tower(model, tmp_path / "clip.pt")
    own = model.features.tower.base_weights()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[k], theirs[k]) for k in theirs)
    assert not any(p.requires_grad for p in own.values())


def test_a_tower_of_another_size_is_refused(tmp_path):
    from open_clip.transformer import VisionTransformer

    torch.save(VisionTransformer(64, 16, 48, 2, 2, 4.0, output_dim=16).state_dict(), tmp_path / "clip.pt")
    with pytest.raises(ConfigError, match="tower_width"):
        load_tower(SeGSR(preset("segsr", scale=2, **SMALL)), tmp_path / "clip.pt")


def test_tower_fields_of_open_clips_names():
    b16 = tower_fields("ViT-B-16:openai")
    assert preset("segsr", scale=4, **b16) == preset("segsr", scale=4)
    assert tower_fields("ViT-B-16")["tower_act"] == "gelu"
    assert tower_fields("ViT-L-14")["tower_heads"] == 16
    assert tower_fields("ViT-H-14")["tower_heads"] == 16
    for name in ("RN50", "coca_ViT-B-32", "ViT-Z"):
        with pytest.raises(ConfigError, match=name):
            tower_fields(name)


def test_weights_that_cannot_be_fetched_say_what_to_fetch(monkeypatch):
    def offline(*_):
        raise ConnectionError("offline")

    monkeypatch.setattr("open_clip.pretrained.download_pretrained", offline)
    model = SeGSR(preset("segsr", scale=2, **SMALL))
    with pytest.raises(
        CheckpointError, match=r"huggingface\.co/.*open_clip_model\.safetensors.*pass its path"
    ):
        load_tower(model, "ViT-B-16:openai")
    with pytest.raises(ConfigError, match="neither a file"):
        load_tower(model, "ViT-B-16:nobody")


# geosegsr models


@pytest.fixture
def checkpoint(tmp_path):
    model = SeGSR(preset("compact", scale=2, **TOWER, prompt_heads=2))
    save_checkpoint(
        tmp_path / "m.safetensors", model, ModelCard.of(model.config, "mine", licence="CC0", grey=True)
    )
    return tmp_path / "m.safetensors"


def test_models_lists_what_there_is(checkpoint, monkeypatch):
    listed = CliRunner().invoke(cli, ["models"])
    assert listed.exit_code == 0 and "bicubic" in listed.output
    monkeypatch.setattr("geosegsr.models.catalogue.bundled_checkpoints", lambda: [checkpoint])
    assert "bundled   x2 " in CliRunner().invoke(cli, ["models"]).output
    as_json = json.loads(CliRunner().invoke(cli, ["models", "--json"]).output)
    assert "nearest" in as_json["interpolation"] and as_json["checkpoints"][str(checkpoint)]["name"] == "mine"


def test_models_prints_a_card(checkpoint):
    shown = CliRunner().invoke(cli, ["models", str(checkpoint)])
    assert shown.exit_code == 0
    assert "licence     CC0" in shown.output and "single bands as grey" in shown.output
    as_json = json.loads(CliRunner().invoke(cli, ["models", str(checkpoint), "--json"]).output)
    assert ModelCard.from_dict(as_json) == read_card(checkpoint)


def test_the_commands_load_no_torch_until_they_run():
    code = "import sys; import geosegsr_cli.commands.convert, geosegsr_cli.commands.models; sys.exit('torch' in sys.modules)"
    paths = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode == 0


def test_a_card_is_shown_without_torch(checkpoint):
    code = (
        "import sys; from geosegsr.models.checkpoint import read_card; "
        f"read_card({str(checkpoint)!r}); sys.exit('torch' in sys.modules)"
    )
    paths = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode == 0
