"""A real sweep on a GPU that one trial has alone, four share, or as many as were measured to fit.

Where Ray and MLflow are installed. Whoever shares it, a trial's weights are equal to the bit.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from tests.tuning.workplace import Workplace

SHARES: tuple[dict[str, Any], ...] = (
    {"trials_per_gpu": 1},
    {"trials_per_gpu": 4},
    {"trials_per_gpu": 4, "gpu_sharing": "threads"},
    {"trials_per_gpu": "auto"},
)
TRIALS = 8
TRAIN_IMAGES, EPOCHS = 1438, 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Weights = dict[str, dict[str, torch.Tensor]]


@functools.cache
def swept(number: int) -> tuple[float, Weights]:
    """Images a second of a whole sweep, from its first trial's start to its last one's end, and
    the students' last weights by trial."""
    pytest.importorskip("ray")
    pytest.importorskip("mlflow")
    from tests.tuning.workplace import Workplace

    with tempfile.TemporaryDirectory() as folder:
        workplace = Workplace(Path(folder))
        try:
            return _sweep(workplace, SHARES[number])
        finally:
            workplace.close()


def _sweep(workplace: Workplace, share: dict[str, Any]) -> tuple[float, Weights]:
    from tests.tuning.workplace import small_experiment

    content = small_experiment(
        name="shared",
        methods=["switokd"],
        seeds=list(range(TRIALS)),
        recipe={
            "epochs": EPOCHS,
            "train_images": None,
            "image_size": 16,
            "deterministic": True,
            "engine": "graphed",
        },
        resources=share,
    )
    trials = workplace.write(content).trials
    workplace.sweep()
    runs = workplace.trial_runs("shared").values()
    assert {run.info.status for run in runs} == {"FINISHED"}
    milliseconds = max(r.info.end_time for r in runs) - min(r.info.start_time for r in runs)
    weights = {}
    for trial in trials:
        path = workplace.trial_folder(trial) / "weights" / "S1-last.pt"
        weights[trial.trial_id] = torch.load(path, weights_only=True)["state_dict"]
    return 1000 * TRIALS * EPOCHS * TRAIN_IMAGES / milliseconds, weights


@pytest.mark.parametrize("number", range(len(SHARES)), ids=map(str, SHARES))
def test_every_trial_finishes_and_the_throughput_is_noted(
    number: int, figures: Callable[..., None]
) -> None:
    throughput, weights = swept(number)
    figures(**{f"sweep {SHARES[number]}, images/s": throughput})
    assert len(weights) == TRIALS


@pytest.mark.parametrize("number", range(1, len(SHARES)), ids=map(str, SHARES[1:]))
def test_who_shares_a_gpu_trains_as_who_has_it_alone(number: int) -> None:
    (_, alone), (_, shared) = swept(0), swept(number)
    assert shared.keys() == alone.keys()
    for trial_id, weights in alone.items():
        for name, value in weights.items():
            assert torch.equal(shared[trial_id][name], value), (trial_id, name)
