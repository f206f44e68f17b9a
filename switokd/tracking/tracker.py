"""MLflow: the only writer, for experiments, runs, their points and their files.

A trial has one run, found by its id, whichever process, machine or day goes on with it. Its points
are sent beside the training, from an outbox that outlives silences of the store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from switokd import names
from switokd.provenance import git_commit, library_versions
from switokd.spec.tracked_params import params_of
from switokd.tracking.address import (
    absolute_uri,
    check_writable,
    default_uri,
    is_local,
    sqlite_path,
)
from switokd.tracking.client import ensure_sqlite, open_client
from switokd.tracking.descriptions import dataset_input, source_tags, sweep_note, trial_note
from switokd.tracking.outbox import Outbox, Point, RefusedError
from switokd.tracking.points import points
from switokd.tracking.retry import (
    SilentStoreError,
    TrackingError,
    in_one_line,
    is_final,
    retry_until,
    tracking_errors,
    unusable,
)
from switokd.tracking.store import TrackedExperiment, TrackingStore, last_steps

if TYPE_CHECKING:
    from switokd.spec.trial import TrialSpec

log = logging.getLogger(__name__)

METRICS_PER_CALL = 1000
LONGEST_REASON = 5000
LONGEST_TAG = 5000


def open_experiment(
    name: str, uri: str | None = None, runs: Path | str = "runs"
) -> TrackedExperiment:
    """Create or find the experiment; the one place where a store comes into being.

    Called once, before any worker.
    Raises StoreError where the store does not answer, TrackingError where it cannot be used.
    """
    uri = absolute_uri(uri) if uri else default_uri()
    check_writable(uri)
    path = sqlite_path(uri)
    with tracking_errors(uri):
        if path is not None:
            ensure_sqlite(path)
        found = TrackingStore(uri).experiment(name)
        if found is None:
            # a server decides itself where its artifacts lie
            artifacts = (Path(runs) / "artifacts").absolute().as_uri() if is_local(uri) else None
            return TrackedExperiment(uri, str(open_client(uri).create_experiment(name, artifacts)))
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"experiment {name!r} is deleted in {uri}: restore it "
            f"(mlflow experiments restore -x {found.experiment_id}) or choose another name"
        )
    return TrackedExperiment(uri, str(found.experiment_id))


def open_sweep(
    tracked: TrackedExperiment, experiment: str, reopen: bool = True
) -> TrackedExperiment:
    """The experiment with its one sweep run, made where there is none.

    With `reopen` it is RUNNING from now on; without, it stays as it is: a sweep may be at work.
    """
    found = tracked.sweep_run(experiment)
    with tracking_errors(tracked.uri):
        client = open_client(tracked.uri)
        if found is not None:
            run_id = found.info.run_id
            if reopen:
                client.update_run(run_id, status="RUNNING")
        else:
            tags = {
                names.SWEEP: experiment,
                names.RUN_NAME: f"sweep {experiment}",
                names.GIT_COMMIT: git_commit(),
                names.NOTE: sweep_note(experiment),
            } | source_tags()
            run_id = client.create_run(tracked.experiment_id, tags=tags).info.run_id
            if not reopen:
                client.set_terminated(run_id, "FINISHED")
    return replace(tracked, sweep_run_id=run_id)


def end_run(
    tracked: TrackedExperiment, run_id: str, status: str, failure: str | None = None
) -> None:
    """End a run as FINISHED, FAILED (with the reason) or KILLED."""
    client = open_client(tracked.uri)
    if failure is not None:
        client.set_tag(run_id, names.FAILURE, failure[:LONGEST_REASON])
    client.set_terminated(run_id, status)


def record_failure(
    tracked: TrackedExperiment, trial: TrialSpec, point: Mapping[str, Any] | None, reason: str
) -> None:
    """Make a trial's run FAILED where its worker could not, a new one where it has none."""
    end_run(tracked, TrialTracker(tracked, trial, point).ensure_run(), "FAILED", reason)


def delete_runs(tracked: TrackedExperiment, run_ids: Iterable[str]) -> None:
    """Delete runs in MLflow's restorable way."""
    with tracking_errors(tracked.uri):
        client = open_client(tracked.uri)
        for run_id in run_ids:
            client.delete_run(run_id)


