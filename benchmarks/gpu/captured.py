"""One step of a training as a graph of kernels, which a GPU repeats without waiting for the host between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WARM_UPS = 3
"""Runs before the capture, in which libraries choose their kernels and take their memory."""


class CapturedStep:
    """A function of tensors on a GPU, captured once and repeated with other values of the same shapes.

    The function must not wait for the GPU, and must change the same memory each time.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        """Run the function a few times, then capture it.

        Args:
            function: Takes the inputs; its result has no gradient.
            inputs: Examples, in the shapes of all later ones.
        """
        self._inputs = [x.clone() for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        self._constants = Constants()  # kept as long as the graph, which reads their memory
        with self._constants:
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._value = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result for these inputs; it is overwritten by the next call."""
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._value


class Constants(TorchFunctionMode):
    """Keeps the small tensors that a network copies from the host in each call: a capture allows no such copies."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Any, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.new_tensor:
            key: Any = (str(args[1]), args[0].dtype, args[0].device)
        elif func is Tensor.to and args[0].device.type == "cpu":
            key = (args[0].numpy().tobytes(), str(args[1:]), str(kwargs))
        else:
            return func(*args, **(kwargs or {}))
        if key not in self._kept:
            self._kept[key] = func(*args, **(kwargs or {}))
        return self._kept[key]
