"""Small trials, trained at once or killed in the middle of an epoch and gone on with.

Nothing here needs more than the trainer: no store, no Ray.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from switokd.session.checkpoint import CheckpointFolder
from switokd.session.trial_session import TrialResult, open_session
from switokd.session.trial_thread import TrialThread
from switokd.spec.experiment import Experiment
from switokd.spec.teaching import teacher_trials
from switokd.spec.trial import TrialSpec
from tests.machine import is_measured

# so many steps into the second epoch
KILLED_AT_STEP = 2
TEACHER, STUDENT = "tiny_wide", "tiny"


def trial(**changes: Any) -> TrialSpec:
    """Tiny networks on some digits, three epochs of six steps."""
    recipe = {"epochs": 3, "batch_size": 100, "image_size": 8, "learning_rate": 0.05}
    recipe["train_images"] = 600
    content = {
        "name": "resumed",
        "dataset": "digits",
        "cohorts": [{"teachers": [TEACHER], "students": [STUDENT]}],
        "methods": ["switokd"],
        "recipe": recipe | changes.pop("recipe", {}),
        **changes,
    }
    # those that train teachers come first
    return Experiment.model_validate(content).trials[-1]


def points(folder: Path) -> dict[tuple[str, int], float]:
    """What waits in the last checkpoint of a trial that is not tracked; fails on a double."""
    state = CheckpointFolder(folder / "checkpoints").latest()
    assert state is not None
    found = {(name, step): value for name, value, step, _ in state["outbox"]}
    assert len(found) == len(state["outbox"])
    return {key: value for key, value in found.items() if not is_measured(key[0])}


def assert_equal_results(result: TrialResult, undisturbed: TrialResult) -> None:
    for name, network in undisturbed.networks.items():
        other = result.networks[name].state_dict()
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, other[key]), (name, key)
    files = [r.folder / "timeline.parquet" for r in (result, undisturbed)]
    assert files[0].exists() == files[1].exists()
    if files[0].exists():
        pd.testing.assert_frame_equal(*map(pd.read_parquet, files))
    assert points(result.folder) == points(undisturbed.folder)
    for name, value in undisturbed.metrics.items():
        assert is_measured(name) or result.metrics[name] == value


class KilledError(BaseException):
    """Ends a session as nothing that it could answer."""


def train(spec: TrialSpec, runs: Path, **options: Any) -> TrialResult:
    with open_session(spec, runs=runs, threads=1, **options) as session:
        for _ in session.epochs():
            pass
        return session.finish()


def side_by_side(trials: list[TrialSpec], runs: Path) -> list[object]:
    """What each came to, or raised."""

    def in_its_thread(spec: TrialSpec) -> object:
        with closing(TrialThread(f"trial {spec.trial_id}")) as thread:
            try:
                return thread.do(lambda: train(spec, runs, alone=False))
            except Exception as error:
                return error

    with ThreadPoolExecutor(len(trials)) as pool:
        return list(pool.map(in_its_thread, trials))


def killed(spec: TrialSpec, runs: Path) -> None:
    with suppress(KilledError), open_session(spec, runs=runs, threads=1) as session:
        trainer = session.trainer
        while (trainer.epoch, trainer.step_in_epoch) != (1, KILLED_AT_STEP):
            session.advance(0.0)
        session.checkpoint()
        # lost with the process, and trained again
        session.advance(0.0)
        raise KilledError
    # what a new process would not have
    torch.manual_seed(77)


def assert_resumes(spec: TrialSpec, folder: Path) -> None:
    for runs in ("whole", "resumed"):
        for teacher in teacher_trials(spec).values():
            train(teacher, folder / runs)
    whole = train(spec, folder / "whole")
    killed(spec, folder / "resumed")
    with open_session(spec, runs=folder / "resumed", threads=1) as session:
        trainer = session.trainer
        assert (trainer.epoch, trainer.step_in_epoch) == (1, KILLED_AT_STEP)
        for _ in session.epochs():
            pass
        resumed = session.finish()
    assert_equal_results(resumed, whole)
    assert (resumed.folder / "timeline.parquet").exists() == bool(spec.links)
