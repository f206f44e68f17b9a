"""What a sweep says of its trials: a table in a terminal, lines in a log file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tests.tuning.workplace import small_trials
from tuning import progress as progress_module
from tuning.progress import SweepProgress

REPORT: dict[str, Any] = {
    "epoch": 2,
    "epochs": 4,
    "progress": 0.5,
    "val_top1": 81.234,
    "gap": 0.1234,
    "expert": 0.25,
    "notices": [],
}


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    # the table is drawn where a test asks for it
    monkeypatch.setattr(progress_module, "TABLES_PER_SECOND", 1e-6)
    return clock


class Sweep:
    """Three trials, or `count`, a console that writes into memory, and the progress of them."""

    def __init__(self, terminal: bool, count: int = 3) -> None:
        self.file = io.StringIO()
        console = Console(
            file=self.file, width=120, height=25, force_terminal=terminal, color_system=None
        )
        trials = small_trials(methods=["dml"], seeds=list(range(count)))
        self.trials = [trial.trial_id for trial in trials]
        self.labels = [trial.label for trial in trials]
        self.progress = SweepProgress(list(trials), console)

    def printed(self) -> str:
        """What has come since the last call, the table as it is now included."""
        if self.progress._live.is_started:
            self.progress._live.refresh()
        text = self.file.getvalue()
        self.file.seek(0)
        self.file.truncate()
        return text


def row_of(text: str, label: str) -> list[str]:
    """The last line that begins with the label, without it."""
    found = [line for line in text.splitlines() if label in line]
    return found[-1].partition(label)[2].split()


def test_a_terminal_shows_a_row_for_each_trial_that_runs(clock: Clock) -> None:
    sweep = Sweep(terminal=True)
    first, second, _ = sweep.trials
    with sweep.progress as progress:
        progress.start(first)
        progress.report(first, REPORT | {"progress": 0.25})
        clock.now += 30
        sweep.printed()
        progress.report(first, REPORT)
        # a quarter took 30 seconds, and a half is left
        shown = sweep.printed()
        assert row_of(shown, sweep.labels[0]) == ["2/4", "81.23", "0.123", "25%", "1:00"]
        assert sweep.labels[1] not in shown
        assert "1 running, 2 waiting after 0:30" in shown
        for heading in ("epoch", "S1 top-1 %", "gap", "expert", "time left"):
            assert heading in shown
        progress.start(second)
        assert row_of(sweep.printed(), sweep.labels[1]) == ["-"] * 5
        progress.report(second, {"failure": "diverged at step 3", "out_of_memory": False})
        progress.complete(second)
        shown = sweep.printed()
        assert f"failed   1/3  {second}" in shown
        assert "diverged at step 3" in shown
        assert "1 failed, 1 running, 1 waiting" in shown


def test_what_a_search_has_not_chosen_yet_waits(clock: Clock) -> None:
    sweep = Sweep(terminal=False)
    known = [each.trial for each in sweep.progress.trials.values()]
    progress = SweepProgress(known, Console(file=io.StringIO()), total=10)
    progress.start(sweep.trials[0])
    assert progress.standing() == {"finished": 0, "failed": 0, "running": 1, "waiting": 9}


def test_namesakes_are_told_apart_by_what_is_swept(clock: Clock) -> None:
    trials = small_trials(methods=["dml", "vanilla"], recipe={"train_images": [50, 100]})
    file = io.StringIO()
    with SweepProgress(trials, Console(file=file, width=140)) as progress:
        for trial in trials:
            progress.start(trial.trial_id)
            progress.complete(trial.trial_id)
    lines = file.getvalue().splitlines()
    for trial, line in zip(trials, lines, strict=True):
        assert f"{trial.label} recipe.train_images={trial.recipe.train_images}" in line


def test_a_log_file_gets_lines_and_no_escape_sequences(clock: Clock) -> None:
    sweep = Sweep(terminal=False)
    first, second, third = sweep.trials
    with sweep.progress as progress:
        progress.start(first)
        progress.report(first, REPORT | {"notices": ["the store does not answer"]})
        assert sweep.printed().splitlines() == [
            f"note     0/3  {first}  {sweep.labels[0]:36}  the store does not answer"
        ]
        clock.now += 20
        progress.report(first, REPORT)
        running, counts = sweep.printed().splitlines()
        assert running.endswith("epoch 2/4  top-1 81.23  gap 0.123  expert 25%")
        assert counts.startswith("1 running, 2 waiting after 0:20")
        progress.start(first)
        assert "its worker ended: it goes on from its checkpoint" in sweep.printed()
        progress.report(first, REPORT | {"progress": 1.0, "train_seconds": 75.0})
        progress.complete(first)
        assert sweep.printed().rstrip().endswith("trained 1:15")
        progress.give_up(second, RuntimeError("killed"))
        assert "its worker died again and again; at last: killed" in sweep.printed()
        progress.start(third)
    assert progress.failures.keys() == {second}
    assert progress.unfinished()
    assert "\x1b" not in sweep.printed()


def test_the_time_left_is_by_the_pace_and_not_by_what_came_before_it(clock: Clock) -> None:
    """A minute of imports, then a quarter of a trial in 10 seconds, two at once of three."""
    sweep = Sweep(terminal=False)
    first, second, third = sweep.trials
    progress = sweep.progress
    progress.start(first)
    progress.start(second)
    clock.now += 60
    assert progress.standing() == {"finished": 0, "failed": 0, "running": 2, "waiting": 1}
    for trial in (first, second):
        progress.report(trial, REPORT | {"progress": 0.0})
    clock.now += 10
    progress.report(first, REPORT | {"progress": 0.25})
    # 30 s of the first, 40 of the second (of no pace of its own yet) and of the third, by two
    assert progress.standing()["seconds_left"] == 55
    clock.now += 30
    progress.report(first, REPORT | {"progress": 1.0})
    progress.complete(first)
    progress.report(second, REPORT | {"progress": 1.0})
    progress.complete(second)
    assert progress.standing() == {
        **{"finished": 2, "failed": 0, "running": 0, "waiting": 1},
        "seconds_left": 40,
    }
    progress.start(third)
    progress.report(third, REPORT | {"progress": 0.5})
    clock.now += 10
    progress.report(third, REPORT | {"progress": 0.75})
    # what it gained here, not what it was taken up with
    assert progress.standing()["seconds_left"] == 10


@pytest.mark.parametrize("terminal", [True, False])
def test_of_many_that_run_at_once_only_their_number_is_told(terminal: bool, clock: Clock) -> None:
    sweep = Sweep(terminal, count=30)
    with sweep.progress as progress:
        for trial in sweep.trials:
            progress.start(trial)
        sweep.printed()
        clock.now += 20
        progress.report(sweep.trials[0], REPORT)
        lines = sweep.printed().splitlines()
    rows = [line for line in lines if any(label in line for label in sweep.labels)]
    assert len(rows) == (21 if terminal else 0)
    assert any(line.startswith("and 9 more") for line in lines) == terminal
    assert len(lines) <= 25
    assert any("30 running after 0:20" in line for line in lines)
