"""Makes the files of this folder: `python -m tests.compatibility.make`. Never to be run again.

What the files are worth lies in their age: a later version of the code must take them up.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from dashboards.analysis.comparison import comparison_frame
from dashboards.reports.csv_table import comparison_csv
from dashboards.store.runs import RunFrames
from switokd.models import MODELS
from switokd.session.trial_session import TrialSession, checkpoint_folder
from switokd.spec.experiment import load_experiment
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.tracker import TrialTracker
from tests.compatibility import cases
from tests.compatibility.tiny_networks import TINY_NETWORKS


def finish(trial: TrialSpec, runs: Path, continues: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a trial comes to when it goes on from what lies under `runs`."""
    with TrialSession(trial, runs=runs, threads=1, continues=continues) as session:
        for _ in session.epochs():
            pass
        result = session.finish()
    return {
        "digest": cases.digest(result.networks),
        "values": cases.values(result.networks),
        "metrics": {k: v for k, v in result.metrics.items() if "top1" in k or "share" in k},
    }


def stop_at(session: TrialSession, step: int) -> None:
    while session.trainer.step < step:
        if session.trainer.run_epoch(lambda: session.trainer.step < step):
            # as the session itself does at the end of an epoch
            raise AssertionError("use advance for whole epochs")
    session.checkpoint()


def train_to(trial: TrialSpec, runs: Path, step: int) -> None:
    """Train whole epochs as a session does, then some steps of the next."""
    with TrialSession(trial, runs=runs, threads=1) as session:
        steps = session.trainer.data.steps_per_epoch
        for _ in range(step // steps):
            session.advance()
        stop_at(session, step)


def keep(trial: TrialSpec, runs: Path, name: str) -> None:
    source = checkpoint_folder(trial, runs)._folder.path
    target = cases.CHECKPOINTS / name / trial.trial_id
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    newest = checkpoint_folder(trial, runs).names()[0]
    shutil.copy(source / newest, target / newest)


def make_checkpoints(folder: Path) -> dict[str, Any]:
    expected: dict[str, Any] = {}
    for name, experiment in cases.stopped_in_an_epoch().items():
        (trial,) = experiment.trials
        train_to(trial, folder, cases.STOP_AT_STEP)
        keep(trial, folder, name)
        expected[name] = {"trial_id": trial.trial_id, **finish(trial, folder)}
    population = cases.population()
    donor, member = population.trials
    train_to(donor, folder, cases.STOP_AT_STEP)
    (cell,) = population.cells
    with TrialSession(member, runs=folder, threads=1) as session:
        session.advance()
        values = {"recipe.learning_rate": 0.07}
        session.take_over(donor.trial_id, cell.at(values), values)
        stop_at(session, cases.STOP_AT_STEP)
    keep(member, folder, "population")
    expected["population"] = {"trial_id": member.trial_id, **finish(member, folder)}
    short, long = (each.trials[0] for each in cases.short_and_long())
    finish(short, folder)
    keep(short, folder, "extended")
    expected["extended"] = {
        "trial_id": long.trial_id,
        "shorter": short.trial_id,
        **finish(long, folder, (short.trial_id,)),
    }
    return expected


def make_store(folder: Path) -> dict[str, Any]:
    """Finished runs of a whole experiment, and one whose driver was killed in mid-epoch."""
    experiment = cases.tracked()
    uri = f"sqlite:///{folder}/mlflow.db"
    store = tracking.open_experiment(experiment.name, uri, folder)
    store = tracking.open_sweep(store, experiment.name)
    *finished, killed = experiment.trials
    for trial in finished:
        with TrialSession(
            trial, runs=folder, threads=1, tracker=TrialTracker(store, trial)
        ) as session:
            for _ in session.epochs():
                pass
            session.finish()
    tracker = TrialTracker(store, killed)
    with TrialSession(killed, runs=folder, threads=1, tracker=tracker) as session:
        session.advance()
        stop_at(session, cases.STOP_AT_STEP)
        session.stop_requested = True
    assert store.sweep_run_id is not None
    tracking.end_run(store, store.sweep_run_id, "KILLED")
    with gzip.GzipFile(cases.STORE, "wb", mtime=0) as file:
        file.write((folder / "mlflow.db").read_bytes())
    shutil.rmtree(cases.STORE_RUNS, ignore_errors=True)
    target = cases.STORE_RUNS / experiment.name / "trials" / killed.trial_id / "checkpoints"
    target.mkdir(parents=True)
    folder_of_killed = checkpoint_folder(killed, folder)
    newest = folder_of_killed.names()[0]
    shutil.copy(folder_of_killed._folder.path / newest, target / newest)
    frame = comparison_frame(RunFrames(uri).trials(experiment.name))
    cases.COMPARISON.write_text(comparison_csv(frame))
    return {"killed": killed.trial_id, **finish(killed, folder)}


def main() -> None:
    torch.set_num_threads(1)
    for source, target in cases.ID_FILES.items():
        lines = [f"{trial.trial_id} {trial.label}" for trial in load_experiment(source).trials]
        target.write_text("\n".join(lines) + "\n")
    MODELS.update(TINY_NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        expected = make_checkpoints(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        expected["tracked"] = make_store(Path(folder))
    expected["machine"] = cases.machine()
    cases.EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
