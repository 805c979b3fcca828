import itertools
import math
from importlib import resources

import numpy as np
import pytest
import tomlkit
import torch

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.presets import presets
from geosegsr.training.config import (
    OptimiserConfig,
    ScheduleConfig,
    TrainConfig,
    ValidationConfig,
    parse_change,
    resolve_config,
)
from geosegsr.training.losses import TERMS, Loss
from geosegsr.training.run_folder import LoggedStep
from geosegsr.training.schedule import Clock, Timetable, learning_rate


def test_the_recipe_of_every_preset_survives_toml():
    for name in presets():
        config = resolve_config(name)
        text = tomlkit.dumps(config.to_dict())
        assert TrainConfig.from_dict(tomlkit.parse(text).unwrap()) == config
        assert config.model.preset == name


def test_the_papers_recipe_is_a_preset():
    config = resolve_config("segsr")
    steps = config.optimiser
    assert (steps.name, steps.learning_rate, steps.betas, steps.batch) == ("adam", 2e-4, (0.9, 0.99), 4)
    assert (config.schedule.steps, config.loss, config.data.patch) == (64000, {"l1": 1.0}, 64)
    rates = [learning_rate(step / 64000, step, steps, config.schedule) for step in (0, 49999, 50000, 63999)]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 1e-4])


def test_the_bundled_weights_are_the_start_where_a_bundled_network_has_the_shape():
    for name in presets():
        assert (resolve_config(name).model.init == "bundled") == (name in ("compact", "compact-sensor"))
    for changes in (
        {"model.init": "none"},
        {"model.changes": {"width": 32}},
        {"model.tower": "ViT-B-16:openai"},
        {"model.equivariance": "p4m"},
    ):
        assert resolve_config("compact", None, changes).model.init == "none"
    before = TrainConfig().model  # as a run of before has it, when it is resumed
    assert (before.init, before.preset, before.bands) == ("none", "compact", "together")


def test_a_preset_that_nobody_names_is_chosen_by_the_images_where_bundled_weights_are_the_start(tmp_path):
    assert resolve_config().model.preset == "auto"
    assert resolve_config(None, None, {"model.init": "bundled"}).model.preset == "auto"
    for changes in ({"model.init": "none"}, {"model.preset": "compact"}, {"model.changes": {"width": 32}}):
        assert resolve_config(None, None, changes).model.preset == "compact"
    file = tmp_path / "mine.toml"
    file.write_text('[model]\npreset = "compact-sensor"\n')
    assert resolve_config(None, file).model.preset == "compact-sensor"


def test_fine_tuning_is_gentler_unless_told_otherwise(tmp_path):
    gentle, bold = resolve_config("compact"), resolve_config("compact", None, {"model.init": "none"})
    assert gentle.optimiser.learning_rate < bold.optimiser.learning_rate
    assert gentle.optimiser.name == bold.optimiser.name
    assert resolve_config("compact", None, {"model.init": "a.safetensors"}).optimiser == gentle.optimiser
    file = tmp_path / "mine.toml"
    file.write_text("[optimiser]\nlearning_rate = 0.1\n")
    assert resolve_config("compact", file).optimiser.learning_rate == 0.1
    assert resolve_config("compact", file, {"optimiser.learning_rate": 0.2}).optimiser.learning_rate == 0.2


def test_later_settings_win(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[optimiser]\nbatch = 5\nema = 0.9\n[loss]\nl1 = 1.0\nfft = 0.1\n")
    config = resolve_config("compact", file, {"optimiser.batch": 3})
    assert (config.optimiser.batch, config.optimiser.ema) == (3, 0.9)
    assert config.loss == {"l1": 1.0, "fft": 0.1}  # not mixed with the recipe's charbonnier


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.batch": 8}, "unknown key 'optimizer'. Did you mean 'optimiser'"),
        ({"optimiser.bach": 8}, r"\[optimiser\]: it has an unknown key 'bach'. Did you mean 'batch'"),
        ({"optimiser.batch": "many"}, "optimiser.batch must be a whole number, not 'many'"),
        ({"optimiser.batch": 0}, "optimiser.batch must be at least 1, not 0"),
        ({"data.val_share": 1.5}, "data.val_share must be at least 0 and below 1, not 1.5"),
        ({"precision": "bf61"}, "Did you mean 'bf16'"),
        ({"loss": {"l3": 1.0}}, "terms out of l1, charbonnier"),
        ({"loss": {"l1": 0.0}}, "at least one of them above 0"),
        ({"data.range": [0.0, 1.0]}, "only that, needs LO and HI"),
        ({"data": 3}, "data must be a table, not 3"),
        ({"degradation": {"kernl": "box"}}, "Did you mean 'kernel'"),
    ],
)
def test_what_nobody_reads_or_can_use_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        resolve_config("compact", None, changes)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'compact'"):
        resolve_config("compakt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.b=3", ("a.b", 3)), ("a=[1, 2]", ("a", [1, 2])), ("a=true", ("a", True)), ("a=word", ("a", "word"))],
)
def test_settings_as_typed(text, expected):
    assert parse_change(text) == expected


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_change("optimiser.batch")


