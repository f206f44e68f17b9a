"""`switokd prune`: free the disk of what neither comparison nor continuation needs."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import typer

from switokd.cli.arguments import RUNS
from switokd.cli.terminal import console
from switokd.files.sizes import format_bytes
from switokd.validation import SpecError


def prune(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="EXPERIMENT_NAME", help="default all", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="delete nothing; say what would go")
    ] = False,
) -> None:
    """Delete what neither comparison nor continuation needs."""
    from switokd.tracking.address import check_answers, default_uri
    from switokd.tracking.store import TrackedExperiment, TrackingStore
    from switokd.validation import known_name
    from tuning.prune import Dispensable, find_dispensable

    uri = default_uri()
    check_answers(uri)
    known = {name: key for key, name in TrackingStore(uri).experiments().items()}
    if experiment is not None:
        known_name("experiment", experiment, known)
    chosen = [experiment] if experiment is not None else sorted(known)
    found: dict[str, list[Dispensable]] = defaultdict(list)
    for name in chosen:
        tracked = TrackedExperiment(uri, known[name])
        for each in find_dispensable(name, tracked, RUNS.absolute()):
            found[each.why].append(each)
    for why, items in found.items():
        size = sum(each.size for each in items)
        console.print(f"{format_bytes(size):>8}  in {len(items):4} places: {why}", highlight=False)
    total = format_bytes(sum(each.size for items in found.values() for each in items))
    if dry_run:
        console.print(f"{total} would go; nothing is deleted", highlight=False)
        return
    try:
        for items in found.values():
            for each in items:
                each.delete()
    except OSError as error:
        raise SpecError(f"{error.filename}: cannot be deleted ({error.strerror})") from None
    console.print(f"{total} deleted", highlight=False)
