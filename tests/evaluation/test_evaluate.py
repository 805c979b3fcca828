import json
import math
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from fakes import FAKE, Fake, Flat
from geosegsr_cli.commands.evaluate import command
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from training_kit import as_dtype, folder_of, ground, write

from geosegsr.errors import ConfigError, GeoSegSRWarning, SceneError
from geosegsr.evaluation.comparison import compare_models
from geosegsr.evaluation.enlarge import Enlarger
from geosegsr.evaluation.evaluate import evaluate_file, evaluate_model
from geosegsr.evaluation.finished import common_ground
from geosegsr.evaluation.table import table
from geosegsr.imagery.sources import SceneSource
from geosegsr.models.interpolation import Interpolator
from geosegsr.pipeline.upscale import upscale
from geosegsr.raster.radiometry import to_dtype
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation, imresize_down
from geosegsr.tiling.render import render_block


@pytest.fixture
def images(tmp_path):
    return folder_of(tmp_path / "hr", number=2, size=(64, 80))


def test_bicubic_equals_a_second_computation(images):
    found = evaluate_model("bicubic", [str(images)], scale=2).total
    psnrs, ssims = [], []
    for path in sorted(images.glob("*.tif")):
        with rasterio.open(path) as source:
            hr = source.read()
        lr = np.rint(np.clip(imresize_down(hr / 255, 2), 0, 1) * 255) / 255
        sr = np.rint(np.clip(Interpolator("bicubic", 2)(lr[None].astype(np.float32))[0], 0, 1) * 255)
        a, b = hr[:, 2:-2, 2:-2].astype(float), sr[:, 2:-2, 2:-2].astype(float)
        psnrs.append(peak_signal_noise_ratio(a, b, data_range=255))
        ssims.append(
            structural_similarity(
                a,
                b,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
            )
        )
    assert found.model["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-4)
    assert found.model["ssim"] == pytest.approx(np.mean(ssims), abs=1e-4)
    assert found.model == found.bicubic


def test_a_bad_model_loses_against_bicubic_everywhere(images):
    total = evaluate_model(Flat(), [str(images)]).total
    for name in ("psnr", "ssim", "psnr_y", "uqi"):
        assert total.model[name] < total.bicubic[name]
    for name in ("ergas", "reflectance"):
        assert total.model[name] > total.bicubic[name]


def test_subfolders_get_rows_of_their_own(tmp_path):
    folder_of(tmp_path / "hr" / "forest", number=2)
    folder_of(tmp_path / "hr" / "town", number=1)
    found = evaluate_model("bicubic", [str(tmp_path / "hr")], scale=2)
    assert [(row.group, row.images) for row in found.rows] == [("forest", 2), ("town", 1), ("all", 3)]
    means = [row.model["psnr"] for row in found.rows]
    assert means[2] == pytest.approx((2 * means[0] + means[1]) / 3)
    assert "forest" in table(found)


def test_large_images_are_measured_in_tiles_that_cover_them(tmp_path):
    write(tmp_path / "a.tif", as_dtype(ground(3, 330, 130), "uint8"))
    assert Flat.facts.tile == 64  # lr pixels: 128 hr pixels
    assert evaluate_model(Flat(), [str(tmp_path)]).total.tiles == 3 * 2


def test_real_pairs(tmp_path):
    field = 0.2 + 0.6 * ground(1, 96, 96)
    write(tmp_path / "hr" / "a.tif", as_dtype(field, "uint8"), pixel=5.0)
    write(tmp_path / "lr" / "a.tif", as_dtype(imresize_down(field, 2), "uint8"), pixel=10.0)
    real = evaluate_model("bicubic", [str(tmp_path / "hr")], [str(tmp_path / "lr")], scale=2)
    made = evaluate_model("bicubic", [str(tmp_path / "hr")], scale=2)
    assert real.total.model["psnr"] == pytest.approx(made.total.model["psnr"], abs=0.5)


def test_the_degradation_counts(images):
    sharp = evaluate_model("bicubic", [str(images)], scale=2, degradation=Degradation(kernel="box"))
    blurred = evaluate_model(
        "bicubic", [str(images)], scale=2, degradation=Degradation(kernel="mtf", mtf=(0.02, 0.02))
    )
    assert blurred.total.model["psnr"] < sharp.total.model["psnr"] - 1


def test_nodata_is_left_out(tmp_path):
    field = as_dtype(ground(1, 64, 64), "uint8")
    whole = write(tmp_path / "a" / "a.tif", field)
    field[:, :20] = 0
    write(tmp_path / "b" / "a.tif", field, nodata=0)
    holed = evaluate_model("bicubic", [str(tmp_path / "b")], scale=2).total.model
    assert abs(holed["psnr"] - evaluate_model("bicubic", [str(whole)], scale=2).total.model["psnr"]) < 3
    assert "improvement" not in holed
    write(tmp_path / "c" / "a.tif", np.zeros_like(field), nodata=0)
    with pytest.raises(SceneError, match="it has no tile that is at least half valid"):
        evaluate_model("bicubic", [str(tmp_path / "c")], scale=2)


def test_an_unreadable_image_is_named_and_the_others_are_measured(images):
    (images / "broken.tif").write_bytes(b"nothing")
    with pytest.warns(GeoSegSRWarning, match=r"broken\.tif"):
        assert evaluate_model("bicubic", [str(images)], scale=2).total.images == 2


def test_what_cannot_be_evaluated(tmp_path, images):
    with pytest.raises(ConfigError, match="without its scale"):
        evaluate_model("bicubic", [str(images)])
    folder_of(tmp_path / "two", 1, count=2)
    with pytest.raises(
        SceneError, match=r"'flat' on '.*place_0.tif': it has 2 bands, and the model takes 3. Leave"
    ):
        evaluate_model(Flat(), [str(tmp_path / "two")])


def of_sensors(root, *, loose=False):
    """A folder of three sensors: RGB, RGBN, and the 13 bands of Sentinel-2 without names."""
    folder_of(root / "aerial", 2)
    folder_of(root / "naip", 1, count=4)
    folder_of(root / "s2", 1, count=13, dtype="uint16")
    if loose:
        folder_of(root, 1)
    return str(root)


def test_every_sensor_of_a_mixed_folder_is_a_group_of_its_own(tmp_path):
    root = of_sensors(tmp_path / "hr")
    found = evaluate_model("bicubic", [root], scale=2)
    assert [(row.group, row.images, row.kinds) for row in found.rows] == [
        ("aerial", 2, ("3 bands, uint8",)),
        ("naip", 1, ("4 bands, uint8",)),
        ("s2", 1, ("13 bands, uint16",)),
        ("all", 4, ("13 bands, uint16", "3 bands, uint8", "4 bands, uint8")),
    ]
    for row in found.rows[:3]:  # judged as if the others were not there
        alone = evaluate_model("bicubic", [f"{root}/{row.group}"], scale=2).total
        assert (alone.model, alone.bicubic, alone.bands) == (row.model, row.bicubic, row.bands)
    assert found.total.bands == ()
    means = [row.model["psnr"] for row in found.rows]
    assert means[3] == pytest.approx((2 * means[0] + means[1] + means[2]) / 4)


def test_a_model_takes_its_bands_of_more_and_names_the_images_that_do_not_fit(tmp_path):
    root = of_sensors(tmp_path / "hr", loose=True)
    with pytest.warns(
        GeoSegSRWarning, match=r"1 of 5 images left out.*s2/place_0.tif': it has 13 bands, and"
    ):
        found = evaluate_model(Flat(), [root])
    assert [(row.group, row.kinds) for row in found.rows[:3]] == [
        (".", ("3 bands, uint8",)),
        ("aerial", ("3 bands, uint8",)),
        ("naip", ("bands 1, 2, 3 of 4, uint8",)),
    ]
    assert "s2/place_0.tif" in found.notes[-1] and "Pass --bands with 3 of them" in found.notes[-1]
    lines = table(found).splitlines()
    assert any("naip" in line and "bands 1, 2, 3 of 4, uint8" in line for line in lines)
    by_hand = evaluate_model(Flat(), [f"{root}/naip"], bands=(1, 2, 3)).total
    assert by_hand.model == found.rows[2].model


def test_bands_are_taken_by_their_names(tmp_path):
    path = write(tmp_path / "a.tif", as_dtype(ground(5, 64, 64), "uint16"))
    with rasterio.open(path, "r+") as out:
        out.descriptions = ("B02", "B03", "B04", "B05", "B08")
    named = evaluate_model(Flat(), [str(path)]).total
    assert named.kinds == ("bands 3, 2, 1 of 5, uint16",)
    assert named.model == evaluate_model(Flat(), [str(path)], bands=(3, 2, 1)).total.model


def finished(tmp_path, bands=3, size=(128, 128), **options):
    """A truth, its reduced input, and the file that upscale makes of it."""
    field = 0.1 + 0.8 * ground(bands, *size)
    hr = write(tmp_path / "hr.tif", as_dtype(field, "uint8"), pixel=5.0)
    lr = write(tmp_path / "lr.tif", as_dtype(imresize_down(field, 2), "uint8"), pixel=10.0)
    sr = tmp_path / "sr.tif"
    upscale(lr, sr, 2, options.pop("model", "bicubic"), **options)
    return sr, hr, lr


@pytest.mark.parametrize("consistency", [False, True])
@pytest.mark.parametrize(("dtype", "count"), [("uint8", 3), ("uint16", 3), ("float32", 3), ("uint8", 4)])
def test_a_model_is_measured_on_the_pixels_that_upscale_writes(tmp_path, dtype, count, consistency):
    model = Fake(replace(FAKE, tile=128, multiple_of=16, bands=3 if count == 3 else None), tilt=0.1)
    hr = write(
        tmp_path / "hr.tif", as_dtype(ground(count, 90, 106), dtype), pixel=5.0, photometric="minisblack"
    )
    source = SceneSource(Scene.open(hr), {"kind": "auto"}, 2)
    patch = source.cut(Window(0, 0, 90, 106), Degradation(), np.random.default_rng(0))
    lr = to_dtype(source.radiometry.from_model(patch.lr), dtype)
    ends = source.radiometry.lo[0], source.radiometry.hi[0]
    lr_path = write(tmp_path / "lr.tif", lr, pixel=10.0, photometric="minisblack")
    upscale(lr_path, tmp_path / "sr.tif", 2, model, value_range=ends, consistency=consistency)
    with rasterio.open(tmp_path / "sr.tif") as file:
        written = source.radiometry.to_model(file.read())
    assert np.array_equal(Enlarger(model, consistency=consistency)(source, patch.lr), written)
    of_model = evaluate_model(model, [str(hr)], consistency=consistency)
    of_file = evaluate_file(tmp_path / "sr.tif", hr, lr_path, value_range=ends)
    assert of_model.total.model == pytest.approx(of_file.total.model, rel=1e-6, abs=1e-9)


def test_an_image_in_several_blocks_is_that_in_one(tmp_path):
    path = write(tmp_path / "a.tif", as_dtype(ground(3, 300, 2400), "uint8"))
    source = SceneSource(Scene.open(path), {"kind": "auto"}, 8)
    patch = source.cut(Window(0, 0, 296, 2400), Degradation(), np.random.default_rng(0))
    enlarge = Enlarger(Fake(replace(FAKE, scale=8), tilt=0.1))
    whole, grid = enlarge.render(source, patch.lr)
    assert len(grid.blocks) > 1
    rendering = next(iter(enlarge._plans.values()))
    one = replace(rendering, grid=replace(rendering.grid, block=10_000))
    assert len(one.grid.blocks) == 1
    dn = to_dtype(source.radiometry.from_model(patch.lr), "uint8")
    valid = np.ones(dn.shape, bool)
    at_once = render_block(one, one.grid.blocks[0], dn, valid, valid).image
    assert np.array_equal(whole, source.radiometry.to_model(at_once))


def test_a_finished_file_of_bicubic_is_bicubic(tmp_path):
    sr, hr, lr = finished(tmp_path)
    found = evaluate_file(sr, hr, lr)
    assert found.scale == 2
    assert found.total.model["psnr"] == pytest.approx(found.total.bicubic["psnr"], abs=0.02)
    assert found.total.model["reflectance"] < 0.02
    assert any("sr.tif" in line for line in table(found).splitlines())


class Stamped(Flat):
    """Bicubic, but every tile has a level of its own, which depends on its corner."""

    facts = replace(Flat.facts, name="stamped", tile=32, overlap=0, halo=0)

    def __call__(self, lr, guide=None):
        level = (lr[:, :1, :1, :1] * 997) % 0.2
        return Interpolator("bicubic", 2)(lr) + level.astype(np.float32)


def test_hard_cut_tiles_show_in_the_seam_measure(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    smooth = evaluate_file(*finished(tmp_path / "a", model="bicubic", tile=32, overlap=8)).seam
    cut = evaluate_file(*finished(tmp_path / "b", model=Stamped(), tile=32, overlap=0)).seam
    assert smooth < 2
    assert cut > 5 * smooth


def test_a_model_on_a_large_image_is_measured_through_the_pipeline(tmp_path):
    write(tmp_path / "large" / "a.tif", as_dtype(0.1 + 0.8 * ground(3, 160, 160), "uint8"))
    folder_of(tmp_path / "small", 1, size=(48, 48))
    assert evaluate_model(Stamped(), [str(tmp_path / "large")]).seam > 5
    assert evaluate_model(Stamped(), [str(tmp_path / "small")]).seam is None


def test_files_on_other_grids_are_refused(tmp_path):
    sr, hr, lr = finished(tmp_path)
    with rasterio.open(hr) as source:
        values = source.read()
    fewer = write(tmp_path / "fewer.tif", values[:2], pixel=5.0)
    with pytest.raises(ConfigError, match="has 3 bands, the second 2"):
        evaluate_file(sr, fewer, lr)
    shifted = write(tmp_path / "shifted.tif", values, pixel=5.0, east=500_000 + 2.0)
    with pytest.raises(ConfigError, match=r"up to 0\.40 pixels off each other"):
        evaluate_file(sr, shifted, lr)
    coarse = write(tmp_path / "coarse.tif", values, pixel=5.1)
    with pytest.raises(ConfigError, match="off each other"):
        evaluate_file(sr, coarse, lr)
    far = write(tmp_path / "far.tif", values, pixel=5.0, east=500_000 + 640.0)
    with pytest.raises(ConfigError, match="no ground in common"):
        evaluate_file(sr, far, lr)
    with pytest.raises(ConfigError, match="Pass the raster that was enlarged"):
        evaluate_file(sr, hr, hr)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (6, 10), (3, 5)])
