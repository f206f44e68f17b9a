"""When trials are read again, with a clock of the test's own."""

from __future__ import annotations

import threading
from typing import Any

import pandas as pd
import pytest

from dashboards.store import kept_trials
from dashboards.store.kept_trials import FRESH_SECONDS, USABLE_SECONDS, KeptTrials, with_news
from tests.dashboards.conftest import frame_of, record
from tests.processes import await_


class Source:
    """Counts readings; a reading waits for `may_answer`."""

    def __init__(self) -> None:
        self.readings = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    def read(self) -> pd.DataFrame:
        assert self.may_answer.wait(10)
        self.readings += 1
        if self.error:
            raise self.error
        return pd.DataFrame({"reading": [self.readings]})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 1000.0

        def time(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(kept_trials, "time", clock)
    return clock


def reading(trials: KeptTrials) -> int:
    return int(trials.get()[0]["reading"].iloc[0])


def test_fresh_trials_are_not_read_again(clock: Any) -> None:
    source = Source()
    trials = KeptTrials(source.read)
    assert [reading(trials) for _ in range(3)] == [1, 1, 1]
    clock.now += FRESH_SECONDS
    assert reading(trials) == 1
    assert trials.get()[1] == 1000.0


def test_older_trials_are_shown_while_the_next_are_read(clock: Any) -> None:
    source = Source()
    trials = KeptTrials(source.read)
    assert reading(trials) == 1
    clock.now += FRESH_SECONDS + 1
    source.may_answer.clear()
    assert [reading(trials), reading(trials)] == [1, 1]
    source.may_answer.set()
    await_(lambda: reading(trials) == 2)
    assert source.readings == 2


def test_trials_too_old_to_show_are_waited_for(clock: Any) -> None:
    trials = KeptTrials(Source().read)
    assert reading(trials) == 1
    clock.now += USABLE_SECONDS + 1
    assert reading(trials) == 2
    trials.forget()
    assert reading(trials) == 3


def test_a_reading_that_failed_is_said_and_tried_again(clock: Any) -> None:
    source = Source()
    trials = KeptTrials(source.read)
    source.error = ValueError("the store does not answer")
    with pytest.raises(ValueError, match="does not answer"):
        trials.get()
    source.error = None
    assert reading(trials) == 2


def test_news_replace_what_was_kept() -> None:
    done, ended, going = (
        record(seed=seed, status=status)
        for seed, status in enumerate(("FINISHED", "RUNNING", "RUNNING"))
    )
    new = record(seed=3, status="FAILED")
    now = with_news(frame_of([done, ended, going]), frame_of([going, new]))
    assert now.set_index("seed")["status"].to_dict() == {
        0: "FINISHED",
        1: "FINISHED",
        2: "RUNNING",
        3: "FAILED",
    }
    assert now.index.is_unique, "what is drawn from it is found by its row"
    kept = frame_of([done])
    assert len(with_news(kept, kept.head(0))) == 1
