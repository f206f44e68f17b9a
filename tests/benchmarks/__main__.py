"""`make bench`: every measurement of the project, or those named on the command line."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = ("data", "data_sharing", "trainer")


def main() -> None:
    chosen = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in BENCHMARKS else list(BENCHMARKS)
    rest = sys.argv[2:] if len(chosen) == 1 and sys.argv[1:] else []
    for name in chosen:
        importlib.import_module(f"tests.benchmarks.bench_{name}").main(rest)


if __name__ == "__main__":
    main()
