"""Add up the files of geosegsr's dependencies as they are installed here, without and with each extra.

    python benchmarks/speed/install_size.py

Needs an environment that has them all: `pip install '.[all]'`.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SHOWN = ("report", "train", "clip", "cluster", "cloud", "onnx", "spandrel", "all")


def sizes(texts: list[str]) -> dict[str, int]:
    """Bytes of each package that these requirements bring, by name."""
    found: dict[str, int] = {}
    seen: set[str] = set()
    left = list(texts)
    while left:
        text = left.pop()
        if text in seen:
            continue
        seen.add(text)
        needed = Requirement(text)
        if needed.name == PROJECT["name"]:
            left += [other for extra in needed.extras for other in EXTRAS[extra]]
            continue
        try:
            package = distribution(needed.name)
        except PackageNotFoundError:
            print(f"not installed: {text}")
            continue
        files = [Path(str(file.locate())) for file in package.files or []]
        found[package.metadata["Name"]] = sum(file.stat().st_size for file in files if file.exists())
        for other in map(Requirement, package.requires or []):
            extras = needed.extras or {""}
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(str(other).split(";")[0])
    return found


def main() -> None:
    plain = sizes(PROJECT["dependencies"])
    cuda = sum(size for name, size in plain.items() if name.startswith(("nvidia", "triton", "cuda")))
    print(
        f"no extra  {len(plain):3} packages  {sum(plain.values()) / 1e6:7.0f} MB, of CUDA {cuda / 1e6:.0f} MB"
    )
    for extra in SHOWN:
        more = sizes([*PROJECT["dependencies"], *EXTRAS[extra]])
        print(
            f"{extra:9} {len(more):3} packages  {(sum(more.values()) - sum(plain.values())) / 1e6:+7.0f} MB"
        )


if __name__ == "__main__":
    main()
