"""Which rows an extended sweep leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.lengths import newest, superseded, superseded_note

Record = dict[str, Any]
MakeRecord = Callable[..., Record]
FrameOf = Callable[[list[Record]], pd.DataFrame]
Trials = Callable[..., pd.DataFrame]


@pytest.fixture
def trials(record: MakeRecord, frame_of: FrameOf) -> Trials:
    """Trials by (epochs, seed, status, further settings)."""

    def make(*rows: tuple[Any, ...]) -> pd.DataFrame:
        scores = {"T1": (97.0, 97.0), "S1": (95.0, 95.0)}
        return frame_of(
            [
                record(scores=scores, epochs=epochs, seed=seed, status=status, **dict(*extra))
                for epochs, seed, status, *extra in rows
            ]
        )

    return make


def test_the_most_epochs_supersede_whatever_the_milestones(trials: Trials) -> None:
    key = "params.recipe.milestones"
    frame = trials(
        (4, 0, "FINISHED", {key: "[2]"}),
        (12, 0, "FINISHED", {key: "[8]"}),
        (8, 0, "FINISHED", {key: "[6]"}),
    )
    assert newest(frame)["params.recipe.epochs"].tolist() == ["12"]
    assert superseded_note(frame) == [
        "2 trials of shorter recipes left out: longer ones of the same trials have finished"
    ]


def test_while_an_extension_runs_both_lengths_count(trials: Trials) -> None:
    rows = [(4, 0, "FINISHED"), (4, 1, "FINISHED"), (8, 0, "FINISHED")]
    assert not superseded(trials(*rows)).any()
    assert not superseded(trials(*rows, (8, 1, "RUNNING"))).any()
    done = trials(*rows, (8, 1, "FINISHED"))
    assert superseded(done).tolist() == [True, True, False, False]


def test_more_seeds_of_the_longer_recipe_supersede_too(trials: Trials) -> None:
    frame = trials((4, 0, "FINISHED"), (8, 0, "FINISHED"), (8, 1, "FINISHED"))
    assert superseded(frame).tolist() == [True, False, False]


def test_another_setting_is_another_trial(trials: Trials) -> None:
    other = {"params.recipe.batch_size": "64"}
    assert not superseded(trials((4, 0, "FINISHED"), (8, 0, "FINISHED", other))).any()
    one = trials((4, 0, "FINISHED"))
    assert not superseded(one).any()
    assert superseded_note(one) == []


def test_no_trials_have_none(frame_of: FrameOf) -> None:
    assert newest(frame_of([])).empty
