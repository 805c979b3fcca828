"""Time, peak memory and size of a report.

    python benchmarks/speed/report.py SRC RESULT

The report is written beside the result, with the suffix .html.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

from geosegsr.appraisal.report import report


def main() -> None:
    """Write one report and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("src")
    parser.add_argument("result")
    chosen = parser.parse_args()
    began = time.perf_counter()
    made = report(chosen.src, chosen.result)
    wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    print(f"{wall:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU")
    print(f"peak {used.ru_maxrss * unit / 1e6:.0f} MB; file {made.bytes / 1e6:.1f} MB; {made.places} places")
    print(made.verdict.headline)
    for finding in made.verdict.findings:
        print(f"  {finding.grade:5}  {finding.text}")


if __name__ == "__main__":
    main()
