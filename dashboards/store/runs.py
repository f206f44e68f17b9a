"""A tracking store's runs and histories as DataFrames.

`RunFrames.trials` has one row per trial run: the identity as plain columns (`TRIAL_COLUMNS`),
everything else under the prefixes of `analysis.columns` (`params.recipe.epochs`,
`tags.switokd.git_commit`, `metrics.best_val_top1/S1`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd

from dashboards.analysis.columns import METRICS, PARAMS, STAND_IN, TAGS
from switokd import names
from switokd.spec.dataset import dataset_name
from switokd.spec.tracked_params import fill_params
from switokd.tracking.address import StoreError, check_answers, default_uri
from switokd.tracking.store import MissingArtifactError, TrackingStore
from switokd.validation import nearest

if TYPE_CHECKING:
    from switokd.tracking.store import Run

IDENTITY_TAGS = {
    "trial_id": names.TRIAL_ID,
    "topology": names.TOPOLOGY,
    "pair": names.PAIR,
    "method": names.METHOD,
    "variant": names.VARIANT,
    "git_commit": names.GIT_COMMIT,
}
TRIAL_COLUMNS = (
    *("run_id", "run_name", "experiment", "experiment_id", "status", "start_time", "end_time"),
    *IDENTITY_TAGS,
    *("dataset", "temperature", "seed", "teacher_trials"),
)
TRAINED_BY = ".trained_by"


class RunFrames:
    """What a tracking store holds; without an address, the one that a sweep would write to.

    Raises StoreError where it is missing or does not answer.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or default_uri()
        check_answers(self.uri)
        self._store = TrackingStore(self.uri)

    def trials(self, experiment: str | None = None) -> pd.DataFrame:
        """One row per trial run of one experiment, or of all, whatever its status.

        The sweep run (no trial id) is left out. Raises StoreError for an unknown experiment.
        """
        known = self._store.experiments()
        chosen = {
            key: name for key, name in known.items() if experiment is None or name == experiment
        }
        if experiment is not None and not chosen:
            raise StoreError(unknown_experiment(experiment, sorted(known.values()), self.uri))
        return self._frame(chosen)

    def unfinished(self) -> pd.DataFrame:
        """The trials, of all experiments, that run, failed or were stopped."""
        return self._frame(self._store.experiments(), "attributes.status != 'FINISHED'")

    def standings(self) -> dict[str, dict[str, float]]:
        """Of each sweep at work, by experiment: trials in each state, and seconds left if known."""
        known = self._store.experiments()
        at_work = f"attributes.status = 'RUNNING' and tags.`{names.STANDING}` != ''"
        return {
            known[run.info.experiment_id]: json.loads(run.data.tags[names.STANDING])
            for run in self._store.runs(list(known), at_work)
        }

    def _frame(self, experiments: dict[str, str], condition: str = "") -> pd.DataFrame:
        runs = list(self._store.runs(list(experiments), condition))
        digests = digests_by_path(run.data.params for run in runs)
        rows = [row_of(run, experiments[run.info.experiment_id], digests) for run in runs]
        return typed(pd.DataFrame.from_records([row for row in rows if row["trial_id"]]))

    def histories(self, run_ids: Iterable[str], metrics: Iterable[str]) -> pd.DataFrame:
        """Every logged point of the metrics: columns run_id, metric, step, value, time (UTC).

        A metric that a run does not have gives no rows.
        """
        points = self._store.histories(run_ids, metrics)
        frame = pd.DataFrame(points, columns=["run_id", "metric", "step", "value", "time"])
        frame["time"] = pd.to_datetime(frame["time"], unit="ms", utc=True)
        return frame.astype({"step": "int64", "value": "float64"}).sort_values(
            ["run_id", "metric", "step"], kind="stable", ignore_index=True
        )

    def artifacts(self, run_id: str, folder: str | None = None) -> list[str]:
        """Paths of the files directly in a folder of the run's artifacts, if any."""
        return self._store.artifacts(run_id, folder)

    def artifact(self, run_id: str, path: str) -> bytes:
        """Content of one artifact. Raises MissingArtifactError where the run has none."""
        return self._store.artifact(run_id, path)

    def timeline(self, run_id: str) -> pd.DataFrame:
        """Every step of every link.

        Raises MissingArtifactError where the run has no timeline, or a damaged one.
        """
        content = self.artifact(run_id, names.TIMELINE_FILE)
        try:
            return pd.read_parquet(io.BytesIO(content))
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise MissingArtifactError(
                f"run {run_id}: its {names.TIMELINE_FILE} is damaged ({reason})"
            ) from None


