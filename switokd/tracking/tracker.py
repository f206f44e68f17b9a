"""MLflow: the only writer, for runs, their points and their files.

A trial has one run, found by its id, whichever process, machine or day goes on with it. Its points
are sent beside the training, from an outbox that outlives silences of the store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switokd import names
from switokd.provenance import git_commit, library_versions
from switokd.spec.params import params_of
from switokd.tracking.address import (
    absolute_uri,
    check_answers,
    check_writable,
    default_uri,
    is_local,
    sqlite_path,
)
from switokd.tracking.outbox import Outbox, Point, RefusedError
from switokd.tracking.retry import (
    SilentStoreError,
    TrackingError,
    answering,
    in_one_line,
    insist,
    is_final,
    unusable,
)

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from numpy.typing import NDArray

    from switokd.spec.trial import TrialSpec

log = logging.getLogger(__name__)

METRICS_PER_CALL = 1000
LONGEST_REASON = 5000
LONGEST_TAG = 5000


@dataclass(frozen=True)
class Store:
    """An experiment in a tracking store, ready for its trials; goes to workers as it is."""

    uri: str
    experiment_id: str
    sweep_run_id: str | None = None


def client(uri: str) -> MlflowClient:
    """A client that gives up early: trying again is the sender's business.

    MLflow's own retries would create a second run where only the answer to the first was lost.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    # set after the import, which sets them anew: the migrations of a new store are no news
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return MlflowClient(uri)


def open_store(experiment: str, uri: str | None = None, runs: Path | str = "runs") -> Store:
    """Create or find the experiment; the one place where a store comes into being.

    Called once, before any worker: processes that create one SQLite store together crash.
    Raises StoreError where the store does not answer, TrackingError where it cannot be used.
    """
    uri = absolute_uri(uri) if uri else default_uri()
    local = is_local(uri)
    check_writable(uri)
    try:
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        mlflow_client = client(uri)
        found = mlflow_client.get_experiment_by_name(experiment)
        if found is None:
            # a server decides itself where its artifacts lie
            artifacts = (Path(runs) / "artifacts").absolute().as_uri() if local else None
            experiment_id = mlflow_client.create_experiment(experiment, artifacts)
        elif found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"experiment {experiment!r} is deleted in {uri}: restore it "
                f"(mlflow experiments restore -x {found.experiment_id}) or choose another name"
            )
        else:
            experiment_id = found.experiment_id
    except TrackingError:
        raise
    except Exception as error:
        raise unusable(uri, error) from None
    return Store(uri, str(experiment_id))


def find_runs(store: Store) -> dict[str, Any]:
    """The experiment's trial runs by trial id, the newest where a trial has several."""
    runs: dict[str, Any] = {}
    with answering(store.uri):
        for run in _all_runs(store):
            trial_id = run.data.tags.get(names.TRIAL_ID)
            if trial_id is not None:
                runs.setdefault(trial_id, run)
    return runs


def existing_store(experiment: str) -> Store | None:
    """The experiment where there is one; makes neither store nor experiment.

    Raises StoreError where there is a store that does not answer.
    """
    uri = default_uri()
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    check_answers(uri)
    with answering(uri):
        found = client(uri).get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage == "deleted":
        return None
    return Store(uri, str(found.experiment_id))


