"""s2super 1.2 by the protocol of multires.py: 20 m bands restored from 40 m, guided by B02, B03 and B04 at 20 m.

Its network needs TensorFlow, so this runs in two steps, the second in an environment of its own:

    python benchmarks/quality/multires_s2super.py prepare 10m.tif 20m.tif PROTOCOL.npz [--mtf 0.3]
    python -m venv OTHER; OTHER/bin/pip install "tensorflow-cpu<2.16"; OTHER/bin/pip install --no-deps s2super==1.2.30
    OTHER/bin/python benchmarks/quality/multires_s2super.py run PROTOCOL.npz [--refit]

The network is called as the package calls it: reflectance, the band enlarged by bilinear interpolation beside the colours,
patches of 64 pixels blended by their distance from the edge. --refit fits it to the scene first, as the package does by
default: B08 reduced by 2, 5 epochs, a rate of 1e-4. Scored are the rows of the lower third that multires.py scores, by band:
PSNR in dB and RMSE in DN.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

PATCH, STEP, EDGE = 64, 40, 4


def prepare(fine: str, coarse: str, target: str, mtf: float) -> None:
    """Reduce the bands, and write what the network reads."""
    import rasterio

    from geosegsr.models.interpolation import Interpolator
    from geosegsr.sensor.consistency import degraded
    from geosegsr.sharpening.blur import sampling_of_mtf

    def bands(path: str, names: tuple[str, ...] | None = None) -> Any:
        with rasterio.open(path) as source:
            wanted = None if names is None else [source.descriptions.index(name) + 1 for name in names]
            return source.read(wanted).astype(np.float64)

    sampling, enlarge = sampling_of_mtf(2, mtf), Interpolator("bilinear", 2)
    guide = np.stack([degraded(band, sampling) for band in bands(fine, ("B02", "B03", "B04", "B08"))])
    truth = bands(coarse)
    low = np.stack([degraded(band, sampling) for band in truth])
    nir = guide[3:].reshape(1, len(guide[3]) // 2, 2, -1, 2).mean((2, 4))
    np.savez(target, guide=guide, truth=truth, enlarged=enlarge(low[None])[0], nir=enlarge(nir[None])[0, 0])


def _network() -> Any:
    """The network that the package ships; without its compiled loss, which newer versions do not load."""
    import tensorflow as tf

    found = importlib.util.find_spec("s2super")
    assert found is not None and found.origin is not None, "pip install --no-deps s2super"
    return tf.keras.models.load_model(Path(found.origin).parent / "s2super_v5", compile=False)


def _refit(network: Any, given: Any) -> None:
    """Fit to B08 of the scene, with the package's loss."""
    import tensorflow as tf

    def loss(true: Any, both: Any) -> Any:
        found, confidence = tf.split(both, 2, axis=-1)
        doubt = tf.maximum(1.0 - confidence, 1.19e-07)
        return tf.reduce_mean(0.2 * doubt + tf.abs(true - found) / (tf.abs(true) + 0.01) / doubt)

    network.compile(optimizer=tf.keras.optimizers.Adam(1e-4), loss=loss)
    rows, cols = given["nir"].shape
    corners = [(r, c) for r in range(0, rows - PATCH + 1, PATCH) for c in range(0, cols - PATCH + 1, PATCH)]
    guide = given["guide"].transpose(1, 2, 0) / 1e4

    def cut(image: Any) -> Any:
        return np.stack([image[r : r + PATCH, c : c + PATCH] for r, c in corners]).astype(np.float32)

    network.fit(
        [cut(given["nir"][..., None] / 1e4), cut(guide[..., :3])],
        cut(guide[..., 3:]),
        epochs=5,
        batch_size=128,
        verbose=0,
    )


def _restored(network: Any, band: Any, colours: Any, first: int) -> Any:
    """One band over the rows from `first` on; reflectance in, reflectance out."""
    rows, cols = band.shape

    def places(start: int, length: int) -> list[int]:
        return sorted({*range(start, length - PATCH + 1, STEP), length - PATCH})

    corners = [(r, c) for r in places(first, rows) for c in places(0, cols)]
    one = np.minimum(np.arange(PATCH) + 1, PATCH - np.arange(PATCH))
    weights = np.outer(one, one)
    total, weight = np.zeros(band.shape), np.full(band.shape, 1e-9)
    patches = [
        np.stack([image[r : r + PATCH, c : c + PATCH] for r, c in corners])
        for image in (band[..., None], colours)
    ]
    for (r, c), patch in zip(corners, network.predict(patches, batch_size=64, verbose=0), strict=True):
        total[r : r + PATCH, c : c + PATCH] += patch[..., 0] * weights
        weight[r : r + PATCH, c : c + PATCH] += weights
    return total / weight


def run(source: str, refit: bool) -> None:
    """Restore all bands and print their scores."""
    given = np.load(source)
    network = _network()
    if refit:
        _refit(network, given)
    colours = (given["guide"][:3].transpose(1, 2, 0) / 1e4).astype(np.float32)
    rows = given["truth"].shape[1]
    scored = (slice(rows * 2 // 3 + EDGE, rows - EDGE), slice(EDGE, -EDGE))
    found = []
    for band, truth in zip(given["enlarged"], given["truth"], strict=True):
        restored = _restored(network, (band / 1e4).astype(np.float32), colours, rows * 2 // 3 - EDGE)
        t = truth[scored]
        error = float(np.sqrt(np.mean((np.rint(restored[scored] * 1e4) - t) ** 2)))
        low, high = np.percentile(t, [0.1, 99.9])
        found.append((20 * np.log10((high - low) / error), error))
        print("{:.2f} dB, {:.1f} DN".format(*found[-1]), flush=True)
    print("mean {:.2f} dB, {:.1f} DN".format(*np.mean(found, axis=0)))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("prepare")
    for name in ("fine", "coarse", "target"):
        first.add_argument(name)
    first.add_argument(
        "--mtf", type=float, default=0.3, help="of the protocol's blur; 0.7 is nearly a plain mean"
    )
    second = steps.add_parser("run")
    second.add_argument("source")
    second.add_argument("--refit", action="store_true")
    options = parser.parse_args()
    if options.step == "prepare":
        prepare(options.fine, options.coarse, options.target, options.mtf)
    else:
        run(options.source, options.refit)


if __name__ == "__main__":
    main()