def test_cosine_rises_and_falls():
    steps, plan = OptimiserConfig(learning_rate=1.0), ScheduleConfig(warmup=0.1, floor=0.01)
    assert learning_rate(0.05, 500, steps, plan) == pytest.approx(0.5)
    assert learning_rate(0.1, 1000, steps, plan) == pytest.approx(1.0)
    assert learning_rate(0.55, 5500, steps, plan) == pytest.approx(0.505)
    assert learning_rate(1.0, 10000, steps, plan) == pytest.approx(0.01)
    assert learning_rate(0.0, 0, steps, plan) > 0


def test_a_short_run_never_reaches_the_full_rate():
    plan = ScheduleConfig(steps=7, warmup=0.05, warmup_steps=100)
    rates = [learning_rate(step / 7, step, OptimiserConfig(learning_rate=1.0), plan) for step in range(7)]
    assert 0 < rates[0] < max(rates) < 0.07


def validated(validation, schedule, shares, cost=0.0):
    """The steps before which a run validates, given the share of it before each."""
    table = Timetable(validation, schedule, cost)
    before = [None, *shares]
    return [step for step, share in enumerate(shares) if table.due(step, share, before[step])]


@pytest.mark.parametrize("steps", [1, 2, 7, 250, 20000])
def test_a_run_of_steps_is_validated_at_its_start_early_at_its_end_and_in_between(steps):
    plan = ScheduleConfig(steps=steps)
    due = validated(ValidationConfig(), plan, [step / steps for step in range(steps + 1)])
    assert (due[0], due[-1]) == (0, steps)
    assert due[1] <= 100
    assert len(due) - 1 >= min(5, steps)
    assert len(due) - 1 <= 21


@pytest.mark.parametrize(
    ("minutes", "cost", "least", "most"), [(4, 10, 5, 5), (4, 0.5, 20, 21), (60, 10, 20, 21)]
)
def test_validation_takes_a_fifth_of_a_run_of_minutes_and_begins_in_the_first(minutes, cost, least, most):
    seconds = np.arange(0, 60 * minutes + 1)
    due = validated(ValidationConfig(), ScheduleConfig(minutes=minutes), seconds / (60 * minutes), cost)
    assert (due[0], due[-1]) == (0, 60 * minutes)
    assert due[1] <= 60
    assert least <= len(due) - 1 <= most


def test_a_number_of_steps_between_validations_is_kept():
    due = validated(ValidationConfig(every=3), ScheduleConfig(steps=7), [step / 7 for step in range(8)])
    assert due == [0, 3, 6, 7]


def test_a_clock_keeps_time_for_the_last_validation():
    clock = Clock(ScheduleConfig(minutes=10.0), [], elapsed=0.0, now=itertools.count(0.0, 60.0).__next__)
    clock.reserve = 120.0
    assert clock.at(1) == (60.0, 60 / 480)
    clock.reserve = 1e6  # as long as the run: half of it is left for steps
    assert clock.at(2) == (120.0, 120 / 300)


def test_a_clock_by_minutes_repeats_what_was_logged():
    logged = [LoggedStep(7, 30.0, 0.05, 1e-3, 0.1, 0.0)]
    clock = Clock(ScheduleConfig(minutes=10.0), logged, elapsed=20.0)
    assert clock.at(7) == (30.0, 0.05)
    elapsed, share = clock.at(8)  # goes on from where the log ends, not from the checkpoint
    assert 30.0 <= elapsed < 60.0
    assert share == pytest.approx(elapsed / 600)
    assert Clock(ScheduleConfig(steps=40), [], 0.0).at(10)[1] == 0.25


def test_losses_by_hand():
    sr, hr = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    hr[:, 0] = 0.3
    assert float(TERMS["l1"](sr, hr)) == pytest.approx(0.15)
    assert float(TERMS["mse"](sr, hr)) == pytest.approx(0.045)
    two = torch.cat([hr, sr]), torch.cat([sr, sr])  # one patch off by 0.045, one equal
    assert float(TERMS["psnr"](*two)) == pytest.approx((10 * math.log10(0.045001) - 60) / 2, rel=1e-5)
    assert float(TERMS["charbonnier"](hr, hr)) == pytest.approx(1e-3)
    assert float(TERMS["fft"](sr, hr)) == pytest.approx(
        0.3 * 4 / (2 * 4 * 3)
    )  # one frequency of 12, two bands
    red, yellow = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    red[:, 0] = 1
    assert float(TERMS["spectral_angle"](red, yellow)) == pytest.approx(math.pi / 4, abs=1e-3)
    assert float(Loss({"l1": 2.0, "mse": 1.0})(sr, hr)) == pytest.approx(0.345)


def test_every_loss_has_a_finite_gradient_at_equal_and_black_images():
    for name, term in TERMS.items():
        for image in (torch.rand(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)):
            sr = image.clone().requires_grad_()
            term(sr, image).backward()
            assert torch.isfinite(sr.grad).all(), name


def test_the_recipes_of_the_bundled_models_can_be_run():
    folder = resources.files("geosegsr.weights") / "recipes"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    assert "bundled-x4-sensor.toml" in {file.name for file in files}
    for file in files:
        config = resolve_config(None, str(file))
        assert f"x{config.model.scale}" in file.name