def digests_by_path(params: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What the images of a path are, by runs that say both, where they all say the same."""
    found: dict[str, set[str]] = {}
    for each in params:
        if "dataset_path" in each and "dataset_digest" in each:
            found.setdefault(each["dataset_path"], set()).add(each["dataset_digest"])
    return {path: digests.pop() for path, digests in found.items() if len(digests) == 1}


def row_of(
    run: Run, experiment: str, digests: Mapping[str, str] = MappingProxyType({})
) -> dict[str, object]:
    """A run as one flat record. `digests`: of the images of a path, for runs that do not say it."""
    written = run.data.params
    if "dataset_digest" not in written and written.get("dataset_path") in digests:
        written = written | {"dataset_digest": digests[written["dataset_path"]]}
    # what an older run lacks is what it did before there was a choice
    params = fill_params(written)
    tags, metrics = run.data.tags, run.data.metrics
    row: dict[str, object] = {
        "run_id": run.info.run_id,
        "run_name": run.info.run_name,
        "experiment": experiment,
        "experiment_id": run.info.experiment_id,
        "status": run.info.status,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
    }
    row |= {name: tags.get(tag) for name, tag in IDENTITY_TAGS.items()}
    row |= {name: params.get(name) for name in ("temperature", "seed")}
    if params.get("dataset"):
        row["dataset"] = dataset_name(params["dataset"], written.get("dataset_path"))
    if params.get("stand_in") == "true":
        # not the set itself: no published number belongs beside it
        row["dataset"] = f"{row['dataset']}{STAND_IN}"
    params, row["teacher_trials"] = with_teachers_apart(params)
    row |= {PARAMS + key: value for key, value in params.items()}
    row |= {TAGS + key: value for key, value in tags.items() if key.startswith(names.TAG_PREFIX)}
    row |= {METRICS + key: value for key, value in metrics.items()}
    return row


def with_teachers_apart(params: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """A run's params as if all of its networks were trained in it, and who trained which before.

    As `T1=3f2a...`, by the trials' ids.

    A teacher's trial is another for each seed and length, of what is compared as one; that it only
    teaches is the method's doing.
    """
    found = {key.partition(".")[0]: key for key in params if key.endswith(TRAINED_BY)}
    trained = {name: params[key] for name, key in found.items() if params[key] != "null"}
    kept = {key: value for key, value in params.items() if not key.endswith(TRAINED_BY)}
    kept |= {f"{name}.frozen": "false" for name in trained}
    return kept, " ".join(f"{name}={trial_id}" for name, trial_id in trained.items())


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every identity column, times in UTC, temperature and seed as numbers."""
    missing = [column for column in TRIAL_COLUMNS if column not in frame]
    frame = frame.assign(**dict.fromkeys(missing))
    for column in ("start_time", "end_time"):
        frame[column] = pd.to_datetime(pd.to_numeric(frame[column]), unit="ms", utc=True)
    frame["temperature"] = pd.to_numeric(frame["temperature"])
    frame["seed"] = pd.to_numeric(frame["seed"]).astype("Int64")
    others = sorted(str(column) for column in frame if column not in TRIAL_COLUMNS)
    return frame[[*TRIAL_COLUMNS, *others]]


def unknown_experiment(name: str, known: list[str], uri: str) -> str:
    hint = nearest(name, known) or f"; it has {', '.join(known) or 'none'}"
    return f"no experiment {name!r} in {uri}{hint}"
