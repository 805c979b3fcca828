"""Files in, files out: every kind of raster keeps its ground, its metadata and its mask."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from affine import Affine
from metadata_oracle import metadata_differences
from rio_cogeo.cogeo import cog_validate

import geosegsr
from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning, SceneError, VerificationError

pytestmark = pytest.mark.filterwarnings("ignore:.*coordinate reference system", "ignore:.*tagged alpha")

PLAIN = [
    factory.write_plain, factory.write_nodata, factory.write_ragged_nodata, factory.write_all_nodata,
    factory.write_nan, factory.write_internal_mask, factory.write_external_mask, factory.write_alpha,
    factory.write_soft_alpha, factory.write_nir_as_alpha, factory.write_rotated, factory.write_south_up,
    factory.write_odd_pixel, factory.write_point, factory.write_gcps, factory.write_rpcs,
    factory.write_rpcs_and_gcps, factory.write_no_crs, factory.write_described, factory.write_many_bands,
    factory.write_big_endian, factory.write_jpeg,
]  # fmt: skip


def upscaled(source: Path, scale: int = 2, model: str = "bicubic", **options: object) -> Path:
    target = source.with_name(f"out_x{scale}.tif")
    geosegsr.upscale(source, target, scale, model, **options)  # type: ignore[arg-type]
    assert not list(source.parent.glob("*.geosegsr"))
    return target


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("write", PLAIN, ids=lambda write: write.__name__)
def test_every_kind_of_raster_keeps_what_it_says_about_itself(write, scale: int, tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif")
    target = upscaled(source, scale)
    assert metadata_differences(source, target, scale) == []
    valid, errors, warnings = cog_validate(str(target), strict=True, quiet=True)
    assert valid, (errors, warnings)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
def test_nearest_through_files_is_exact_in_every_dtype(dtype: str, tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", dtype=dtype)
    target = upscaled(source, 3, "nearest", tile=32, overlap=8, block=64)
    with rasterio.open(source) as before, rasterio.open(target) as after:
        expected = np.repeat(np.repeat(before.read(), 3, 1), 3, 2)
        assert after.dtypes == before.dtypes
        np.testing.assert_array_equal(after.read(), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 2), (31, 33), (127, 131)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    source = factory.write_scene(tmp_path / "in.tif", factory.pixels(2, size))
    target = upscaled(source, 2, "nearest", tile=32, overlap=4)
    with rasterio.open(source) as before, rasterio.open(target) as after:
        np.testing.assert_array_equal(after.read(), np.repeat(np.repeat(before.read(), 2, 1), 2, 2))


def test_ground_position_is_kept_to_a_millionth_of_a_pixel(tmp_path: Path) -> None:
    source = factory.write_rotated(tmp_path / "in.tif", 17)
    target = upscaled(source, 4)
    with rasterio.open(source) as before, rasterio.open(target) as after:
        for col, row in [(0, 0), (3.25, 7.5), (before.width, before.height)]:
            x, y = before.transform @ (col, row)
            back = ~after.transform @ (x, y)
            np.testing.assert_allclose(back, (col * 4, row * 4), atol=1e-6)


def test_rpc_projects_the_same_ground_to_the_same_place(tmp_path: Path) -> None:
    from rasterio.transform import RPCTransformer

    source = factory.write_rpcs(tmp_path / "in.tif")
    target = upscaled(source, 4)
    with rasterio.open(source) as before, rasterio.open(target) as after:
        lon = [before.rpcs.long_off + d for d in (-0.001, 0, 0.0007)]
        lat = [before.rpcs.lat_off + d for d in (0.0005, 0, -0.001)]
        height = [before.rpcs.height_off] * 3
        with RPCTransformer(before.rpcs) as a, RPCTransformer(after.rpcs) as b:
            rows, cols = a.rowcol(lon, lat, zs=height, op=lambda v: v)
            fine_rows, fine_cols = b.rowcol(lon, lat, zs=height, op=lambda v: v)
        # GDAL's RPC pixels: a position p on the coarse grid is p * 4 on the fine one, both counted from the corner.
        np.testing.assert_allclose(fine_rows, np.asarray(rows) * 4, atol=1e-6)
        np.testing.assert_allclose(fine_cols, np.asarray(cols) * 4, atol=1e-6)


def test_an_unpicked_alpha_band_becomes_a_mask(tmp_path: Path) -> None:
    source = factory.write_alpha(tmp_path / "in.tif")
    target = upscaled(source, 2, bands=[1, 2, 3])
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert after.count == 3
        expected = np.repeat(np.repeat(before.read(4) > 0, 2, 0), 2, 1)
        np.testing.assert_array_equal(after.read_masks(1) > 0, expected)


def test_bands_can_be_picked_and_reordered(tmp_path: Path) -> None:
    source = factory.write_described(tmp_path / "in.tif")
    with rasterio.open(source) as before:
        last = before.count
        target = upscaled(source, 2, "nearest", bands=[last, 1])
        with rasterio.open(target) as after:
            assert after.descriptions == (before.descriptions[last - 1], before.descriptions[0])
            np.testing.assert_array_equal(after.read(1)[::2, ::2], before.read(last))
            np.testing.assert_array_equal(after.read(2)[::2, ::2], before.read(1))


def test_nir_tagged_alpha_is_an_image_and_the_user_may_say_otherwise(tmp_path: Path) -> None:
    source = factory.write_nir_as_alpha(tmp_path / "in.tif")
    with pytest.warns(GeoSegSRWarning, match="taken as an image"):
        geosegsr.upscale(source, tmp_path / "image.tif", 2, "bicubic")
    with pytest.warns(GeoSegSRWarning, match="taken as a mask, as you said"):
        geosegsr.upscale(source, tmp_path / "mask.tif", 2, "bicubic", alpha="mask")
    with rasterio.open(tmp_path / "image.tif") as image, rasterio.open(tmp_path / "mask.tif") as mask:
        fine = mask.read(4)
        np.testing.assert_array_equal(fine, np.repeat(np.repeat(fine[::2, ::2], 2, 0), 2, 1))
        assert not np.array_equal(image.read(4), fine)


def test_nodata_given_by_the_user_is_masked_and_written(tmp_path: Path) -> None:
    array = factory.pixels(1, (40, 40), "uint16")
    array[0, :10] = 777
    source = factory.write_scene(tmp_path / "in.tif", array)
    target = upscaled(source, 2, nodata=777)
    with rasterio.open(target) as after:
        assert after.nodata == 777
        np.testing.assert_array_equal(
            after.read_masks(1) > 0, np.repeat(np.repeat(array[0] != 777, 2, 0), 2, 1)
        )


def test_provenance_and_the_report(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    report = geosegsr.upscale(source, tmp_path / "out.tif", 2, "lanczos", tile=32, overlap=8, block=80)
    with rasterio.open(tmp_path / "out.tif") as after:
        tags = after.tags()
    assert tags["GEOSEGSR_MODEL"] == "lanczos" and tags["GEOSEGSR_SCALE"] == "2"
    assert len(tags["GEOSEGSR_MODEL_HASH"]) == 64 and "not measured" in tags["GEOSEGSR_NOTE"]
    assert json.loads(tags["GEOSEGSR_OPTIONS"])["tile"] == [32, 32]  # 64 x 48 pixels, by 3 x 2 tiles
    assert report.blocks > 1 and report.tiles_computed >= report.tiles > 1
    assert report.width == after.width and report.bytes == (tmp_path / "out.tif").stat().st_size
    assert json.loads(json.dumps(report.to_dict()))["seconds"]["total"] > 0


@pytest.mark.parametrize("write", [factory.write_nodata, factory.write_rotated, factory.write_alpha])
def test_statistics_are_those_of_the_pixels(write, tmp_path: Path) -> None:
    target = upscaled(write(tmp_path / "in.tif"), 3, block=70)
    with rasterio.open(target) as out:
        for band in range(1, min(out.count, 3) + 1):
            pixels = out.read(band)[out.read_masks(band) > 0].astype(np.float64)
            tags = {key: float(value) for key, value in out.tags(band).items() if "STATISTICS" in key}
            assert tags["STATISTICS_MINIMUM"] == pixels.min() and tags["STATISTICS_MAXIMUM"] == pixels.max()
            assert tags["STATISTICS_MEAN"] == pytest.approx(pixels.mean(), rel=1e-12)
            assert tags["STATISTICS_STDDEV"] == pytest.approx(pixels.std(), rel=1e-10)
            share = 100 * pixels.size / (out.width * out.height)
            assert tags["STATISTICS_VALID_PERCENT"] == pytest.approx(share, rel=1e-3)


def test_the_same_pixels_for_any_block_size(tmp_path: Path) -> None:
    source = factory.write_nodata(tmp_path / "in.tif")
    results = []
    for block in (33, 100, 5000):
        target = tmp_path / f"{block}.tif"
        geosegsr.upscale(source, target, 3, "bicubic", tile=24, overlap=12, block=block)
        with rasterio.open(target) as after:
            results.append(after.read())
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_creation_options_reach_the_file(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    geosegsr.upscale(source, tmp_path / "out.tif", 2, creation={"compress": "zstd", "blocksize": "256"})
    with rasterio.open(tmp_path / "out.tif") as after:
        assert after.compression.name == "zstd" and after.block_shapes[0] == (256, 256)


def test_lossy_compression_is_accepted_when_asked_for(tmp_path: Path) -> None:
    source = factory.write_jpeg(tmp_path / "in.tif")
    geosegsr.upscale(source, tmp_path / "out.tif", 2, creation={"COMPRESS": "JPEG"})
    with rasterio.open(tmp_path / "out.tif") as after:
        assert after.compression.name == "jpeg"


LOSSY = [
    ("uint8", 0, {"COMPRESS": "JPEG"}),
    ("uint8", 0, {"COMPRESS": "webp"}),
    ("uint8", 0, {"COMPRESS": "LERC", "MAX_Z_ERROR": "2"}),
    ("float32", -9999, {"COMPRESS": "LERC_ZSTD", "MAX_Z_ERROR": "0.01"}),
    ("uint16", 0, {"COMPRESS": "JXL", "JXL_LOSSLESS": "NO"}),
    ("float32", -9999, {"NBITS": "16"}),
]
LOSSLESS = [
    ("uint8", 0, {"COMPRESS": "WEBP", "QUALITY": "100"}),
    ("uint8", 0, {"COMPRESS": "LERC"}),
    ("float32", -9999, {"COMPRESS": "LERC", "MAX_Z_ERROR": "0"}),
    ("float32", float("nan"), {"COMPRESS": "LERC_DEFLATE"}),
    ("float64", float("nan"), {"COMPRESS": "LERC", "MAX_Z_ERROR": "0.1"}),
    ("uint16", 0, {"COMPRESS": "ZSTD"}),
]


@pytest.mark.parametrize(("dtype", "nodata", "creation"), LOSSY)
def test_lossy_compression_is_refused_where_it_would_move_nodata(
    dtype: str, nodata: float, creation: dict[str, str], tmp_path: Path
) -> None:
    source = factory.write_nodata(tmp_path / "in.tif", nodata, dtype=dtype)
    with pytest.raises(
        ConfigError, match=r"would change the value that marks .* Pass --co COMPRESS=DEFLATE or ZSTD"
    ):
        geosegsr.upscale(source, tmp_path / "out.tif", 2, "bicubic", creation=creation)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize(("dtype", "nodata", "creation"), LOSSLESS)
def test_compressions_that_keep_nodata_are_accepted(
    dtype: str, nodata: float, creation: dict[str, str], tmp_path: Path
) -> None:
    source = factory.write_nodata(tmp_path / "in.tif", nodata, dtype=dtype)
    target = upscaled(source, 2, "bicubic", creation=creation)
    assert metadata_differences(source, target, 2) == []
    if creation.get("MAX_Z_ERROR") != "0.1":
        geosegsr.upscale(source, tmp_path / "plain.tif", 2, "bicubic")
        with rasterio.open(target) as packed, rasterio.open(tmp_path / "plain.tif") as plain:
            np.testing.assert_array_equal(packed.read(), plain.read())


def test_a_mark_that_too_few_bits_do_not_hold_is_noticed(tmp_path: Path) -> None:
    source = factory.write_nodata(tmp_path / "in.tif", 65535, dtype="uint16")
    with pytest.raises(VerificationError, match="valid pixels"):
        geosegsr.upscale(
            source, tmp_path / "out.tif", 2, "bicubic", creation={"NBITS": "15", "PREDICTOR": "NO"}
        )


@pytest.mark.parametrize("kind", [factory.write_internal_mask, factory.write_alpha])
def test_masks_survive_lossy_compression(kind, tmp_path: Path) -> None:
    source = kind(tmp_path / "in.tif")
    target = upscaled(source, 2, "bicubic", creation={"COMPRESS": "WEBP"})
    assert metadata_differences(source, target, 2) == []


def test_floats_at_the_end_of_the_dtype_stay_valid(tmp_path: Path) -> None:
    heights = (100 + 800 * factory.texture(1, 60, 70)).astype(np.float32)
    heights[0, :20, :20], heights[0, 40:, 40:] = np.finfo(np.float32).min, 3.3e38
    with pytest.warns(GeoSegSRWarning, match="along the border"):
        target = upscaled(factory.write_scene(tmp_path / "in.tif", heights), 2, "bicubic")
    with rasterio.open(target) as out:
        assert np.isfinite(out.read()).all()


EMPTY_TAGS = """<VRTDataset rasterXSize="64" rasterYSize="48">{place}
<Metadata><MDI key="TIFFTAG_IMAGEDESCRIPTION">   </MDI><MDI key="NOTHING"></MDI><MDI key="INDENTED">  text</MDI>
<MDI key="AREA_OR_POINT">{meaning}</MDI></Metadata>
<VRTRasterBand dataType="UInt16" band="1"><ColorInterp>Gray</ColorInterp><Metadata><MDI key="EMPTY"></MDI><MDI key="KEPT">1</MDI></Metadata>
<SimpleSource><SourceFilename relativeToVRT="1">pixels.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
</VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("meaning", ["Area", "Point"])
@pytest.mark.parametrize(
    "place", ["", "<GeoTransform>0, 10, 0, 0, 0, -10</GeoTransform>", "<SRS>EPSG:32633</SRS>"]
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tags_that_a_tiff_cannot_hold_are_left_out(place: str, meaning: str, tmp_path: Path) -> None:
    factory.write_plain(tmp_path / "pixels.tif", count=1)
    source, target = tmp_path / "in.vrt", tmp_path / "out.tif"
    source.write_text(EMPTY_TAGS.format(place=place, meaning=meaning))
    geosegsr.upscale(source, target, 2, "bicubic")
    assert metadata_differences(source, target, 2) == []
    with rasterio.open(target) as out:
        assert out.tags()["INDENTED"] == "text" and out.tags(1)["KEPT"] == "1"
        assert not {"TIFFTAG_IMAGEDESCRIPTION", "NOTHING"} & set(out.tags()) and "EMPTY" not in out.tags(1)
        assert out.tags().get("AREA_OR_POINT") == (meaning if "SRS" in place else None)


def test_tags_by_other_names_are_tried_anew_and_other_values_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    monkeypatch.setattr("geosegsr.raster.cog_gdal._tried", tried)
    for number, tags in enumerate(({"DAY": "1"}, {"DAY": "2"}, {"NIGHT": "2"}, {"DAY": "a\tb"})):
        source = factory.write_plain(tmp_path / f"{number}.tif", tags=tags)
        geosegsr.upscale(source, tmp_path / f"out{number}.tif", 2, "bicubic")
    assert len(tried) == 3


def test_bands_with_different_nodata_need_a_choice(tmp_path: Path) -> None:
    source = factory.write_bandwise_nodata(tmp_path / "in.vrt")
    with pytest.raises(SceneError, match="different nodata values"):
        geosegsr.upscale(source, tmp_path / "out.tif", 2)


def test_only_the_alpha_band_is_no_image(tmp_path: Path) -> None:
    source = factory.write_alpha(tmp_path / "in.tif")
    with pytest.raises(BandError, match="it is the alpha band"):
        geosegsr.upscale(source, tmp_path / "out.tif", 2, bands=[4])


def test_windows_of_a_geotransform_move_with_the_area(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    target = upscaled(source, 2, "nearest", window=(5, 7, 20, 11))
    with rasterio.open(source) as before, rasterio.open(target) as after:
        assert (after.width, after.height) == (40, 22)
        assert after.transform == before.transform @ Affine.translation(5, 7) @ Affine.scale(0.5)
        np.testing.assert_array_equal(after.read()[:, ::2, ::2], before.read()[:, 7:18, 5:25])


@pytest.mark.filterwarnings(
    "ignore::geosegsr.errors.GeoSegSRWarning"
)  # aliases beyond the training, names of GCPs
@pytest.mark.parametrize(
    "name", ["landsat8_rgb_uint16_tilted_collar", "rgba", "rpcs", "scale_offset", "gcps_110_uint16"]
)
def test_real_scenes(name: str, real_scenes: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    geosegsr.upscale(real_scenes / f"{name}.tif", target, 2)
    assert metadata_differences(real_scenes / f"{name}.tif", target, 2) == []
