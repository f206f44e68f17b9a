"""Which rows an extended sweep leaves behind."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dashboards.analysis.lengths import newest, superseded, superseded_note
from tests.dashboards.conftest import frame_of, record


def trials(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Trials by (epochs, seed, status, further settings)."""
    return frame_of(
        [
            record(epochs=epochs, seed=seed, status=status, **dict(*extra))
            for epochs, seed, status, *extra in rows
        ]
    )


def test_the_most_epochs_supersede_whatever_the_milestones() -> None:
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


def test_while_an_extension_runs_both_lengths_count() -> None:
    rows = [(4, 0, "FINISHED"), (4, 1, "FINISHED"), (8, 0, "FINISHED")]
    assert not superseded(trials(*rows)).any()
    assert not superseded(trials(*rows, (8, 1, "RUNNING"))).any()
    done = (*rows, (8, 1, "FINISHED"))
    assert superseded(trials(*done)).tolist() == [True, True, False, False]
    assert superseded(trials(*done, (12, 0, "FINISHED"))).tolist() == [True, True, *[False] * 3]


def test_more_seeds_of_the_longer_recipe_supersede_too() -> None:
    frame = trials((4, 0, "FINISHED"), (8, 0, "FINISHED"), (8, 1, "FINISHED"))
    assert superseded(frame).tolist() == [True, False, False]


def test_another_setting_is_another_trial() -> None:
    other = {"params.recipe.batch_size": "64"}
    assert not superseded(trials((4, 0, "FINISHED"), (8, 0, "FINISHED", other))).any()
    one = trials((4, 0, "FINISHED"))
    assert not superseded(one).any()
    assert superseded_note(one) == []
