"""Checkpoints: the same bytes for the same model, and one clear line for everything that is none."""

import json
import struct

import pytest
import torch

from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, read_card, save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset

SMALL = {
    "width": 8,
    "depths": (1, 1),
    "modulation_width": 4,
    "tower_width": 16,
    "tower_layers": 1,
    "tower_heads": 2,
    "tower_grid": 2,
    "tower_output": 16,
    "prompt_heads": 2,
}


def small_model(**changes) -> SeGSR:
    torch.manual_seed(0)
    return SeGSR(preset("compact", scale=2, **{**SMALL, **changes})).eval()


@pytest.fixture
def file(tmp_path):
    model = small_model()
    save_checkpoint(
        tmp_path / "m.safetensors", model, ModelCard.of(model.config, "small", metrics={"psnr": 30.5})
    )
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("overlap", "halo", "fits"),
    [(0, 0, True), (8, 4, True), (9, 4, True), (7, 4, False), (5, 4, False), (63, 31, True), (64, 4, False)],
)
def test_a_cards_overlap_holds_two_halos_and_leaves_a_stride(overlap, halo, fits):
    """With less, neither of two neighbours would have the whole context of the pixels between them."""
    config = small_model().config
    sizes = {"tile": 64, "overlap": overlap, "halo": halo}
    if fits:
        card = ModelCard.of(config, "small", **sizes)
        assert (card.overlap, card.halo) == (overlap, halo)
    else:
        with pytest.raises(ConfigError, match=f"overlap {overlap}, halo {halo}"):
            ModelCard.of(config, "small", **sizes)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_written_read_and_written_again_is_the_same_file(tmp_path, storage, lora_rank):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    model = small_model(lora_rank=lora_rank)
    save_checkpoint(first, model, ModelCard.of(model.config, "small", storage=storage))
    loaded, card = load_checkpoint(first)
    save_checkpoint(second, loaded, card)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_loaded_model_computes_and_trains_like_the_saved_one(tmp_path):
    model = small_model(lora_rank=2)
    save_checkpoint(tmp_path / "m.safetensors", model, ModelCard.of(model.config, "small"))
    loaded, _ = load_checkpoint(tmp_path / "m.safetensors")
    lr = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded(lr), model(lr))
    assert not loaded.training
    assert [(n, p.requires_grad) for n, p in loaded.named_parameters()] == [
        (n, p.requires_grad) for n, p in model.named_parameters()
    ]


def test_merged_models_are_saved_as_what_they_are(tmp_path):
    model = small_model(lora_rank=2)
    card = ModelCard.of(model.config, "small")
    save_checkpoint(tmp_path / "m.safetensors", model.merge_lora(), card)
    assert load_checkpoint(tmp_path / "m.safetensors")[0].config.lora_rank == 0


def test_half_precision_halves_the_file(tmp_path, file):
    model, card = load_checkpoint(file)
    save_checkpoint(
        tmp_path / "half.safetensors", model, ModelCard.from_dict({**card.to_dict(), "storage": "bfloat16"})
    )
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * file.stat().st_size


def test_a_card_is_read_without_the_tensors(file):
    card = read_card(file)
    assert (card.name, card.scale, card.bands, card.metrics) == ("small", 2, 3, {"psnr": 30.5})
    assert card.band_names == ("red", "green", "blue") and len(card.sha256) == 64


def test_the_only_safetensors_reader_needed_is_anybodys(file):
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        assert json.loads(opened.metadata()["geosegsr"])["card"]["name"] == "small"


def rewritten(file, change):
    """The file with its header passed through `change`."""
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def in_card(change):
    def changed(header):
        entry = json.loads(header["__metadata__"]["geosegsr"])
        change(entry["card"])
        header["__metadata__"]["geosegsr"] = json.dumps(entry)

    return changed


def set_config(**values):
    return in_card(lambda card: card["config"].update(values))