def as_tag(entries: Sequence[Any]) -> str:
    """The newest entries of a list in JSON, as many as a tag holds."""
    for first in range(len(entries)):
        text = json.dumps(entries[first:])
        if len(text) <= LONGEST_TAG:
            return text
    return "[]"


def log_result(
    tracked: TrackedExperiment,
    experiment: str,
    finding: str,
    files: Mapping[str, str],
    values: Mapping[str, float],
) -> None:
    """Give the sweep's run its result: in a sentence, as files by name, and as metrics.

    Raises TrackingError.
    """
    found = tracked.sweep_run(experiment)
    if found is None:
        return
    from mlflow.entities import Metric

    with tracking_errors(tracked.uri):
        client = open_client(tracked.uri)
        for name, content in files.items():
            client.log_text(found.info.run_id, content, name)
        metrics = [Metric(p.name, p.value, p.time_ms, p.step) for p in points(dict(values), 0)]
        for first in range(0, len(metrics), METRICS_PER_CALL):
            client.log_batch(found.info.run_id, metrics[first : first + METRICS_PER_CALL])
        client.set_tag(found.info.run_id, names.NOTE, sweep_note(experiment, finding))
        client.set_experiment_tag(
            tracked.experiment_id, names.NOTE, sweep_note(experiment, finding)
        )


def log_folder(run_id: str, folder: Path, name: str) -> None:
    """Log a folder's files to a run that has ended, as `name`. Raises TrackingError."""
    uri = default_uri()
    with tracking_errors(uri):
        open_client(uri).log_artifacts(run_id, str(folder), name)


