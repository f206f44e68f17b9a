"""Several trials in one process, each in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
import torch

from switokd.models.initialization import initialize
from switokd.training import build
from tests.session.killed_trials import assert_equal_results, side_by_side, train, trial

pytestmark = pytest.mark.usefixtures("tiny_models")

METHODS = ("switokd", "dml", {"kdcl": {"variant": "general"}}, "vanilla")


def test_side_by_side_trials_end_in_the_bits_of_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        trial(methods=[method], seeds=[seed], recipe={"holdout": 0.2})
        for seed, method in enumerate(METHODS)
    ]
    alone = [train(spec, tmp_path / "alone") for spec in trials]
    # a second trial that could draw its weights at the same time would
    company = threading.Barrier(2)

    def draw(network: torch.nn.Module, init: str) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            company.wait(0.05)
        initialize(network, init)
        company.reset()

    monkeypatch.setattr(build, "initialize", draw)
    for result, undisturbed in zip(side_by_side(trials, tmp_path / "both"), alone, strict=True):
        assert_equal_results(result, undisturbed)


def test_one_that_fails_ends_alone(tmp_path: Path) -> None:
    good, bad = trial(), trial(recipe={"learning_rate": 1e9})
    alone = train(good, tmp_path / "alone")
    results = side_by_side([bad, good], tmp_path / "both")
    assert "diverged" in str(results[0])
    assert_equal_results(results[1], alone)


def test_what_a_process_takes_is_no_trial_s_own(tmp_path: Path) -> None:
    """Where others train beside it nobody knows which memory is whose."""
    lone, shared = (train(trial(), tmp_path / str(alone), alone=alone) for alone in (True, False))
    assert lone.metrics.keys() - shared.metrics.keys() == {"peak_memory_mib"}
