"""A model's card as a STAC item of the extension for machine learning."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pytest
from pystac.extensions.mlm import AssetGeneralMLMExtension, MLMExtension

from geosegsr.errors import GeoSegSRError, JobError
from geosegsr.files import sha256_of
from geosegsr.models.catalogue import bundled_checkpoint, load_upscaler
from geosegsr.models.checkpoint import read_card
from geosegsr.models.stac import write_model_item


def test_an_item_says_what_the_model_takes_and_gives(tmp_path: Path) -> None:
    model = bundled_checkpoint(4)
    path = write_model_item(model, tmp_path / "model.json")
    pystac.validation.validate_dict({**json.loads(path.read_text()), "stac_extensions": []})
    item, card = pystac.Item.from_file(path), read_card(model)
    found = MLMExtension.ext(item)
    assert (found.mlm_name, found.tasks) == (card.name, ["super-resolution"])
    assert [band.name for band in found.input[0].bands] == list(card.band_names)
    assert found.input[0].input.shape == found.output[0].result.shape == [-1, card.bands, -1, -1]
    network = load_upscaler(model, device="cpu").network
    assert found.total_parameters >= sum(
        p.numel() for p in network.parameters()
    )  # told of no sensor, some are folded
    asset = item.assets["model"]
    assert Path(asset.get_absolute_href()).samefile(model)
    assert AssetGeneralMLMExtension.ext(asset).artifact_type == "safetensors.torch.save"
    assert asset.extra_fields["file:checksum"] == f"1220{sha256_of(model)}"


def test_only_items_of_models_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text("{}")
    with pytest.raises(JobError, match="--overwrite"):
        write_model_item(bundled_checkpoint(2), path)
    write_model_item(bundled_checkpoint(2), path, overwrite=True)
    write_model_item(bundled_checkpoint(3), path)
    assert "x3" in json.loads(path.read_text())["id"]
    with pytest.raises(GeoSegSRError, match=r"model\.json"):
        write_model_item(bundled_checkpoint(2), tmp_path / "model.txt")
