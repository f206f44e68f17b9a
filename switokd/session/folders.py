"""Where a trial's files lie, whichever process made them."""

from __future__ import annotations

from pathlib import Path

from switokd.session.checkpoint import CheckpointFolder
from switokd.spec.trial import TrialSpec


def trial_folder(runs: Path, experiment: str, trial_id: str) -> Path:
    """Where a trial's files lie, whichever process made them."""
    return runs.absolute() / experiment / "trials" / trial_id


def checkpoint_folder(
    trial: TrialSpec, runs: Path, trial_id: str | None = None
) -> CheckpointFolder:
    """The checkpoints of a trial, or of the one with `trial_id` beside it."""
    trial_id = trial_id or trial.trial_id
    if trial.resources.storage is not None:
        return CheckpointFolder(trial.resources.storage, trial.experiment, trial_id)
    return CheckpointFolder(trial_folder(runs, trial.experiment, trial_id), "checkpoints")
