"""Which files names stand for: one rule for upscale, train and evaluate."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_kit import folder_of

from geosegsr.errors import SceneError
from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.imagery.find import PICTURES, RASTERS, find_images, find_rasters
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.scene_list import find_scenes
from geosegsr.training.dataset import prepare_data


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(found, root):
    return [str(Path(path).relative_to(root)) for path in found]


@pytest.fixture
def beside_a_run(tmp_path):
    """Two images, and the job folder of an unfinished run beside them."""
    folder_of(tmp_path / "in", 2)
    with Job(tmp_path / "in" / "place_0_x2.tif") as job:
        folder_of(job.folder / "blocks", 1)
        yield tmp_path / "in"


@pytest.mark.parametrize("form", ["", "/**/*.tif", "/*/*/*.tif", "/**", "/place_0_x2.tif.geosegsr/blocks/*"])
def test_blocks_of_an_unfinished_run_are_no_images(beside_a_run, form):
    places = [f"{beside_a_run}{form}", str(beside_a_run)]
    if "*/*/" in form or "geosegsr" in form:
        with pytest.raises(SceneError, match="there are none"):
            find_images(places[:1])
        places = places[1:]
    assert names(find_images(places), beside_a_run) == ["place_0.tif", "place_1.tif"]
    assert names(find_scenes(places), beside_a_run) == ["place_0.tif", "place_1.tif"]


def test_a_block_that_is_named_is_no_image(beside_a_run):
    block = str(next(beside_a_run.glob("*.geosegsr/blocks/*")))
    other = str(beside_a_run / "place_1.tif")
    assert (
        find_images([block, other]) == find_scenes([other], [block]) == [other]
    )  # as a shell expands patterns
    for find in (find_images, find_scenes):
        with pytest.raises(SceneError, match="belongs to an unfinished run"):
            find([block])


def test_train_and_evaluate_count_no_blocks(beside_a_run):
    from training_kit import tiny_config

    assert evaluate_model("bicubic", [str(beside_a_run)], scale=2).total.images == 2
    assert "2 images, 3 bands" in prepare_data(tiny_config(beside_a_run)).notes[0]


def test_links_in_circles_end_and_every_file_counts_once(tmp_path, monkeypatch):
    touch(tmp_path / "in", "a.tif", "deep/b.tif", "deep/.hidden/x.tif", "deep/.y.tif")
    touch(tmp_path / "elsewhere", "far.tif")
    for number in range(3):  # a walk that follows each of them has 3 ** 40 ways to go
        (tmp_path / "in/deep" / f"circle{number}").symlink_to(tmp_path / "in")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/again.tif").symlink_to(tmp_path / "in/deep/b.tif")
    monkeypatch.chdir(tmp_path / "in")
    wanted = ["a.tif", "b.tif", "far.tif"]
    for place in (f"{tmp_path}/in", ".", f"{tmp_path}/in/**/*.tif", "**/*.tif", "./**/**/*.tif", "**"):
        found = find_images([place])
        assert sorted(Path(os.path.realpath(path)).name for path in found) == wanted
        assert found == find_images([place])


def test_a_folder_is_its_rasters_and_without_any_its_pictures(tmp_path):
    touch(
        tmp_path,
        "a.TIF",
        "a.png",
        "b.jp2",
        "notes.txt",
        "photos/c.png",
        "photos/d.JPG",
        "photos/e.txt",
        ".f.tif",
    )
    assert names(find_images([str(tmp_path)]), tmp_path) == ["a.TIF", "b.jp2", "photos/c.png", "photos/d.JPG"]
    assert names(find_scenes([str(tmp_path)]), tmp_path) == ["a.TIF", "b.jp2"]
    assert names(find_scenes([f"{tmp_path}/photos"]), tmp_path) == ["photos/c.png", "photos/d.JPG"]
    assert names(find_images([f"{tmp_path}/*"]), tmp_path) == ["a.TIF", "b.jp2"]
    assert names(find_images([f"{tmp_path}/**"]), tmp_path) == names(find_images([str(tmp_path)]), tmp_path)
    assert names(find_images([f"{tmp_path}/*.png"]), tmp_path) == ["a.png"]
    assert names(find_images([f"{tmp_path}/*.txt"]), tmp_path) == ["notes.txt"]  # spelled out


def test_a_pattern_for_files_without_suffix(tmp_path):
    touch(tmp_path, "B02", "B03", "readme")
    assert names(find_scenes([f"{tmp_path}/B0*"]), tmp_path) == ["B02", "B03"]


_STEMS = st.sampled_from(["a", "b", ".a", "a b", "[a]", "ä"])
_FOLDERS = st.lists(st.sampled_from(["x", "y", ".z", "run.tif.geosegsr", "[x]"]), max_size=3).map("/".join)
_SUFFIXES = st.sampled_from([".tif", ".TIF", ".png", ".txt", ".vrt", ""])


@settings(deadline=None, max_examples=60)
@given(
    files=st.sets(st.tuples(_FOLDERS, _STEMS, _SUFFIXES).map(lambda p: f"{p[0]}/{p[1]}{p[2]}".lstrip("/")))
)
def test_any_tree_by_folder_and_by_pattern(files, tmp_path_factory):
    root = touch(tmp_path_factory.mktemp("tree"), *files)

    def seen(path):  # the rule, written down a second time
        parts = Path(path).parts
        return not any(part.startswith(".") or part.endswith(".geosegsr") for part in parts)

    def images(paths):
        kinds = {}
        for path in paths:
            for rank, kind in enumerate((RASTERS, PICTURES)):
                if Path(path).suffix.lower() in kind:
                    kinds.setdefault(Path(path).parent, {}).setdefault(rank, []).append(path)
        return sorted((p for ranks in kinds.values() for p in ranks[min(ranks)]), key=Path)

    def found(find, place):
        try:
            return names(find([place]), root)
        except SceneError:
            return []

    below = images(filter(seen, files))
    assert found(find_images, str(root)) == found(find_images, f"{glob.escape(str(root))}/**/*") or not below
    assert found(find_images, str(root)) == below
    assert found(find_scenes, str(root)) == [path for path in below if "/" not in path]
    assert found(find_images, f"{glob.escape(str(root))}/**/*.tif") == sorted(
        (path for path in filter(seen, files) if path.endswith(".tif")), key=Path
    )


@pytest.mark.parametrize(
    "pattern",
    ["**", "**/*.tif", "in/**", "in/**/*", "i*/**/c/*", "in/**/c/**/*.tif", "in/**/**/*", "./in/**/[ab].tif", "**/.h/*", "a**/x*"],
)  # fmt: skip
def test_patterns_find_what_glob_finds(pattern, tmp_path, monkeypatch):
    touch(
        tmp_path, "in/a.tif", "in/b.tif", "in/b/c/d.tif", "in/b/c/c/e.tif", "in/b/.h/f.tif", "in/.g.tif", "in/[x]/b.tif",
        "a1/x.tif", "y.tif",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for absolute in ("", f"{tmp_path}/"):
        wanted = {Path(name) for name in glob.glob(absolute + pattern, recursive=True)}  # noqa: PTH207
        assert find_rasters([absolute + pattern], deep=False) == [
            str(p) for p in sorted(wanted) if p.is_file()
        ]


@pytest.mark.parametrize(
    "address", ["/vsicurl/https://host/a[1]*.tif", "https://host/a?.tif", "s3://b/*.tif"]
)
def test_addresses_are_taken_as_they_are(address):
    assert find_scenes([address], [address]) == find_images([address]) == [address]


def test_the_order_is_that_of_the_names_and_then_of_the_paths(tmp_path):
    touch(tmp_path, "b/2.tif", "b/10.tif", "b.tif", "a/1.tif")
    by_name = find_images([f"{tmp_path}/b", f"{tmp_path}/a", str(tmp_path)])
    assert names(by_name, tmp_path) == ["b/10.tif", "b/2.tif", "a/1.tif", "b.tif"]


@pytest.mark.parametrize("nothing", ["", "*.tif", "none/**"])
def test_a_folder_or_pattern_without_images_is_refused(nothing, tmp_path):
    touch(tmp_path, "notes.txt")
    for find in (find_images, find_scenes):
        with pytest.raises(SceneError, match="there are none"):
            find([str(tmp_path / nothing)])


def test_a_path_that_does_not_exist_is_refused_before_a_long_run(tmp_path):
    typo = str(tmp_path / "trian")
    with pytest.raises(SceneError, match="trian': there is no such file"):
        find_images([typo])
    assert find_scenes([typo]) == [typo]  # a batch tells of it and goes on


def test_a_vrt_counts_only_where_it_is_asked_for(tmp_path):
    root = touch(tmp_path, "a.vrt", "b.tif", "only/c.vrt")
    assert names(find_images([str(root)]), root) == ["b.tif"]
    assert names(find_images([f"{root}/**"]), root) == ["b.tif"]
    for nothing in (f"{root}/only", f"{root}/only/*"):
        with pytest.raises(SceneError, match="there are none"):
            find_images([nothing])
    assert names(find_images([f"{root}/*.vrt"]), root) == ["a.vrt"]
    assert names(find_images([f"{root}/only/c.vrt"]), root) == ["only/c.vrt"]
