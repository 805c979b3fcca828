"""Scores of models and of finished files."""

from geosegsr.errors import require

require("report", "score a model or a result", "torchmetrics")
