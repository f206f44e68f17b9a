"""What makes MLflow's own pages readable: descriptions, data inputs, who ran what from where."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switokd import names
from switokd.provenance import git_commit

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

    from switokd.spec.trial import TrialSpec

# MLflow shortens a longer profile
LONGEST_NOTE = 5000


def source_tags() -> dict[str, str]:
    """Who runs what: the columns Source, User and Version of MLflow's table of runs."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # a container's user may have no name
        user = str(os.getuid())
    return {
        names.USER: user,
        names.SOURCE_NAME: Path(sys.argv[0] or "python").name,
        names.SOURCE_TYPE: "LOCAL",
        names.SOURCE_COMMIT: git_commit(),
    }


def trial_note(trial: TrialSpec) -> str:
    """A trial's description, in Markdown."""
    roles = [f"teacher {name}: {trial.networks[name].label}" for name in trial.teachers]
    roles += [f"student {name}: {trial.networks[name].label}" for name in trial.students]
    together = "; ".join(roles) if trial.teachers else f"{trial.networks['S1'].label} alone"
    return (
        f"**{trial.method.variant}** on {trial.dataset_name}: {together}. Seed {trial.seed}, "
        f"{trial.recipe.epochs} epochs.\n\n"
        "`gap`, `threshold`, `expert` and `paused` have one point a window of steps; every single "
        f"step is in `{names.TIMELINE_FILE}`. Trial `{trial.trial_id}`: "
        f"`switokd evaluate {trial.trial_id}`, `switokd explain {trial.trial_id}`."
    )


def sweep_note(experiment: str, finding: str = "") -> str:
    """A sweep's description: what it is, and its result in a sentence where there is one."""
    note = (
        f"The sweep `{experiment}`: its trials are the runs below it. Compare them with "
        f"`switokd compare {experiment}`, or on the dashboard (`make dashboard`)."
    )
    return f"{finding}\n\n{note}"[:LONGEST_NOTE] if finding else note


def dataset_input(trial: TrialSpec) -> DatasetInput:
    """The data that a trial was trained on, as MLflow lists inputs; equal data, equal digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    recipe = trial.recipe
    facts: dict[str, Any] = {
        "dataset": trial.dataset,
        # wherever the images lie, where their content is known
        "path": None if trial.dataset_digest else trial.dataset_path,
        "stand_in": trial.stand_in,
        "image_size": recipe.image_size,
        "holdout": recipe.holdout,
        "train_images": recipe.train_images,
    }
    later = {"digest": trial.dataset_digest, "arguments": trial.dataset_arguments}
    facts |= {name: value for name, value in later.items() if value}
    text = json.dumps(facts, sort_keys=True)
    dataset = Dataset(
        name=trial.dataset_name,
        digest=hashlib.sha256(text.encode()).hexdigest()[:8],
        source_type="local",
        source=json.dumps({"uri": trial.dataset_path or trial.dataset}),
        profile=text,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
