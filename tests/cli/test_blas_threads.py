"""OpenBLAS starts without threads that wait busily, because the command sets it up before numpy is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, os, sys
import geosegsr_cli.commands.upscale
from geosegsr.cpu import start_with_one_blas_thread
early = "numpy" not in sys.modules
start_with_one_blas_thread()
import numpy
from threadpoolctl import threadpool_info
threads = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
print(json.dumps([early, os.environ["OPENBLAS_NUM_THREADS"], threads]))
"""


@pytest.mark.parametrize("wanted", [None, "2"])
def test_openblas_starts_with_one_thread_unless_the_environment_says_otherwise(
    wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", wanted)
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    early, found, threads = json.loads(done.stdout)
    assert early
    assert found == (wanted or "1")
    assert wanted is not None or set(threads) == {1}