class TrialTracker:
    """The run of one trial, and the points that wait for it."""

    def __init__(
        self,
        tracked: TrackedExperiment,
        trial: TrialSpec,
        point: Mapping[str, Any] | None = None,
    ) -> None:
        self._tracked = tracked
        self._trial = trial
        # of a search, by which a later one finds what has been tried
        sampled = {} if point is None else {names.POINT: json.dumps(point, sort_keys=True)}
        self._tags = trial_tags(trial) | sampled
        self._run_id: str | None = None
        self._anew = False
        # how far each series was when this process found the run
        self._stored: dict[str, int] = {}
        self.outbox = Outbox(self._send, METRICS_PER_CALL, f"the tracking store {tracked.uri}")

    def begin(
        self, device: str, threads: int, continued_from: str | None = None, anew: bool = False
    ) -> None:
        """Find or create the run, and send; for the process that holds the trial's lock.

        `device` and `threads` are what equal bits depend on beside the spec and the versions;
        `continued_from` is the shorter trial whose epochs this one did not train again. `anew`:
        there is no checkpoint, so that points that the store has would be made a second time.
        """
        self._tags |= {
            names.DEVICE: device,
            names.THREADS: str(threads),
            names.HOST: socket.gethostname(),
        }
        if continued_from is not None:
            self._tags[names.CONTINUED_FROM] = continued_from
        self._anew = anew
        self.outbox.start()

    def fetch_weights(self, trial_id: str, files: Sequence[str], folder: Path) -> None:
        """Copy weights files of another trial of the experiment from its run, those that it has.

        Raises TrackingError where the store does not answer.
        """
        run = self._tracked.trial_run(trial_id)
        if run is None or run.info.status != "FINISHED":
            return
        store = TrackingStore(self._tracked.uri)
        kept = store.artifacts(run.info.run_id, names.WEIGHTS_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        for path in kept:
            if PurePath(path).name in files:
                found = store.download(run.info.run_id, path, str(folder))
                found.replace(folder / found.name)

    @property
    def closed(self) -> bool:
        """Whether the run has ended as far as this tracker is concerned."""
        return self.outbox.closed

    def finish(
        self,
        files: Sequence[tuple[Path, str | None]],
        patience_seconds: float,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Send everything, then the artifacts (file, folder), and mark the run FINISHED.

        `tags` say what became of it: why it ended before its last epoch, where it did.
        Returns the run's id. Raises TrackingError where the store refuses, or stays silent for
        `patience_seconds`; all of it can be done again, by a later process too.
        """
        deadline = time.monotonic() + patience_seconds
        try:
            self.outbox.drain(deadline)
        except RefusedError as error:
            raise unusable(self._tracked.uri, error) from None
        except TimeoutError as error:
            raise unusable(self._tracked.uri, error, SilentStoreError) from None

        def upload() -> str:
            client, run_id = open_client(self._tracked.uri), self.ensure_run()
            for path, folder in files:
                client.log_artifact(run_id, str(path), folder)
            for name, value in (tags or {}).items():
                client.set_tag(run_id, name, value)
            client.set_terminated(run_id, "FINISHED")
            return run_id

        run_id = retry_until(deadline, upload, self._tracked.uri)
        self.outbox.close()
        return run_id

    def end(
        self,
        status: str,
        failure: str | None = None,
        files: Sequence[tuple[Path, str | None]] = (),
        patience_seconds: float = 10.0,
    ) -> None:
        """Mark the run FAILED (with the reason) or KILLED; gives up quietly on a dead store.

        `files` (file, folder) go with it.

        Points that no checkpoint has are not sent: who goes on with the trial makes them again.
        """
        deadline = time.monotonic() + patience_seconds
        with contextlib.suppress(RefusedError, TimeoutError):
            self.outbox.drain(deadline)
        self.outbox.close()

        def upload() -> None:
            client, run_id = open_client(self._tracked.uri), self.ensure_run()
            for path, folder in files:
                client.log_artifact(run_id, str(path), folder)
            end_run(self._tracked, run_id, status, failure)

        try:
            retry_until(deadline, upload, self._tracked.uri)
        except TrackingError as error:
            log.warning("%s", error)

    def ensure_run(self) -> str:
        """The trial's run, found by its id or created; RUNNING from now on."""
        if self._run_id is not None:
            return self._run_id
        from mlflow.entities import Param, RunTag

        tags = dict(self._tags)
        if self._tracked.sweep_run_id is not None:
            tags[names.PARENT] = self._tracked.sweep_run_id
        client = open_client(self._tracked.uri)
        found = self._tracked.trial_run(self._trial.trial_id)
        if found is not None and self._anew and found.data.metrics:
            # trained elsewhere, or its checkpoints are gone: restorable, and no step comes twice
            client.delete_run(found.info.run_id)
            found = None
        if found is not None:
            run_id = found.info.run_id
            self._stored = last_steps(found)
            client.update_run(run_id, status="RUNNING")
            if names.FAILURE in found.data.tags:
                client.delete_tag(run_id, names.FAILURE)
        else:
            # the tags go in with the run itself, so that no crash leaves a run nobody finds
            about = {names.RUN_NAME: self._trial.label, names.NOTE: trial_note(self._trial)}
            created = tags | about | source_tags()
            run_id = client.create_run(self._tracked.experiment_id, tags=created).info.run_id
        # the same input again is no second one
        client.log_inputs(run_id, datasets=[dataset_input(self._trial)])
        client.log_batch(
            run_id,
            # one that has been written keeps its value: where the images lay, say
            params=[
                Param(key, value)
                for key, value in params_of(self._trial).items()
                if found is None or key not in found.data.params
            ],
            tags=[RunTag(key, value) for key, value in tags.items()] if found else [],
        )
        self._run_id = str(run_id)
        return self._run_id

    def _send(self, batch: list[Point]) -> None:
        from mlflow.entities import Metric

        try:
            run_id = self.ensure_run()
            # who goes on from a checkpoint before the newest makes points again that were sent
            new = [p for p in batch if p.step > self._stored.get(p.name, -1)]
            if new:
                metrics = [Metric(p.name, p.value, p.time_ms, p.step) for p in new]
                open_client(self._tracked.uri).log_batch(run_id, metrics=metrics)
        except Exception as error:
            # the outbox names the store itself
            kind = RefusedError if is_final(error) else ConnectionError
            raise kind(in_one_line(error)) from None


def trial_tags(trial: TrialSpec) -> dict[str, str]:
    """The tags by which a trial is found and compared."""
    versions = {names.VERSION_PREFIX + name: value for name, value in library_versions().items()}
    return versions | {
        names.TRIAL_ID: trial.trial_id,
        names.TOPOLOGY: trial.topology,
        names.PAIR: trial.pair,
        names.METHOD: trial.method.name,
        names.VARIANT: trial.method.variant,
        names.GIT_COMMIT: git_commit(),
    }
