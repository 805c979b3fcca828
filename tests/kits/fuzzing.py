"""Tries the command on bad files, each in a process of its own with limits, and says how it ended.

    python fuzzing.py KIND SEED FIRST COUNT FOLDER        one line of JSON a mutant, on standard output

Everything is imported once; each mutant then gets a copy of this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

KITS = Path(__file__).resolve().parent
ROOT = KITS.parents[1]
for folder in (ROOT, ROOT / "cli", KITS):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import mutants  # noqa: E402
import product_factory as products  # noqa: E402
import rasterio  # noqa: E402
import scene_factory as factory  # noqa: E402

SECONDS = 20
"""Of processor time; by the clock it may be much more on a busy machine."""
MEMORY = 1_500_000_000
_BUG = 70
_WRONG = 71
KINDS = ("scene", "checkpoint", "config", "area", "stac", "list")
FINE = ("result", "refused", "working")


@dataclass(frozen=True)
class Trial:
    """How a command ended on one mutant."""

    kind: str
    seed: int
    number: int
    name: str
    """The seed file and what was done to it."""
    ended: str
    """"result" (verified), "refused" (one line) or "working" (block after block of a raster that is said to be large);
    or a fault: "traceback", "untidy", "wrong", "crash", "slow", "large"."""
    seconds: float
    """Of processor time."""
    memory: int
    """Resident bytes at their highest, in all."""
    said: str
    """What it wrote to standard error; the end of it."""

    @property
    def fine(self) -> bool:
        return self.ended in FINE


def scene_seeds(folder: Path) -> dict[str, Path]:
    """One small file of every kind that the tests know, and the sample."""
    folder.mkdir(exist_ok=True)
    seeds = {"sample": ROOT / "sample_data" / "scene.tif"}
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    writers: dict[str, Any] = {
        "tiled": lambda p: factory.write_plain(p, compress="deflate", **tiled),
        "strips": lambda p: factory.write_plain(p, compress="lzw", blockysize=5),
        "plain": factory.write_plain,
        "jpeg": factory.write_jpeg,
        "float": factory.write_nan,
        "mask": factory.write_internal_mask,
        "alpha": factory.write_alpha,
        "nodata": factory.write_nodata,
        "described": factory.write_described,
        "gcps": factory.write_gcps,
        "rpcs": factory.write_rpcs,
        "rotated": factory.write_rotated,
        "bigtiff": lambda p: factory.write_plain(p, BIGTIFF="YES", compress="zstd", predictor=2, **tiled),
        "big endian": factory.write_big_endian,
        "many bands": factory.write_many_bands,
        "lerc": lambda p: factory.write_plain(p, dtype="float32", compress="lerc", **tiled),
        "webp": lambda p: factory.write_plain(p, dtype="uint8", compress="webp", **tiled),
        "degrees": factory.write_odd_pixel,
    }
    for name, write in writers.items():
        seeds[name] = write(folder / f"{name.replace(' ', '-')}.tif")
    real = ROOT.parent / "shared" / "imagery" / "scenes"
    for path in sorted(real.glob("*.tif")) if real.is_dir() else ():
        if path.stat().st_size < 1_000_000 and pixels_of(path) < 500_000:
            seeds[path.stem] = path
    return seeds


def pixels_of(path: Path) -> int:
    """Pixels of one band."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as source:
            return int(source.height * source.width)


def seeds_of(kind: str, folder: Path) -> dict[str, bytes]:
    """The files to damage, by name."""
    if kind == "scene":
        return {name: path.read_bytes() for name, path in scene_seeds(folder / "seeds").items()}
    if kind == "checkpoint":
        return checkpoint_seeds(folder)
    if kind == "config":
        return config_seeds()
    if kind == "stac":
        return item_seeds(folder)
    return list_seeds(folder) if kind == "list" else area_seeds()


