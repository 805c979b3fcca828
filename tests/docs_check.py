"""Run every ```bash block of README and docs as a reader would, in a copy of the checkout.

    python tests/docs_check.py [PAGE ...]

Blocks of a page run in their order, each in a shell of its own from the root; `geosegsr` and `python` are those of the
environment that runs this. Prints a line for each block, and the output of those that failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main(pages: list[Path]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "--quiet", ROOT, copy], check=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for page in pages:
            for number, block in enumerate(BLOCK.findall(page.read_text()), 1):
                began = time.perf_counter()
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", block], cwd=copy, env={**os.environ, "PATH": path},
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                )  # fmt: skip
                failed += bool(done.returncode)
                outcome = "failed" if done.returncode else "ok"
                print(
                    f"{page.relative_to(ROOT)}, block {number}: {outcome}, {time.perf_counter() - began:.0f} s",
                    flush=True,
                )
                if done.returncode:
                    print(done.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    named = [Path(page).resolve() for page in sys.argv[1:]]
    raise SystemExit(main(named or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]))
