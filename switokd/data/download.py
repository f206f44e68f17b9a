"""Fetch a data set, when asked: `python -m switokd.data.download cifar10 --root data`.

Nothing else in this package reaches for a network. Only sets that torchvision can fetch; for the
others the message says what to put where.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from switokd.data import data_root, describe
from switokd.validation import DataError

TORCHVISION_NAMES = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashion_mnist": "FashionMNIST",
    "mnist": "MNIST",
}


def fetch(name: str, root: Path) -> None:
    """Download a set into `root`. Raises DataError if it cannot be fetched by torchvision."""
    describe(name)
    if name not in TORCHVISION_NAMES:
        raise DataError(
            f"{name} is not downloaded by this command; those that are: {sorted(TORCHVISION_NAMES)}"
        )
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        getattr(datasets, TORCHVISION_NAMES[name])(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name}: the download into {root} failed: {error}. Without a network, fetch the set "
            f"elsewhere and unpack it there; `switokd sweep FILE --dry-run` names what is missing"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status (2: one message says what was wrong)."""
    parser = argparse.ArgumentParser(prog="python -m switokd.data.download", description=__doc__)
    parser.add_argument("name", help=f"one of {sorted(TORCHVISION_NAMES)}")
    parser.add_argument("--root", help="folder of the data sets (default: $SWITOKD_DATA or data/)")
    parsed = parser.parse_args(arguments)
    try:
        fetch(parsed.name, data_root(parsed.root))
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
