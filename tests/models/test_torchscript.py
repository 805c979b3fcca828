"""TorchScript archives, as OpenAI publishes its weights: the tensors are read, and nothing is run."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from geosegsr.errors import CheckpointError
from geosegsr.models.conversion import read_tensors
from geosegsr.models.pretrained import load_tower
from geosegsr.models.segsr.network import SeGSR, preset

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated, and how such archives are made
TOWER = {"tower_width": 32, "tower_layers": 2, "tower_heads": 2, "tower_grid": 4, "tower_output": 16}
SMALL = {**TOWER, "width": 8, "depths": (1,), "heads": 2, "window": 4, "squeeze": 4, "prompt_heads": 2}


class Clip(nn.Module):
    """What OpenAI's archive holds, but small: an image tower in half precision, and what belongs to the text."""

    def __init__(self) -> None:
        from open_clip.transformer import VisionTransformer

        super().__init__()
        self.visual = VisionTransformer(64, 16, 32, 2, 2, 4.0, output_dim=16)
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.register_buffer("input_resolution", torch.tensor(64))
        self.names = ["image", "text"]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.visual.conv1(image)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """An archive as torch.jit writes it, and the state dict of the module in it."""
    torch.manual_seed(0)
    module = Clip().eval()
    traced = torch.jit.trace(module, torch.rand(1, 3, 64, 64)).half()
    path = tmp_path_factory.mktemp("clip") / "ViT-B-16.pt"
    traced.save(str(path))
    return path, {name: tensor.clone() for name, tensor in traced.state_dict().items()}


def test_an_archive_gives_the_tensors_of_its_state_dict(clip):
    path, theirs = clip
    ours = read_tensors(path)
    assert ours.keys() == theirs.keys()
    assert all(ours[k].dtype == theirs[k].dtype and torch.equal(ours[k], theirs[k]) for k in theirs)


def test_a_tower_loads_from_an_archive(clip):
    path, theirs = clip
    model = SeGSR(preset("segsr", scale=2, **SMALL, lora_rank=2))
    load_tower(model, path)
    for name, parameter in model.features.tower.base_weights().items():
        assert torch.equal(parameter, theirs[f"visual.{name}"].float()), name


def test_the_program_in_an_archive_is_not_read(clip, tmp_path, monkeypatch):
    path, theirs = clip
    changed = rewritten(path, tmp_path / "clip.pt", {"code/": b"this is no program"})
    monkeypatch.setattr(torch.jit, "load", lambda *_: pytest.fail("the program was compiled"))
    assert read_tensors(changed).keys() == theirs.keys()


def test_views_into_one_storage_come_out_as_they_are(tmp_path):
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = torch.arange(24.0).view(4, 6)
            for name, view in {
                "t": whole.T,
                "part": whole[1:3, ::2],
                "none": whole[:0],
                "one": whole[3, 5],
            }.items():
                self.register_buffer(name, view)

        def forward(self) -> torch.Tensor:
            return self.t

    views = Views()
    torch.jit.script(views).save(str(tmp_path / "views.pt"))
    for name, tensor in read_tensors(tmp_path / "views.pt").items():
        assert torch.equal(tensor, getattr(views, name)), name


class Evil:
    """Asks, when it is unpickled, for a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> object:
        return self.call


def nested(tensor: object) -> bytes:
    """A pickle that asks torch's own function to make a tensor from something else."""
    return pickle.dumps(Evil(torch._utils._rebuild_tensor_v2, tensor, 0, (2,), (1,), False, {}))


BAD_PICKLES = {
    "print": pickle.dumps(Evil(print, "this must never run")),
    "eval": pickle.dumps({"a": Evil(eval, "print('this must never run')")}),
    "torch's own loader": pickle.dumps(Evil(torch.load, "other.pt")),
    "no storage": nested("data/0"),
    "no module": pickle.dumps(3),
    "a list": pickle.dumps([torch.float32 is None]),
    "empty": b"",
    "cut short": pickle.dumps({"a": [1, 2, 3]})[:-4],
    "a memo far away": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("kind", BAD_PICKLES)
def test_a_pickle_that_means_no_good_runs_nothing(kind, clip, tmp_path, capsys):
    bad = rewritten(clip[0], tmp_path / "clip.pt", {"data.pkl": BAD_PICKLES[kind]})
    with pytest.raises(CheckpointError) as refused:
        read_tensors(bad)
    assert "clip.pt" in str(refused.value) and "\n" not in str(refused.value)
    assert "never" not in capsys.readouterr().out


def test_a_tensor_that_reaches_beyond_its_data_is_refused(clip, tmp_path):
    largest = max(
        (e.file_size, e.filename) for e in zipfile.ZipFile(clip[0]).infolist() if "/data/" in e.filename
    )
    name = largest[1].split("/", 1)[1]
    for content in (b"", bytes(10)):
        with pytest.raises(CheckpointError, match="larger than its data"):
            read_tensors(rewritten(clip[0], tmp_path / "clip.pt", {name: content}))


def test_archives_that_torch_does_not_write_are_refused(clip, tmp_path):
    for name, packing, fault in (
        ("packed.pt", zipfile.ZIP_DEFLATED, "compressed"),
        ("lost.pt", zipfile.ZIP_STORED, "data/0 is missing"),
    ):
        lost = "data/0" if name == "lost.pt" else None
        with pytest.raises(CheckpointError, match=fault):
            read_tensors(rewritten(clip[0], tmp_path / name, {}, packing=packing, without=lost))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_byte_is_found_or_is_in_what_is_not_read(clip, tmp_path, place):
    path, theirs = clip
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    (tmp_path / "clip.pt").write_bytes(content)
    try:
        ours = read_tensors(tmp_path / "clip.pt")
    except CheckpointError as error:
        assert "clip.pt" in str(error)
    else:
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def rewritten(
    source: Path,
    target: Path,
    changes: dict[str, bytes],
    *,
    packing: int = zipfile.ZIP_STORED,
    without: str | None = None,
) -> Path:
    """A copy of an archive with other files: by name, or all in a folder by a name that ends in a slash."""
    copy = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(copy, "w", packing) as new:
        for entry in old.namelist():
            name = entry.split("/", 1)[1]
            known = next((c for c in changes if name == c or (c.endswith("/") and name.startswith(c))), None)
            if name != without:
                new.writestr(entry, old.read(entry) if known is None else changes[known])
    target.write_bytes(copy.getvalue())
    return target
