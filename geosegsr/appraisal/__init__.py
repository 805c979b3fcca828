"""A finished result beside its input, judged without the truth: measures, pictures, a verdict in words, one HTML file."""

from geosegsr.errors import require

require("report", "judge a result", "jinja2", "torchmetrics")
