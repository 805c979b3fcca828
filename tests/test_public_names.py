"""What `import geosegsr` offers, whatever else was imported before."""

import subprocess
import sys

import pytest
from command_line import environment

IMPORTS = [
    "pass",
    "geosegsr.plan",
    "geosegsr.super_resolve",
    "import geosegsr.pipeline.upscale",
    "from geosegsr.pipeline.report import Progress",
    "geosegsr.upscale; import geosegsr.pipeline.upscale",
]


@pytest.mark.parametrize("before", IMPORTS)
def test_upscale_is_the_function_and_not_its_module(before: str) -> None:
    code = f"import geosegsr; {before}\nassert geosegsr.upscale.__name__ == 'upscale', geosegsr.upscale"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_every_public_name_is_there() -> None:
    code = "from geosegsr import *; import geosegsr; [getattr(geosegsr, name) for name in geosegsr.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
