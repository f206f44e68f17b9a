"""Each kind of file under `runs/`, cut short and with bytes flipped, and what comes of it."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tuning.workplace import Workplace

# what differs from one file of a kind to the next
VARYING = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}|[0-9a-f]{12}|step-\d+|\d+(?=-(?:last|best))")
FLIPPED_BYTES = 16
# a store that is no database any more cannot be read: then a message, and status 2
STORE = "mlflow.db"


@dataclass(frozen=True)
class Outcome:
    """What two commands said of a torn file: their statuses, and whether a traceback was seen."""

    kind: str
    how: str
    sweep: int
    compare: int
    traceback: bool

    @property
    def good(self) -> bool:
        """Everything is trained and compared; of a torn store, both end with one message."""
        if self.traceback:
            return False
        allowed = (0, 2) if self.kind == STORE else (0,)
        return self.sweep in allowed and self.compare in allowed


def kinds_of_files(runs: Path) -> dict[str, Path]:
    """One file of each kind, by what its name has in common with its like."""
    found: dict[str, Path] = {}
    for path in sorted(runs.rglob("*")):
        if path.is_file() and path.stat().st_size:
            found.setdefault(VARYING.sub("*", str(path.relative_to(runs))), path)
    return found


def cut(path: Path) -> None:
    """Leave the first half."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Invert some bytes, the same ones each time."""
    content = bytearray(path.read_bytes())
    for position in random.Random(0).choices(range(len(content)), k=FLIPPED_BYTES):
        content[position] ^= 0xFF
    path.write_bytes(content)


WAYS: dict[str, Callable[[Path], None]] = {"cut": cut, "flipped": flip}


def tear(workplace: Workplace, template: Path) -> Iterator[Outcome]:
    """Tear each kind of file of a copy of `template`, a half-done sweep's `runs/`, and sweep."""
    runs = workplace.folder / "runs"
    kinds = kinds_of_files(template)
    for kind, path in kinds.items():
        for how, damage in WAYS.items():
            shutil.rmtree(runs, ignore_errors=True)
            shutil.copytree(template, runs)
            damage(runs / path.relative_to(template))
            sweep, swept = workplace.run("sweep", workplace.file.name)
            compare, compared = workplace.run("compare")
            traceback = "Traceback" in swept + compared
            yield Outcome(kind, how, sweep, compare, traceback)