def checkpoint_seeds(folder: Path) -> dict[str, bytes]:
    """Small networks, one of each kind of unit."""
    import torch

    from geosegsr.models.card import ModelCard
    from geosegsr.models.checkpoint import save_checkpoint
    from geosegsr.models.segsr.network import SeGSR, preset

    small = {"width": 8, "depths": (1, 1), "modulation_width": 4, "tower_width": 16, "tower_layers": 1,
             "tower_heads": 2, "tower_grid": 2, "tower_output": 16, "prompt_heads": 2}  # fmt: skip
    torch.manual_seed(0)
    seeds = {}
    for storage in ("float32", "bfloat16"):
        model = SeGSR(preset("compact", scale=2, **small)).eval()
        card = ModelCard.of(
            model.config, storage, storage=storage, metrics={"psnr": 30.5}, tile=32, overlap=16
        )
        path = folder / f"{storage}.safetensors"
        save_checkpoint(path, model, card)
        seeds[storage] = path.read_bytes()
        path.unlink()
    return seeds


def config_seeds() -> dict[str, bytes]:
    """The recipes that come with the package."""
    from importlib import resources

    found = resources.files("geosegsr.training.recipes").iterdir()
    return {entry.name: entry.read_bytes() for entry in found if entry.name.endswith(".toml")}


def area_seeds() -> dict[str, bytes]:
    """Areas over the scene, as WKT, as GeoJSON text and as a file's content."""
    ring = "463300 5426300, 463500 5426300, 463500 5426100, 463300 5426300"
    box = [[14.4988, 48.9894], [14.5058, 48.9894], [14.5058, 48.9858], [14.4988, 48.9894]]
    polygon = {"type": "Polygon", "coordinates": [box]}
    feature = {"type": "Feature", "properties": {"name": "a"}, "geometry": polygon}
    return {
        "wkt": f"POLYGON (({ring}))".encode(),
        "multi.wkt": f"MULTIPOLYGON ((({ring})), ((463250 5426350, 463300 5426350, 463300 5426300, 463250 5426350)))".encode(),
        "json": json.dumps(polygon).encode(),
        "file.geojson": json.dumps({"type": "FeatureCollection", "features": [feature] * 2}).encode(),
    }


def item_seeds(folder: Path) -> dict[str, bytes]:
    """STAC items beside their rasters: one written by hand, and one as `upscale --stac` writes them."""
    by_hand = products.write_item(folder / "by_hand.json")
    raster = factory.write_plain(folder / "data" / "own.tif", dtype="uint8")
    own = {
        "type": "Feature", "stac_version": "1.1.0", "id": "own", "bbox": [179.5, -10, -179.5, 10],
        "geometry": {"type": "Polygon", "coordinates": [[[14, 48], [15, 48], [15, 49], [14, 48]]]},
        "properties": {"datetime": None, "start_datetime": "2024-05-01T10:20:31Z", "proj:code": "EPSG:32633"},
        "links": [{"rel": "self", "href": "own.json"}], "stac_extensions": [],
        "assets": {"data": {
            "href": f"data/{raster.name}", "type": "image/tiff; application=geotiff", "roles": ["data"],
            "bands": [{"name": f"B{n}", "nodata": 0, "raster:scale": 1e-4, "raster:offset": -0.1} for n in (2, 3, 4)],
        }},
    }  # fmt: skip
    return {"by hand": by_hand.read_bytes(), "own": json.dumps(own, indent=1).encode()}


def list_seeds(folder: Path) -> dict[str, bytes]:
    """Lists of scenes, whose paths are relative to the folder."""
    (folder / "more").mkdir(exist_ok=True)
    for name in ("one.tif", "two.tif", "more/three.tif"):
        factory.write_plain(folder / name, size=(16, 16), dtype="uint8")
    products.write_item(folder / "item.json")
    return {
        "paths": b"one.tif\ntwo.tif\nmore/three.tif\n",
        "windows": b"# scenes\r\n\r\none.tif\r\ntwo.tif\r\nmore/three.tif",
        "products": b"item.json\nitem.json:scl\nitem.json:red,nir\none.tif\n",
    }


