"""`make bench`: every measurement of the project, or the one named on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = (
    "data",
    "data_sharing",
    "decode_gpu",
    "trainer",
    "precision",
    "offline",
    "shared_gpu",
    "distributed",
    "sweep",
    "scale",
    "store",
    "dashboards",
)
DASHBOARDS = Path(__file__).parents[1] / "dashboards" / "bench_speed.py"


def main() -> None:
    named = [name for name in sys.argv[1:2] if name in BENCHMARKS]
    rest = sys.argv[2:] if named else []
    for name in named or BENCHMARKS:
        if name == "dashboards":
            # its store is made by the fixtures of the dashboards' tests
            pytest.main([str(DASHBOARDS), "-s", "-q", *rest])
        else:
            importlib.import_module(f"tests.benchmarks.bench_{name}").main(rest)


if __name__ == "__main__":
    main()
