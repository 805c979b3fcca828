"""Training on images of several kinds together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from training_kit import TINY, as_dtype, ground, write

from geosegsr.errors import ConfigError
from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.training.config import TrainConfig, resolve_config
from geosegsr.training.dataset import prepare_data
from geosegsr.training.loop import train


def sources(folder, *changes):
    """Colour in 8 bit, five bands in 16 bit, and one band in 8 bit."""
    write(folder / "rgb/a.tif", as_dtype(ground(3, 96, 96, 1), "uint8"))
    write(folder / "many/b.tif", as_dtype(ground(5, 96, 96, 2), "uint16"), east=510_000.0)
    write(folder / "one/c.tif", as_dtype(ground(1, 96, 96, 3), "uint8"), east=520_000.0)
    write(folder / "val/d.tif", as_dtype(ground(3, 64, 64, 4), "uint8"), east=530_000.0)
    return resolve_config(
        "compact",
        None,
        {
            "model.scale": 2,
            "model.changes": TINY,
            "data.patch": 16,
            "data.val": [str(folder / "val")],
            "data.sources": [
                {"hr": [str(folder / name)], "share": share}
                for name, share in (("rgb", 2.0), ("many", 1.0), ("one", 1.0))
            ],
            "validation.tile": 64,
            "threads": 1,
            **dict(changes),
        },
    )


def test_every_patch_has_the_models_bands_and_shares_are_kept(tmp_path):
    data = prepare_data(sources(tmp_path))
    patches = data.patches.batch(0, 400)
    assert {(p.lr.shape, p.hr.shape) for p in patches} == {((3, 16, 16), (3, 32, 32))}
    counts = {name: sum(f"/{name}/" in p.origin for p in patches) for name in ("rgb", "many", "one")}
    assert sum(counts.values()) == 400
    assert abs(counts["rgb"] - 200) < 40
    assert abs(counts["many"] - 100) < 40
    one = next(p for p in patches if "/one/" in p.origin)
    assert (one.hr[0] == one.hr[1]).all()
    assert (one.hr[0] == one.hr[2]).all()


def test_a_source_may_be_zoomed_and_another_not(tmp_path):
    config = sources(tmp_path)
    first, *others = config.data.sources
    zoomed = replace(config, data=replace(config.data, sources=(replace(first, zoom=(1.0, 2.0)), *others)))
    before, after = (prepare_data(c).patches.batch(0, 60) for c in (config, zoomed))
    for name in ("rgb", "many", "one"):
        same = [
            np.array_equal(a.hr, b.hr) for a, b in zip(before, after, strict=True) if f"/{name}/" in a.origin
        ]
        assert len(same) > 5
        assert all(same) == (name != "rgb")


def test_bands_beyond_the_models_are_all_drawn(tmp_path):
    data = prepare_data(sources(tmp_path))
    many = [p for p in data.patches.batch(0, 400) if "/many/" in p.origin]
    assert all(len({band.tobytes() for band in p.hr}) == 3 for p in many)
    assert {data.policy["kind"], data.bands, data.dtype} == {"auto", 3, "uint8"}


def test_a_patch_depends_on_its_number_only(tmp_path):
    config = sources(tmp_path)
    one, other = prepare_data(config).patches, prepare_data(config).patches
    for a, b in zip(one.batch(7, 5), other.batch(0, 12)[7:], strict=True):
        assert a.origin == b.origin
        assert np.array_equal(a.lr, b.lr)
        assert np.array_equal(a.hr, b.hr)


def test_a_source_may_have_its_own_sensor(tmp_path):
    config = sources(tmp_path)
    config = TrainConfig.from_dict(config.to_dict())
    plain = prepare_data(config).patches.batch(0, 20)
    changed = config.to_dict()
    changed["data"]["sources"][2]["degradation"] = {"kernel": "box"}
    boxed = prepare_data(TrainConfig.from_dict(changed)).patches.batch(0, 20)
    for a, b in zip(plain, boxed, strict=True):
        assert np.array_equal(a.lr, b.lr) == ("/one/" not in a.origin)
        if "/one/" in a.origin:
            means = b.hr.reshape(3, 16, 2, 16, 2).mean(axis=(2, 4))
            assert np.abs(b.lr - means).max() <= 0.5 / 255 + 1e-6


def test_a_run_learns_and_its_card_says_what_from(tmp_path):
    result = train(sources(tmp_path, ("schedule.steps", 3)), tmp_path / "run")
    card = read_card(result.model)
    assert card.radiometry == {"kind": "auto"}
    assert "rgb, many, one" in card.trained_on


def test_another_scale_can_start_from_a_model(tmp_path):
    config = sources(tmp_path, ("schedule.steps", 2))
    first = train(config, tmp_path / "first").model
    changes = {**config.to_dict()}
    changes["model"] = {"preset": "compact", "scale": 4, "init": str(first)}
    changes["data"]["patch"] = 8
    changes["optimiser"]["learning_rate"] = 1e-9
    second = train(TrainConfig.from_dict(changes), tmp_path / "second").model
    (old, _), (new, card) = load_checkpoint(first), load_checkpoint(second)
    assert card.scale == 4
    a, b = old.state_dict(), new.state_dict()
    assert np.allclose(a["units.0.body.0.weight"], b["units.0.body.0.weight"], atol=1e-6)
    assert a["head.0.weight"].shape != b["head.0.weight"].shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hr": []}, r"data.sources\[0\].hr must be a list of at least 1"),
        ({"hr": ["x"], "share": 0.0}, "share must be above 0, not 0.0"),
        ({"hr": ["x"], "grey": 2.0}, "grey must be at least 0 and at most 1, not 2.0"),
        ({"hr": ["x"], "blur": [2.0, 1.0]}, r"blur must be a range, lower end first, not \[2.0, 1.0\]"),
        ({"hr": ["x"], "zoom": [0.5, 1.5]}, r"zoom must be at least 1, not \[0.5, 1.5\]"),
        ({"hr": ["x"], "zoom": [1.5, 1.2]}, r"lower end first, not \[1.5, 1.2\]"),
        ({"hr": ["x"], "zoom": [1.5]}, "zoom must be a list of 2"),
        ({"share": 2.0}, r"data.sources\[0\]\]: it lacks hr"),
        ({"hr": ["x"], "colour": 2.0}, "colour"),
        ({"hr": ["x"], "radiometry": "dtpye"}, "Did you mean 'dtype'"),
    ],
)
def test_a_source_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict({"data": {"sources": [change], "val": ["x"]}})


def test_sources_need_images_to_validate_on_and_exclude_hr():
    with pytest.raises(ConfigError, match="--val"):
        TrainConfig.from_dict({"data": {"sources": [{"hr": ["x"]}]}})
    with pytest.raises(ConfigError, match="one of them"):
        TrainConfig.from_dict({"data": {"sources": [{"hr": ["x"]}], "hr": ["y"], "val": ["z"]}})