def trials(kind: str, seed: int, first: int, count: int, folder: Path) -> Iterator[Trial]:
    """Make the mutants first ... first + count - 1 and try each."""
    warm_up(kind)
    seeds = seeds_of(kind, folder)
    scene = factory.write_plain(folder / "fair.tif", dtype="uint8")
    mutations = {
        "scene": mutants.SCENE_MUTATIONS,
        "checkpoint": mutants.CHECKPOINT_MUTATIONS,
        "stac": mutants.ITEM_MUTATIONS,
    }
    for number in range(first, first + count):
        rng = random.Random(f"{kind} {seed} {number}")
        origin = rng.choice(sorted(seeds))
        data, done = mutants.mutate(seeds[origin], mutations.get(kind, mutants.TEXT_MUTATIONS), rng)
        scale = rng.choice((2, 3, 4, 8))
        yield attempt(
            kind, seed, number, f"{origin}: {done}", folder, command(kind, data, origin, scale, folder, scene)
        )


def traps(folder: Path) -> Iterator[Trial]:
    """Try the scenes made by hand to do harm."""
    warm_up("scene")
    for number, (name, make) in enumerate(mutants.TRAPS.items()):
        yield attempt("scene", 0, number, name, folder, command("scene", make(), name, 8, folder, folder))


def command(kind: str, data: bytes, origin: str, scale: int, folder: Path, scene: Path) -> list[str]:
    """What to type to have the mutant read."""
    target = str(folder / "out.tif")
    if kind == "scene":
        path = folder / "mutant.tif"
        path.write_bytes(data)
        return ["upscale", str(path), "-o", target, "--scale", str(scale), "--model", "nearest", "-q"]
    if kind == "checkpoint":
        path = folder / "mutant.safetensors"
        path.write_bytes(data)
        return ["upscale", str(scene), "-o", target, "--scale", "2", "--model", str(path), "-q"]
    if kind == "config":
        path = folder / "mutant.toml"
        path.write_bytes(data)
        return ["read config", str(path)]
    if kind == "stac":
        path = folder / "mutant.json"
        path.write_bytes(data)
        return ["upscale", str(path), "-o", target, "--scale", str(scale), "--model", "nearest", "-q"]
    if kind == "list":
        path = folder / "mutant.txt"
        path.write_bytes(data)
        listed = ("--from-file", str(path), "-o", f"{target}/")
        return ["upscale", *listed, "--scale", str(scale), "--model", "nearest", "-q"]
    if origin.endswith("json") and origin != "json":
        path = folder / "mutant.geojson"
        path.write_bytes(data)
        area = str(path)
    else:
        area = data.decode(errors="surrogateescape").replace("\0", "")
    return ["upscale", str(scene), "-o", target, "--scale", "2", "--model", "nearest", "-q", "--aoi", area]


def warm_up(kind: str) -> None:
    """Import what the commands need, so that the copies need not."""
    modules = [
        "geosegsr_cli.commands.upscale",
        "geosegsr.pipeline.upscale",
        "dask.threaded",
        "rio_cogeo.cogeo",
    ]
    modules += {"checkpoint": ["geosegsr.models.inference"], "config": ["geosegsr.training.config"]}.get(
        kind, []
    )
    for module in modules:
        import_module(module)
    with rasterio.Env():
        pass


def attempt(kind: str, seed: int, number: int, name: str, folder: Path, args: list[str]) -> Trial:
    """Run one command in a copy of this process and judge how it ends."""
    began = time.monotonic()
    said = folder / "said"
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)  # lists name their scenes from here
        _child(args, said)
    slow = done = 0
    while not done:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done and time.monotonic() - began > 40 * SECONDS:
            slow = 1
            os.kill(pid, signal.SIGKILL)
            done, status, usage = os.wait4(pid, 0)
        time.sleep(0.01)
    seconds = usage.ru_utime + usage.ru_stime
    text = said.read_text(errors="replace")
    slow = slow or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
    ended = (
        ("working" if _blocks_done(folder) else "slow")
        if slow
        else _judge(status, text, several=kind == "list")
    )
    memory = usage.ru_maxrss * 1024
    if ended in FINE and memory > MEMORY:
        ended = "large"
    left = [entry for entry in folder.iterdir() if entry.name.startswith("out.tif")]
    if ended == "refused" and any(entry.name == "out.tif" and entry.is_file() for entry in left):
        ended = "wrong"
    for entry in left:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return Trial(kind, seed, number, name, ended, round(seconds, 2), memory, text[-2000:])