def _all_runs(store: Store, filter_string: str = "") -> Iterable[Any]:
    mlflow_client, token = client(store.uri), None
    while True:
        page = mlflow_client.search_runs(
            [store.experiment_id],
            filter_string=filter_string,
            max_results=1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def open_sweep(store: Store, experiment: str, reopen: bool = True) -> Store:
    """The store with the experiment's one sweep run, made where there is none.

    With `reopen` it is RUNNING from now on; without, it stays as it is: a sweep may be at work.
    """
    with answering(store.uri):
        mlflow_client = client(store.uri)
        found = list(_all_runs(store, f"tags.`{names.SWEEP}` = '{experiment}'"))
        if found:
            run_id = found[0].info.run_id
            if reopen:
                mlflow_client.update_run(run_id, status="RUNNING")
        else:
            tags = {
                names.SWEEP: experiment,
                names.RUN_NAME: f"sweep {experiment}",
                names.GIT_COMMIT: git_commit(),
            }
            run_id = mlflow_client.create_run(store.experiment_id, tags=tags).info.run_id
            if not reopen:
                mlflow_client.set_terminated(run_id, "FINISHED")
    return Store(store.uri, store.experiment_id, run_id)


def end_run(store: Store, run_id: str, status: str, failure: str | None = None) -> None:
    """End a run as FINISHED, FAILED (with the reason) or KILLED."""
    mlflow_client = client(store.uri)
    if failure is not None:
        mlflow_client.set_tag(run_id, names.FAILURE, failure[:LONGEST_REASON])
    mlflow_client.set_terminated(run_id, status)


def delete_runs(store: Store, run_ids: Iterable[str]) -> None:
    """Delete runs in MLflow's restorable way."""
    with answering(store.uri):
        for run_id in run_ids:
            client(store.uri).delete_run(run_id)


def as_tag(entries: Sequence[Any]) -> str:
    """The newest entries of a list in JSON, as many as a tag holds."""
    for first in range(len(entries)):
        text = json.dumps(entries[first:])
        if len(text) <= LONGEST_TAG:
            return text
    return "[]"


def log_folder(run_id: str, folder: Path, name: str) -> None:
    """Log a folder's files to a run that has ended, as `name`. Raises TrackingError."""
    uri = default_uri()
    with answering(uri):
        client(uri).log_artifacts(run_id, str(folder), name)


def save_model(
    network: Any,
    images: NDArray[np.float32],
    logits: NDArray[np.float32],
    folder: Path,
    versions: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write a network as an MLflow model to `folder`, with the signature of images and logits.

    `versions` are what it needs, by package; `about` goes with it.
    """
    from mlflow import pytorch
    from mlflow.models import infer_signature

    # its advice on formats and on what it would pin is not for the user
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    pytorch.save_model(
        network,
        str(folder),
        signature=infer_signature(images, logits),
        input_example=images,
        # a traced graph, which holds no code that runs when it is read
        serialization_format="pt2",
        pip_requirements=[f"{name}=={version}" for name, version in versions.items()],
        metadata=dict(about),
    )


class TrialTracker:
    """The run of one trial, and the points that wait for it."""

    def __init__(
        self, store: Store, trial: TrialSpec, point: Mapping[str, Any] | None = None
    ) -> None:
        self._store = store
        self._trial = trial
        # of a search, by which a later one finds what has been tried
        sampled = {} if point is None else {names.POINT: json.dumps(point, sort_keys=True)}
        self._tags = trial_tags(trial) | sampled
        self._run_id: str | None = None
        self.outbox = Outbox(self._send, METRICS_PER_CALL, f"the tracking store {store.uri}")

    def begin(self, device: str, threads: int, continued_from: str | None = None) -> None:
        """Find or create the run, and send; for the process that holds the trial's lock.

        `device` and `threads` are what equal bits depend on beside the spec and the versions;
        `continued_from` is the shorter trial whose epochs this one did not train again.
        """
        self._tags |= {
            names.DEVICE: device,
            names.THREADS: str(threads),
            names.HOST: socket.gethostname(),
        }
        if continued_from is not None:
            self._tags[names.CONTINUED_FROM] = continued_from
        self.outbox.start()

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
            raise unusable(self._store.uri, error) from None
        except TimeoutError as error:
            raise unusable(self._store.uri, error, SilentStoreError) from None

        def upload() -> str:
            mlflow_client, run_id = client(self._store.uri), self._ensure_run()
            for path, folder in files:
                mlflow_client.log_artifact(run_id, str(path), folder)
            for name, value in (tags or {}).items():
                mlflow_client.set_tag(run_id, name, value)
            mlflow_client.set_terminated(run_id, "FINISHED")
            return run_id

        run_id = insist(upload, self._store.uri, deadline)
        self.outbox.close()
        return run_id

    def end(self, status: str, failure: str | None = None, patience_seconds: float = 10.0) -> None:
        """Mark the run FAILED (with the reason) or KILLED; gives up quietly on a dead store.

        Points that no checkpoint has are not sent: who goes on with the trial makes them again.
        """
        deadline = time.monotonic() + patience_seconds
        with contextlib.suppress(RefusedError, TimeoutError):
            self.outbox.drain(deadline)
        self.outbox.close()
        try:
            insist(
                lambda: end_run(self._store, self._ensure_run(), status, failure),
                self._store.uri,
                deadline,
            )
        except TrackingError as error:
            log.warning("%s", error)

    def _send(self, batch: list[Point]) -> None:
        from mlflow.entities import Metric

        try:
            run_id = self._ensure_run()
            if batch:
                metrics = [Metric(p.name, p.value, p.time_ms, p.step) for p in batch]
                client(self._store.uri).log_batch(run_id, metrics=metrics)
        except Exception as error:
            if is_final(error):
                raise RefusedError(in_one_line(error)) from None
            raise

    def _ensure_run(self) -> str:
        """The trial's run, found by its id or created; RUNNING from now on."""
        if self._run_id is not None:
            return self._run_id
        from mlflow.entities import Param, RunTag

        tags = dict(self._tags)
        if self._store.sweep_run_id is not None:
            tags[names.PARENT] = self._store.sweep_run_id
        mlflow_client = client(self._store.uri)
        found = list(_all_runs(self._store, f"tags.`{names.TRIAL_ID}` = '{self._trial.trial_id}'"))
        if found:
            run_id = found[0].info.run_id
            mlflow_client.update_run(run_id, status="RUNNING")
            if names.FAILURE in found[0].data.tags:
                mlflow_client.delete_tag(run_id, names.FAILURE)
        else:
            # the tags go in with the run itself, so that no crash leaves a run nobody finds
            created = tags | {names.RUN_NAME: self._trial.label}
            run_id = mlflow_client.create_run(self._store.experiment_id, tags=created).info.run_id
        mlflow_client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in params_of(self._trial).items()],
            tags=[RunTag(key, value) for key, value in tags.items()] if found else [],
        )
        self._run_id = str(run_id)
        return self._run_id


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
