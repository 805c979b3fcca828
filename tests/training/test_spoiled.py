"""Sets of images with something wrong: each fault is named before the first step."""

import warnings

import numpy as np
import pytest
import rasterio
from scipy import ndimage
from training_kit import as_dtype, folder_of, ground, tiny_config, write

from geosegsr.errors import ConfigError, GeoSegSRWarning, SceneError
from geosegsr.models.interpolation import Interpolator
from geosegsr.sensor.degradation import imresize_down
from geosegsr.training.dataset import prepare_data

SIZE = 128


def field(seed):
    return (0.2 + 0.6 * ground(3, SIZE, SIZE, seed)).astype(np.float32)


def pairs_in(root, number=3):
    """Pairs of three places, 5 m and 10 m."""
    for i in range(number):
        place = {"east": 500_000 + 5000.0 * i}
        write(root / "hr" / f"place_{i}.tif", as_dtype(field(i), "uint8"), pixel=5.0, **place)
        write(
            root / "lr" / f"place_{i}.tif", as_dtype(imresize_down(field(i), 2), "uint8"), pixel=10.0, **place
        )
    return root


def prepared(root, **changes):
    """The data of a run, and what was warned of."""
    lr = {"data.lr": [str(root / "lr")]} if (root / "lr").exists() else {}
    hr = root / "hr" if (root / "hr").exists() else root
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = prepare_data(tiny_config(hr, **{"data.val_share": 0.34, **lr, **changes}))
    said = " ".join(str(w.message) for w in caught if issubclass(w.category, GeoSegSRWarning))
    assert all(notice in said for notice in data.notices)
    return data, said


def change(path, edit):
    """Edit the pixels of a GeoTIFF, in its place."""
    with rasterio.open(path) as source:
        profile, values = source.profile, source.read()
    path.unlink()
    with rasterio.open(path, "w", **profile) as out:
        out.write(edit(values))


def test_a_sound_set_gives_no_warning(tmp_path):
    data, said = prepared(pairs_in(tmp_path))
    assert said == ""
    assert len(data.pairs.pairs) == 3


def test_a_wrong_pair_is_named(tmp_path):
    root = pairs_in(tmp_path)
    change(root / "lr" / "place_1.tif", lambda _: as_dtype(imresize_down(field(77), 2), "uint8"))
    data, said = prepared(root)
    assert "1 of 3 images left out (do not make a pair)" in said
    assert "place_1.tif" in said
    assert "do not seem to show the same ground" in said or "lr pixels apart" in said
    assert len(data.pairs.pairs) == 2


@pytest.mark.parametrize("side", ["hr", "lr"])
def test_a_camera_that_is_upside_down_is_named(tmp_path, side):
    root = pairs_in(tmp_path)
    change(root / side / "place_2.tif", lambda values: values[:, ::-1, ::-1])
    data, said = prepared(root)
    assert "place_2.tif" in said
    assert "one of them is turned by 180 degrees" in said
    assert len(data.pairs.pairs) == 2


def test_mixed_dtypes_are_refused(tmp_path):
    folder_of(tmp_path)
    write(tmp_path / "place_9.tif", as_dtype(field(9), "uint16"), east=600_000.0)
    with pytest.raises(ConfigError, match=r"place_0\.tif' is uint8 and .*place_9\.tif' is uint16"):
        prepared(tmp_path)


def test_a_rim_without_data_is_warned_of_and_left_out_once_it_is_declared(tmp_path):
    folder_of(tmp_path, size=(SIZE, SIZE))

    def with_rim(values):
        values[:, :, :20] = 0
        return values

    change(tmp_path / "place_0.tif", with_rim)
    _, said = prepared(tmp_path)
    assert "place_0.tif" in said
    assert "--nodata 0" in said
    data, said = prepared(tmp_path, **{"data.nodata": 0.0})
    assert said == ""
    assert all((patch.hr.min(axis=0) > 0).all() for patch in data.patches.batch(0, 40))


def test_a_truncated_file_is_named(tmp_path):
    for root in (folder_of(tmp_path / "alone", size=(SIZE, SIZE)), pairs_in(tmp_path / "pairs")):
        (file,) = root.rglob("place_1.tif") if root.name == "alone" else [root / "hr" / "place_1.tif"]
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        data, said = prepared(root)
        assert "place_1.tif" in said
        assert "left out" in said
        assert not any("place_1" in patch.origin for patch in data.patches.batch(0, 40))


def test_an_image_that_is_softer_than_lr_is_named(tmp_path):
    root = pairs_in(tmp_path)

    def soft(values):
        small = imresize_down(values.astype(np.float32), 4)
        return np.rint(Interpolator("bicubic", 4)(small[None])[0]).clip(0, 255).astype(np.uint8)

    change(root / "hr" / "place_0.tif", soft)
    data, said = prepared(root, **{"data.val_share": 0.0})
    assert "1 of 3 images are soft, such as" in said
    assert "place_0.tif" in said
    assert len(data.pairs.pairs) == 3
    alone = folder_of(tmp_path / "alone", size=(SIZE, SIZE))
    change(
        alone / "place_3.tif",
        lambda values: np.rint(ndimage.gaussian_filter(values.astype(float), (0, 3, 3))).astype(np.uint8),
    )
    _, said = prepared(alone, **{"data.val_share": 0.0})
    assert "1 of 4 images are soft" in said


def test_nothing_but_wrong_pairs_ends_the_run(tmp_path):
    root = pairs_in(tmp_path, 1)
    change(root / "lr" / "place_0.tif", lambda _: as_dtype(imresize_down(field(77), 2), "uint8"))
    with pytest.raises(SceneError, match="the only image is left out"):
        prepared(root)
