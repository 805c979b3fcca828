"""The bundled model on validation tiles, and the verdict on a run."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from geosegsr_cli.parts.scores import describe_shortfall, describe_success, score_table
from training_kit import ground

from geosegsr.imagery.sources import Patch
from geosegsr.sensor.degradation import Degradation, imresize_down
from geosegsr.sensor.descriptor import SensorDescriptor
from geosegsr.training.loop import TrainResult
from geosegsr.training.rivals import score_of_bundled
from geosegsr.training.validation import Score, Validation


def validation(order=(0, 1, 2)):
    tiles = []
    for seed in range(2):
        hr = ground(3, 64, 64, seed)[list(order)].astype(np.float32)
        tiles.append(
            Patch(imresize_down(hr, 2).astype(np.float32), hr, np.ones((64, 64), bool), f"tile {seed}")
        )
    return Validation(tiles, 2, clip=True, data_range=1.0)


def test_the_bundled_model_is_scored_by_the_colours_of_the_bands():
    data = SimpleNamespace(colours=("red", "green", "blue"), pairs=None)
    score = score_of_bundled(validation(), data, "cpu")
    assert score.psnr > validation().baseline.psnr
    other = score_of_bundled(
        validation((2, 0, 1)), SimpleNamespace(colours=("blue", "red", "green"), pairs=None), "cpu"
    )
    assert other.psnr == pytest.approx(score.psnr, abs=1e-3)


def test_the_bundled_model_is_told_how_lr_was_made():
    """The tiles are too small to see it."""
    made = Degradation(blur=(0.7, 0.7))
    tiles = []
    for seed in range(2):
        hr = ground(3, 96, 96, seed).astype(np.float32)
        lr, imaging = made.image(hr, 2, np.random.default_rng(seed))
        sensor = SensorDescriptor.of_imaging(imaging)
        tiles.append(Patch(lr, hr, np.ones(hr.shape[1:], bool), f"tile {seed}", sensor))
    rival = Validation(tiles, 2, clip=True, data_range=1.0)
    names = ("red", "green", "blue")
    told, untold = (
        score_of_bundled(rival, SimpleNamespace(colours=names, pairs=pairs), "cpu").psnr
        for pairs in (None, object())
    )
    assert told >= untold > rival.baseline.psnr


def result(psnr, *, start=27.0, bundled=27.5):
    scores = {
        name: Score(value, value + 1)
        for name, value in (("score", psnr), ("start", start), ("bundled", bundled))
    }
    return TrainResult(
        model="runs/my model/m.safetensors", steps=9, baseline=Score(25.0, 26.0), data_wait=0.1, **scores
    )


def test_the_verdict_names_what_a_model_is_not_better_than():
    assert [result(psnr).falls_short_of for psnr in (25.0, 26.0, 27.5, 27.6)] == [
        "bicubic interpolation",
        "the start of the run",
        "the bundled model",
        None,
    ]
    assert replace(result(27.2), bundled=None).falls_short_of is None
    assert "is better than the bundled model" in describe_shortfall("the bundled model")


def test_the_table_and_the_command_to_use_a_model():
    assert score_table(result(28.0)) == [
        "PSNR in dB         all bands    luma",
        "bicubic                25.00   26.00",
        "start of the run       27.00   28.00",
        "bundled model          27.50   28.50",
        "this model             28.00   29.00",
    ]
    assert describe_success(result(28.0), 4) == [
        "This model is better than bicubic (+3.00 dB), its start (+1.00 dB), the bundled model (+0.50 dB).",
        "Use it: geosegsr upscale SCENE -o RESULT --scale 4 --model 'runs/my model/m.safetensors'",
    ]
    assert score_table(replace(result(28.0), score=None)) == []
    assert "hardly visible: train for longer" in describe_success(result(27.52), 4)[0]