def test_files_on_one_grid_are_compared_on_their_common_ground(tmp_path, row, col):
    sr, hr, lr = finished(tmp_path)
    with rasterio.open(hr) as source:
        values, profile = source.read(), source.profile
    profile |= {
        "transform": source.transform @ Affine.translation(col, row),
        "height": 128 - row - 20,
        "width": 128 - col - 9,
    }
    part = tmp_path / "part.tif"
    with rasterio.open(part, "w", **profile) as target:
        target.write(values[:, row : 128 - 20, col : 128 - 9])
    common = common_ground(Scene.open(sr), Scene.open(part), Scene.open(lr), 2)
    top, left = -(-row // 2) * 2, -(-col // 2) * 2
    assert common.window == Window(top, left, (108 - top) // 2 * 2, (119 - left) // 2 * 2)
    found = evaluate_file(sr, part, lr, border=0)
    assert any("that both files cover" in note for note in found.notes)
    # All other pixels of the result may be anything.
    with rasterio.open(sr) as source:
        everything = source.read()
    outside = np.ones(everything.shape[1:], bool)
    outside[common.window.slices] = False
    everything[:, outside] = 0
    other = write(tmp_path / "other.tif", everything, pixel=5.0)
    assert evaluate_file(other, part, lr, scale=2, border=0).total.model == found.total.model


def test_a_truth_on_another_grid_is_warped_only_when_asked(tmp_path):
    sr, hr, lr = finished(tmp_path)
    on_grid = evaluate_file(sr, hr, lr, border=4)
    with rasterio.open(hr) as source:
        values = source.read()
    # The same ground, with its corner at the centre of a pixel: smoother, so bicubic comes closer to it.
    between = (
        values[:, :-1, :-1].astype(float) + values[:, 1:, :-1] + values[:, :-1, 1:] + values[:, 1:, 1:]
    ) / 4
    other = write(tmp_path / "other.tif", np.rint(between).astype("uint8"), pixel=5.0, east=500_000 + 2.5)
    with rasterio.open(other, "r+") as target:
        target.transform @= Affine.translation(0, 0.5)
    with pytest.raises(ConfigError, match=r"0\.50 pixels off each other. Pass --warp"):
        evaluate_file(sr, other, lr)
    found = evaluate_file(sr, other, lr, border=4, warp=True)
    assert any("hr warped onto the grid of the result" in line for line in table(found).splitlines())
    assert any("EPSG:" in note and "pixels of 5 x 5" in note for note in found.notes)
    assert found.total.model["psnr"] > on_grid.total.model["psnr"]
    assert evaluate_file(sr, hr, lr, border=4, warp=True).to_dict() == on_grid.to_dict()
    far = write(tmp_path / "far.tif", values, pixel=5.0, east=510_001)
    with pytest.raises(ConfigError, match="no ground in common"):
        evaluate_file(sr, far, lr, warp=True)


def test_a_truth_in_another_crs_is_warped(tmp_path):
    sr, hr, lr = finished(tmp_path)
    on_grid = evaluate_file(sr, hr, lr, border=8).total.model["psnr"]
    degrees = tmp_path / "degrees.tif"
    with rasterio.open(hr) as source:
        transform, width, height = calculate_default_transform(
            source.crs, "EPSG:4326", source.width, source.height, *source.bounds, resolution=2e-5
        )
        profile = source.profile | {
            "crs": "EPSG:4326", "transform": transform, "width": width, "height": height, "nodata": 0
        }  # fmt: skip
        with rasterio.open(degrees, "w", **profile) as target:
            for band in source.indexes:
                reproject(
                    rasterio.band(source, band),
                    rasterio.band(target, band),
                    resampling=Resampling.cubic,
                    tolerance=0,
                )
    with pytest.raises(ConfigError, match=r"the second in EPSG:4326\. Pass --warp"):
        evaluate_file(sr, degrees, lr)
    result = run(sr, "--hr", degrees, "--lr", lr, "--border", 8, "--warp", "--json")
    found = json.loads(result.stdout)
    assert any("from EPSG:4326" in note for note in found["notes"])
    assert found["rows"][0]["model"]["psnr"] > on_grid


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_prints_a_table_or_json_and_draws(tmp_path, images):
    picture = tmp_path / "p.png"
    result = run("--model", "bicubic", "--scale", 2, "--hr", images, "--picture", picture)
    assert result.exit_code == 0
    assert "psnr_y" in result.stdout
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(picture) as drawn:
        assert drawn.count == 3
        assert drawn.height == 2 * (64 + 4)
    plain = json.loads(run("--model", "bicubic", "--scale", 2, "--hr", images, "--json").stdout)
    assert plain["rows"][-1]["model"]["psnr"] == pytest.approx(plain["rows"][-1]["bicubic"]["psnr"])
    sr, hr, lr = finished(tmp_path)
    named = json.loads(run(sr, "--hr", hr, "--lr", lr, "--json").stdout)
    assert named["scale"] == 2
    assert math.isfinite(named["rows"][0]["model"]["psnr"])


def test_models_are_compared_side_by_side(images):
    models = ["--model", "bicubic", "--model", "lanczos", "--scale", 2, "--hr", images]
    shown = run(*models, "-q")
    assert shown.exit_code == 0
    assert "is the best on these images" in shown.stdout
    row = next(line for line in shown.stdout.splitlines() if line.startswith("psnr "))
    assert row.count("*") == 1 and row.endswith("*")  # lanczos is sharper
    both = json.loads(run(*models, "--json").stdout)["models"]
    alone = json.loads(run("--model", "lanczos", "--scale", 2, "--hr", images, "--json").stdout)
    assert both[1]["rows"] == alone["rows"]
    assert all(model["seconds_per_megapixel"] > 0 for model in both)
    refused = CliRunner().invoke(command, [str(a) for a in (*models, "--by-band")])
    assert (refused.exit_code, "show one model" in refused.output) == (2, True)


def test_models_of_different_scales_are_not_compared(images):
    with pytest.raises(ConfigError, match="scales 2, 4"):
        compare_models([Interpolator("bicubic", 2), Interpolator("bicubic", 4)], [str(images)])


def test_the_command_wants_a_file_or_a_model(images):
    for arguments in (["--hr", images], ["a.tif", "--model", "bicubic", "--hr", images]):
        result = CliRunner().invoke(command, [str(a) for a in arguments])
        assert result.exit_code == 2
        assert "either a file SR or --model" in result.output
    result = CliRunner().invoke(command, ["--model", "bicubic", "--warp", "--hr", str(images)])
    assert result.exit_code == 2
    assert "--warp is for a file SR" in result.output