def _blocks_done(folder: Path) -> int:
    journal = folder / "out.tif.geosegsr" / "done.jsonl"
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


def _judge(status: int, text: str, *, several: bool = False) -> str:
    if os.WIFSIGNALED(status):
        return f"crash ({signal.Signals(os.WTERMSIG(status)).name})"
    code = os.WEXITSTATUS(status)
    lines = [line for line in text.splitlines() if not line.startswith("Warning: ")]
    if code == 0:
        return "result" if not lines else "untidy"
    if code == 1 or (several and code == 2):  # of a list that is none, as of an option that is wrong
        tidy = all(
            line.startswith("Error: ") and line.endswith((".", "?")) and len(line) < 2000 for line in lines
        )
        return "refused" if tidy and (lines if several else len(lines) == 1) else "untidy"
    return {_BUG: "traceback", _WRONG: "wrong"}.get(code, f"exit {code}")


def _child(args: list[str], said: Path) -> None:
    """In the copy: limits, the command, and a look at its result; never returns."""
    code = _BUG
    try:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + 2 * MEMORY, held + 2 * MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MEMORY, 4 * MEMORY))
        code = _read_config(args[1]) if args[0] == "read config" else _run(args)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(args: list[str]) -> int:
    from geosegsr_cli.main import main

    try:
        main(args)
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code or _check_result(args)


def _read_config(path: str) -> int:
    from geosegsr_cli.parts.options import one_line

    from geosegsr.errors import GeoSegSRError
    from geosegsr.training.config import resolve_config

    try:
        resolve_config(file=path)
    except GeoSegSRError as error:
        sys.stderr.write(f"Error: {one_line(str(error))}\n")
        return 1
    return 0


def _check_result(args: list[str]) -> int:
    """Whether each result has the right size and all of it can be read; it was verified by the command itself."""
    source, target = args[1], Path(args[args.index("-o") + 1])
    if "--from-file" in args:  # a list may name no scene at all
        return max((_check_file(path, None, args) for path in target.glob("*.tif")), default=0)
    return _check_file(target, None if source.endswith(".json") else source, args)


def _check_file(target: Path, source: str | None, args: list[str]) -> int:
    import rasterio
    from rio_cogeo.cogeo import cog_validate

    scale = int(args[args.index("--scale") + 1])
    with rasterio.Env(), rasterio.open(target) as result:
        for _, window in result.block_windows(1):  # at once it could be larger than what the command may take
            result.read(window=window)
        whole = "--aoi" in args or (source is None and result.height % scale == result.width % scale == 0)
        if not whole and source is not None:
            with rasterio.open(source) as scene:
                whole = (result.height, result.width) == (scene.height * scale, scene.width * scale)
        valid, errors, _ = cog_validate(target, quiet=True)
    if not (whole and valid):
        sys.stderr.write(f"the result is wrong: {errors}\n")
        return _WRONG
    return 0


def main() -> None:
    """Print one line of JSON for each mutant."""
    kind, folder = sys.argv[1], Path(sys.argv[-1])
    found = traps(folder) if kind == "traps" else trials(kind, *map(int, sys.argv[2:5]), folder)
    for trial in found:
        sys.stdout.write(json.dumps(asdict(trial)) + "\n")
        sys.stdout.flush()


def tally(found: list[Trial]) -> Counter[str]:
    """How many ended how."""
    return Counter(trial.ended for trial in found)


if __name__ == "__main__":
    main()
