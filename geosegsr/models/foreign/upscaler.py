"""A network of another project as an Upscaler."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geosegsr.cpu import keep_freed_memory
from geosegsr.errors import CheckpointError
from geosegsr.files import sha256_of
from geosegsr.models.card import ModelCard, usual_band_names
from geosegsr.models.checkpoint import has_card, read_card
from geosegsr.models.contract import Facts, FloatArray
from geosegsr.models.device import PRECISIONS, choose_device, choose_precision
from geosegsr.models.foreign.open import check_span, open_program
from geosegsr.models.foreign.probe import Findings, called, measure, warn_if_unsettled
from geosegsr.models.foreign.program import Program
from geosegsr.models.foreign.sizes import sizes_of
from geosegsr.models.inference import NetworkUpscaler
from geosegsr.models.segsr.precision import without_tf32

_GPU_BATCH_PIXELS = 4 * 128 * 128  # lr pixels a call
_log = logging.getLogger(__name__)


class ForeignUpscaler(NetworkUpscaler):
    """The network in a file of another project.

    How far it sees is measured when it is opened, and tiles overlap accordingly.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "auto",
        precision: str = "auto",
        *,
        trusted: bool = False,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Open a network.

        Args:
            path: A file that `open_program` reads.
            device: "auto", "cpu", "cuda" or "cuda:N".
            precision: "fp32", "bf16", "fp16", or "auto": fp32, since nobody knows what such a network bears. Tiles of
                narrow scenes are computed in float32 all the same.
            trusted: Whether a program in the file may run.
            span: What the network takes for black and white; most take 0 and 1, some 0 and 255.

        Raises:
            CheckpointError: The file is damaged, foreign, or would run code.
            ConfigError: There is no such device or range, or a package is missing.
        """
        self.path = Path(path).absolute()
        self.span = check_span(span)
        self.trusted = trusted
        self.wanted_device, self.precision = device, "fp32" if precision == "auto" else precision
        chosen = choose_device(device)
        dtype = PRECISIONS[choose_precision(self.precision, chosen)]
        if chosen.type == "cpu":
            keep_freed_memory()
        self.checksum = _checksum(self.path)
        program = open_program(self.path, chosen, dtype, trusted=trusted)
        self.card = read_card(self.path) if has_card(self.path) else None
        self.architecture = program.architecture
        self.findings = self._measured(program, chosen, dtype) if self.card is None else _found(self.card)
        self.facts = _facts(program, self.findings, chosen, self)
        self._alone = program.bands == 1
        lo, hi = self.span

        def network(lr: Tensor, _: Tensor | None) -> Tensor:
            return (called(program, (lr * (hi - lo) + lo).to(dtype)).float() - lo) / (hi - lo)

        super().__init__(network, chosen, self.facts.batch, self.precision)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path: another process opens the same file on its own device, and refuses a different one."""
        own = (str(self.path), self.wanted_device, self.precision, self.trusted, self.span, self.checksum)
        return _reopened, own

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Enlarge a batch of tiles; see Upscaler. A network of one band takes each band alone."""
        if not self._alone:
            return super().__call__(lr)
        n, bands, height, width = lr.shape
        sr = super().__call__(lr.reshape(n * bands, 1, height, width))
        return sr.reshape(n, bands, *sr.shape[-2:])

    def workspace_bytes(self, height: int, width: int) -> int:
        """Bytes of main memory that a call takes for one tile, as measured; 0 on a GPU, which has its own."""
        return self.findings.bytes_a_pixel * height * width if self.device.type == "cpu" else 0

    def _loaded_again(self, precision: str) -> ForeignUpscaler:
        return _reopened(
            str(self.path), self.wanted_device, precision, self.trusted, self.span, self.checksum
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One call at a time, on all cores: some networks, such as SPAN, change their own state while they compute."""
        with self._lock, without_tf32():
            yield

    def _measured(self, program: Program, device: torch.device, dtype: torch.dtype) -> Findings:
        lo, hi = self.span
        try:
            findings = measure(program, device, dtype, hi - lo)
        except CheckpointError as error:
            raise CheckpointError(f"Cannot use '{self.path}' as a model: {error}.") from error
        warn_if_unsettled(findings, self.path.name)
        _log.info("%s: %s", self.path.name, findings)
        return findings


def _facts(program: Program, findings: Findings, device: torch.device, model: ForeignUpscaler) -> Facts:
    lo, hi = model.span
    sizes = sizes_of(program, findings)
    area: int = sizes["tile"] ** 2
    return Facts(
        name=f"{model.path.stem} ({program.architecture})" if model.card is None else model.card.name,
        fingerprint=f"{model.checksum}-{model.precision}-{lo:g}-{hi:g}",
        scale=findings.scale,
        bands=None if program.bands == 1 else program.bands,
        batch=1 if device.type == "cpu" else max(1, _GPU_BATCH_PIXELS // area),
        device=device.type,
        precision=model.precision,
        card=model.card,
        band_names=usual_band_names(3) if program.bands == 3 else (),
        **sizes,
    )


def _found(card: ModelCard) -> Findings:
    """What was measured of a network when its checkpoint was written."""
    try:
        return Findings(**card.config)
    except TypeError as error:
        raise CheckpointError(
            f"Cannot use the card of '{card.name[:80]}': it does not say how far the network sees."
        ) from error


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"Cannot read '{path}': {error.strerror or error}.") from error


def _reopened(
    path: str, device: str, precision: str, trusted: bool, span: tuple[float, float], checksum: str
) -> ForeignUpscaler:
    """Called by unpickling.

    Raises:
        CheckpointError: The file of that name is another one here.
    """
    found = ForeignUpscaler(path, device, precision, trusted=trusted, span=span)
    if found.checksum != checksum:
        raise CheckpointError(
            f"Cannot use '{path}': it is not the file that this run was planned with. "
            "Give every worker the same file, or start again."
        )
    return found