FIRST = "conv_first.weight"
DAMAGES = {
    "no card": lambda f: rewritten(f, lambda h: h.pop("__metadata__") and None),
    "card of another kind": lambda f: rewritten(f, lambda h: h["__metadata__"].update(geosegsr="[]")),
    "deep card": lambda f: rewritten(f, lambda h: h["__metadata__"].update(geosegsr="[" * 10**5)),
    "unknown config": lambda f: rewritten(f, set_config(run_this="rm")),
    "absurd width": lambda f: rewritten(f, set_config(width=10**9)),
    "large width": lambda f: rewritten(f, set_config(width=2048)),
    "absurd depth": lambda f: rewritten(f, set_config(depths=[10**9])),
    "many units": lambda f: rewritten(f, set_config(depths=[64] * 32)),
    "wrong type": lambda f: rewritten(f, set_config(width="48")),
    "other scale": lambda f: rewritten(f, in_card(lambda card: card.update(scale=4))),
    "wrong bands": lambda f: rewritten(f, in_card(lambda card: card.update(band_names=["red"]))),
    "wrong tile": lambda f: rewritten(f, in_card(lambda card: card.update(tile=-16))),
    "wrong radiometry": lambda f: rewritten(
        f, in_card(lambda card: card.update(radiometry={"kind": "range", "lo": 3, "hi": 1}))
    ),
    "wrong shape": lambda f: rewritten(f, lambda h: h[FIRST].update(shape=[3, 8, 3, 3])),
    "huge shape": lambda f: rewritten(f, lambda h: h[FIRST].update(shape=[2**40, 2**40])),
    "negative shape": lambda f: rewritten(f, lambda h: h[FIRST].update(shape=[-1, -216])),
    "foreign dtype": lambda f: rewritten(f, lambda h: h[FIRST].update(dtype="I64")),
    "missing tensor": lambda f: rewritten(f, lambda h: h.pop(FIRST) and None),
    "renamed tensor": lambda f: rewritten(f, lambda h: h.update(x=h.pop(FIRST))),
    "wild offsets": lambda f: rewritten(f, lambda h: h[FIRST].update(data_offsets=[0, 2**60])),
    "entry of another kind": lambda f: rewritten(f, lambda h: h.update({FIRST: 3})),
    "header that is a list": lambda f: rewritten(f, lambda h: [h]),
    "cut short": lambda f: f.write_bytes(f.read_bytes()[:-1]),
    "cut in the header": lambda f: f.write_bytes(f.read_bytes()[:100]),
    "too long": lambda f: f.write_bytes(f.read_bytes() + b"\0\0\0\0"),
    "one bit": lambda f: f.write_bytes(
        f.read_bytes()[:-100] + bytes([f.read_bytes()[-100] ^ 1]) + f.read_bytes()[-99:]
    ),
    "empty": lambda f: f.write_bytes(b""),
    "huge header": lambda f: f.write_bytes(struct.pack("<Q", 2**63) + f.read_bytes()[8:]),
    "text": lambda f: f.write_text("Not found\n" * 1000),
    "pickle": lambda f: torch.save({"a": torch.zeros(3)}, f),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_are_no_checkpoint_give_one_clear_line(file, damage):
    DAMAGES[damage](file)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(file)
    message = str(refused.value)
    assert str(file) in message and "\n" not in message and len(message) < 600 + len(str(file))


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        read_card(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="Cannot read"):
        load_checkpoint(tmp_path)
    model = small_model()
    with pytest.raises(CheckpointError, match="Cannot write"):
        save_checkpoint(tmp_path / "no" / "m.safetensors", model, ModelCard.of(model.config, "small"))


def test_a_failed_write_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()
    model, card = load_checkpoint(file)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(file, model, card)
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


@pytest.mark.parametrize(
    "radiometry",
    [
        {"kind": "auto"},
        {"kind": "dtype"},
        {"kind": "range", "lo": 0, "hi": 10000.0},
        {"kind": "percentiles", "lo": 0.1, "hi": 99.9},
        {"kind": "standard", "mean": [1.0, 2.0, 3.0], "std": [1, 1, 1]},
    ],
)
def test_radiometry_of_every_kind(radiometry):
    assert ModelCard.of(small_model().config, "small", radiometry=radiometry).radiometry == radiometry


@pytest.mark.parametrize(
    "radiometry",
    [
        {},
        {"kind": "magic"},
        {"kind": "dtype", "lo": 0},
        {"kind": "range", "lo": 0},
        {"kind": "range", "lo": 0, "hi": float("inf")},
        {"kind": "standard", "mean": [1.0], "std": [1.0]},
        {"kind": "standard", "mean": [1.0] * 3, "std": [1.0, 0.0, 1.0]},
        {"kind": "range", "lo": "0", "hi": "1"},
        {"kind": "range", "lo": 0, "hi": 10**400},
    ],
)
def test_radiometry_that_says_nothing_is_refused(radiometry):
    with pytest.raises(ConfigError, match="radiometry"):
        ModelCard.of(small_model().config, "small", radiometry=radiometry)
