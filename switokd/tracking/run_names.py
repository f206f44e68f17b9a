"""The run that a user means: by its run id, its trial's id, or a prefix of either."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from switokd import names
from switokd.tracking.address import check_answers, default_uri
from switokd.tracking.retry import TrackingError
from switokd.tracking.store import NEWEST_FIRST, TrackingStore
from switokd.validation import SpecError

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN_ID = re.compile(r"[0-9a-f]{32}")
SHOWN = 10


def find_run(name: str) -> Run:
    """The one run that `name` stands for, in the store that the environment names.

    Of a trial that several experiments have, the newest run. Raises SpecError where there is none,
    or where several trials begin like that, with their ids.
    """
    uri = default_uri()
    # asked first: MLflow would create a SQLite file that is not there
    check_answers(uri)
    store = TrackingStore(uri)
    if RUN_ID.fullmatch(name):
        return store.run(name)
    found: dict[str, Run] = {}
    if re.fullmatch(r"[0-9a-f]+", name):
        experiments = list(store.experiments())
        condition = f"tags.`{names.TRIAL_ID}` LIKE '{name}%'"
        for run in store.runs(experiments, condition, NEWEST_FIRST):
            found.setdefault(run.data.tags[names.TRIAL_ID], run)
        if not found:
            runs = store.runs(experiments, order=NEWEST_FIRST)
            found = {run.info.run_id: run for run in runs if run.info.run_id.startswith(name)}
    if not found:
        raise TrackingError(
            f"{uri} has no run {name!r}: give a run id, a trial id, or the beginning of one"
        )
    if len(found) > 1:
        listed = "\n".join(f"  {key}  {run.info.run_name}" for key, run in found.items())
        first = "\n".join(listed.splitlines()[:SHOWN])
        raise SpecError(
            f"{name!r} is the beginning of {len(found)} runs; give more of it:\n{first}"
        )
    return next(iter(found.values()))
