"""All measures of a result, taken part by part: memory does not grow with the scene."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.agreement import Agreement, see
from geosegsr.appraisal.pair import Pair, Part
from geosegsr.appraisal.places import Cell, cells_of
from geosegsr.appraisal.sensors import Imaging, imaging_of
from geosegsr.appraisal.spectra import Spectra
from geosegsr.appraisal.steps import Steps
from geosegsr.appraisal.texture import FlatGround
from geosegsr.raster.scene import Scene

MOST_PARTS = 100
"""Parts that are measured, spread evenly over the scene: some 100 million result pixels."""
_BINS = 64
_BEYOND = 0.15
"""Share of the span by which a histogram reaches beyond it."""


@dataclass
class Histograms:
    """Counts of input and result by value."""

    edges: list[NDArray[np.float64]]
    """Of the bins of each band, as shares of its span; of whole numbers each bin holds equally many."""
    source: list[NDArray[np.float64]]
    result: list[NDArray[np.float64]]

    @classmethod
    def of(cls, pair: Pair) -> Histograms:
        """Nothing counted yet."""
        edges = [_edges(float(quantum)) for quantum in pair.quantum]
        return cls(
            edges, [np.zeros(len(ends) - 1) for ends in edges], [np.zeros(len(ends) - 1) for ends in edges]
        )

    def add(self, part: Part) -> None:
        """The valid pixels of a part's core."""
        valid = part.lr_valid[part.inner.slices]
        lr = part.lr[:, *part.inner.slices][:, valid]
        hr = part.hr[:, *part.inner.scaled(part.scale).slices][:, part.fine(valid)]
        for values, counts in ((lr, self.source), (hr, self.result)):
            for band, (row, ends) in enumerate(zip(values, self.edges, strict=True)):
                counts[band] += np.histogram(np.clip(row, ends[0], ends[-1]), ends)[0]


def _edges(quantum: float) -> NDArray[np.float64]:
    width = (1 + 2 * _BEYOND) / _BINS
    if quantum:
        width = max(1, round(width / quantum)) * quantum
    # Edges lie half a step beside whole numbers, which count from the span's low end.
    count = math.ceil((1 + 2 * _BEYOND) / width)
    first = -math.ceil(_BEYOND / width) * width - quantum / 2
    edges: NDArray[np.float64] = first + width * np.arange(count + 2, dtype=np.float64)
    return edges


@dataclass
class Survey:
    """What was measured."""

    pair: Pair
    imaging: Imaging
    agreement: Agreement
    spectra: Spectra
    histograms: Histograms
    flat: FlatGround = field(default_factory=FlatGround)
    steps: Steps = field(default_factory=Steps)
    cells: list[Cell] = field(default_factory=list)
    clipped: list[tuple[float, float]] = field(default_factory=list)
    """Shares of values at an end of the data type, of input and result, in each part."""
    parts: int = 0
    """Parts of the scene."""
    measured: int = 0
    """Those that were measured."""

    @classmethod
    def of(
        cls, pair: Pair, uncertainty: Scene | None = None, progress: Callable[[float], None] | None = None
    ) -> Survey:
        """Measure a pair; `progress` is called with the share that is done."""
        imaging = imaging_of(pair)
        survey = cls(pair, imaging, Agreement.of(pair.source.count), Spectra(pair.scale), Histograms.of(pair))
        samplings = imaging.samplings(pair)
        cores = pair.parts()
        survey.parts = len(cores)
        numbers = np.unique(np.linspace(0, len(cores) - 1, min(MOST_PARTS, len(cores))).round().astype(int))
        survey.measured = len(numbers)
        for done, number in enumerate(numbers):
            if progress is not None:
                progress(done / len(numbers))
            part = pair.read(cores[number])
            if part is None:
                continue
            seen = see(part, samplings)
            survey.agreement.add(part, seen)
            survey.spectra.add(part, pair.shown)
            survey.flat.add(part, pair.shown)
            survey.steps.add(part, seen, pair.shown)
            survey.histograms.add(part)
            survey.cells += cells_of(part, pair, uncertainty)
            survey.clipped.append(part.clipped)
        if progress is not None:
            progress(1.0)
        return survey


def band_names(survey: Survey) -> list[str]:
    """Descriptions or colours of the bands, or their numbers."""
    source = survey.pair.source
    return [
        description or colour or f"band {number}"
        for number, (description, colour) in enumerate(
            zip(source.descriptions, source.colours, strict=True), 1
        )
    ]
