"""The weights of a trial's trained teachers, as the trials that trained them left them.

They are read from the folder of the teacher's trial where this machine has it, else from its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from switokd import names
from switokd.models.stored_weights import read_weights_file
from switokd.spec.teaching import ALONE_NAME
from switokd.spec.trial import TrialSpec
from switokd.training.teachers import StateDict
from switokd.validation import SpecError


class Fetch(Protocol):
    """Gets weights files of a trial from its run; those that are there, in a folder."""

    def __call__(self, trial_id: str, files: list[str], folder: Path) -> None: ...


def read_teachers(
    trial: TrialSpec, trials_folder: Path, fetch: Fetch | None
) -> dict[str, dict[int, StateDict]]:
    """The weights of each trained teacher by the epoch up to which they teach.

    `trials_folder` has a folder for each trial. Raises SpecError where a teacher has not been
    trained, or where a file is damaged.
    """
    found: dict[str, dict[int, StateDict]] = {}
    epochs = trial.recipe.epochs
    for name, trial_id in trial.trained_by.items():
        asked = trial.method.settings.teacher_epochs(epochs) or (epochs,)
        files = {epoch: _file_of(epoch, epochs) for epoch in asked}
        folder = trials_folder / trial_id / names.WEIGHTS_FOLDER
        last = _file_of(epochs, epochs)
        if not (folder / last).exists() and fetch is not None:
            folder = trials_folder / trial.trial_id / "teachers" / trial_id
            fetch(trial_id, [*files.values(), last], folder)
        if not (folder / last).exists():
            raise SpecError(
                f"its teacher {name} ({trial.networks[name].label}), trial {trial_id}, has not "
                "been trained"
            )
        # of a teacher whose training ended early, the later ones are its last
        present = {e: f if (folder / f).exists() else last for e, f in files.items()}
        read = {file: read_weights_file(folder / file)[0] for file in set(present.values())}
        found[name] = {epoch: read[file] for epoch, file in present.items()}
    return found


def _file_of(epoch: int, epochs: int) -> str:
    return weights_file(ALONE_NAME, "last" if epoch == epochs else snapshot(epoch))


def weights_file(network: str, which: str) -> str:
    """The name of a network's weights in a trial's folder; `which`: last, best or a snapshot."""
    return f"{network}-{which}.pt"


def snapshot(epoch: int) -> str:
    """What the weights after an epoch are called."""
    return f"epoch-{epoch}"


def lacks_snapshots(trial: TrialSpec, trainer: Mapping[str, Any]) -> str | None:
    """Why a trainer's state is none for a trial whose snapshots teach others; None where it is."""
    kept = trainer.get("snapshots", {})
    lacking = [e for e in trial.snapshots if e <= trainer.get("epoch", 0) and e not in kept]
    if not lacking:
        return None
    return f"it has not kept its weights after epoch {', '.join(map(str, lacking))}, which teach"
