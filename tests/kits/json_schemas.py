"""The JSON Schemas that the package ships; run as a script it writes them (`make schemas`)."""

import json
from pathlib import Path

import geosegsr
from geosegsr.models.card import ModelCard
from geosegsr.schema import json_schema
from geosegsr.sensor.degradation import Degradation
from geosegsr.training.config import TrainConfig

FOLDER = Path(geosegsr.__file__).parent / "schemas"
SCHEMAS = {
    "train": (TrainConfig, "Training configuration of geosegsr"),
    "degradation": (Degradation, "Degradation of a sensor for geosegsr"),
    "card": (ModelCard, "Model card of a geosegsr checkpoint"),
}


def text_of(name: str) -> str:
    """A schema as its file holds it."""
    return json.dumps(json_schema(*SCHEMAS[name]), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        (FOLDER / f"{name}.schema.json").write_text(text_of(name), encoding="utf-8")
