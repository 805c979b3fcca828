"""Training: patches of scenes, a sensor's degradation, one loop, one run folder."""

from geosegsr.errors import require

require("train", "train a model", "accelerate", "filelock", "jinja2", "tomlkit", "torchmetrics")
