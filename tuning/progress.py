"""How a sweep goes: a live table in a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from switokd.spec.space import SearchPoint
from switokd.spec.trial import TrialSpec
from tuning.told_apart import told_apart

LINES_EVERY_SECONDS = 15.0
# of a log file: who runs more trials at once reads how many
MOST_LINES = 20
TABLES_PER_SECOND = 4.0
# below it: what is counted
LINES_BESIDE_ROWS = 4
ENDED = ("finished", "failed")
STATES = (*ENDED, "running", "waiting")


@dataclass
class TrialProgress:
    """What is known of one trial so far.

    `told`: what tells it from other trials of its name, where its point does not.
    """

    trial: TrialSpec
    point: SearchPoint = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    state: str = "waiting"
    last: dict[str, Any] = field(default_factory=dict)
    started_at: float = 0.0
    started_progress: float | None = None
    running_since: float = 0.0
    stopped_at: float = 0.0

    @property
    def name(self) -> str:
        """The trial's label, and what else it is known by."""
        # the label has the temperature
        further = {key: value for key, value in self.point.items() if key != "temperature"}
        values = (f"{key}={value}" for key, value in (further | dict(self.told)).items())
        return " ".join([self.trial.label, *values])

    @property
    def share_done(self) -> float:
        """0 to 1."""
        return 1.0 if self.state in ENDED else float(self.last.get("progress", 0.0))

    @property
    def whole_seconds(self) -> float | None:
        """What the whole trial takes at the pace since this process took it up."""
        # read once: the table is drawn by another thread than that which writes it
        started = self.started_progress
        if started is None or self.state == "failed":
            return None
        gained = self.share_done - started
        until = time.monotonic() if self.state == "running" else self.stopped_at
        return (until - self.started_at) / gained if gained > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Of a trial that runs."""
        whole = self.whole_seconds if self.state == "running" else None
        return None if whole is None else whole * (1 - self.share_done)


class Failure(NamedTuple):
    """A trial that failed, with its point where it is a search's, be it before a worker had it."""

    trial: TrialSpec
    point: SearchPoint | None
    reason: str
    begun: bool


class SweepProgress:
    """Told of each trial's life, by its id; a context manager, which holds the live table."""

    def __init__(
        self,
        trials: list[TrialSpec],
        console: Console,
        total: int | None = None,
        points: Mapping[str, SearchPoint] | None = None,
    ) -> None:
        self.trials: dict[str, TrialProgress] = {}
        # by state, so that no report asks every trial
        self._ids: dict[str, dict[str, None]] = {state: {} for state in STATES}
        told = {} if points else told_apart(trials)
        for trial in trials:
            self.add(trial, (points or {}).get(trial.trial_id), told.get(trial.trial_id))
        self._total = total or len(trials)
        self.failures: dict[str, str] = {}
        self.out_of_memory: set[str] = set()
        self._console = console
        self._began = time.monotonic()
        self._printed = self._began
        # from the first trial's start to the last one's end, and of all trials together
        self.wall_seconds = self.trial_seconds = 0.0
        self._first_start: float | None = None
        self._most_at_once = 0
        # drawn in its own time, as that takes as long as many trials' reports
        self._live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=TABLES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> SweepProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves its callback, scheduler and searcher; what they tell belongs to this terminal
        return {}

    def add(
        self,
        trial: TrialSpec,
        point: SearchPoint | None = None,
        told: Mapping[str, str] | None = None,
    ) -> None:
        """Follow a trial, with its point where it is a search's."""
        self.trials[trial.trial_id] = TrialProgress(trial, point or {}, told or {})
        self._ids["waiting"][trial.trial_id] = None

    def _move(self, progress: TrialProgress, state: str) -> None:
        key = progress.trial.trial_id
        del self._ids[progress.state][key]
        self._ids[state][key] = None
        progress.state = state

    def unfinished(self, trial_ids: Sequence[str] | None = None) -> bool:
        """Whether any trial, or any of those, has neither finished nor failed."""
        asked = self.trials if trial_ids is None else trial_ids
        return any(self.trials[key].state not in ENDED for key in asked)

    @property
    def failed(self) -> list[Failure]:
        """In the order in which they failed."""
        known = ((self.trials[key], reason) for key, reason in self.failures.items())
        return [
            Failure(each.trial, each.point or None, reason, begun=each.running_since > 0)
            for each, reason in known
        ]

    def requeue(self, trials: list[TrialSpec]) -> None:
        """Failed trials are to be run once more."""
        for trial in trials:
            self._move(self.trials[trial.trial_id], "waiting")

    def start(self, trial_id: str) -> None:
        """A worker takes the trial up, for the first time or again."""
        progress = self.trials[trial_id]
        if progress.state == "running":
            self._print("again", progress, "its worker ended: it goes on from its checkpoint")
        elif trial_id in self.failures:
            self._print("again", progress, "alone on its device")
            del self.failures[trial_id]
        self._move(progress, "running")
        progress.started_at = progress.running_since = time.monotonic()
        progress.started_progress = None
        self._first_start = self._first_start or progress.started_at
        self._most_at_once = max(self._most_at_once, len(self._ids["running"]))
        self._tell_log()

    def report(self, trial_id: str, result: dict[str, Any]) -> None:
        """What the worker says after a step (`TrialWorker.step`)."""
        progress = self.trials[trial_id]
        for notice in result.get("notices", ()):
            self._print("note", progress, notice)
        if "failure" in result:
            self.failures[trial_id] = result["failure"]
            if result["out_of_memory"]:
                self.out_of_memory.add(trial_id)
            return
        progress.last.pop("waiting", None)
        if "progress" in result and progress.started_progress is None:
            # the pace counts from the first report on: before it lie imports and a resume
            progress.started_progress = result["progress"]
            progress.started_at = time.monotonic()
        progress.last |= result
        self._tell_log()

    def pause(self, trial_id: str) -> None:
        """A scheduler lets another trial go first."""
        progress = self.trials[trial_id]
        self._move(progress, "waiting")
        self._add_time(progress)

    def complete(self, trial_id: str) -> None:
        """The trial's worker is done with it: finished, or failed as it has reported."""
        self._end(self.trials[trial_id], self.failures.get(trial_id))

    def give_up(self, trial_id: str, error: Exception | None) -> None:
        """The trial has lost as many workers as it may."""
        reason = f"its worker died again and again; at last: {error}"
        self.failures[trial_id] = reason
        self._end(self.trials[trial_id], reason)

    def fail(self, trial_id: str, reason: str) -> None:
        """The trial cannot begin."""
        progress = self.trials[trial_id]
        self.failures[trial_id] = reason
        self._move(progress, "failed")
        self._print(progress.state, progress, reason)
        self._tell_log()

    def _add_time(self, progress: TrialProgress) -> None:
        now = progress.stopped_at = time.monotonic()
        self.trial_seconds += now - progress.running_since
        self.wall_seconds = now - (self._first_start or now)

    def _end(self, progress: TrialProgress, failure: str | None) -> None:
        self._add_time(progress)
        self._move(progress, "failed" if failure else "finished")
        self._print(progress.state, progress, failure.strip() if failure else _in_words(progress))
        self._tell_log()

    def _print(self, what: str, progress: TrialProgress, words: str) -> None:
        """One line that stays; its columns are aligned where labels are of ordinary length."""
        done = sum(len(self._ids[state]) for state in ENDED)
        total = str(self._total)
        begin = f"{what:8} {done:{len(total)}}/{total}  {progress.trial.trial_id}"
        line = f"{progress.name:36}  {words}".rstrip()
        if self._console.is_terminal:
            # what does not fit goes on below itself
            grid = Table.grid("", "", padding=(0, 2, 0, 0))
            grid.add_row(Text(begin, no_wrap=True), Text(line))
            self._console.print(grid)
        else:
            self._console.print(Text(f"{begin}  {line}"), soft_wrap=True)

    def _tell_log(self) -> None:
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed > LINES_EVERY_SECONDS:
            self._printed = now
            running = self._running
            for progress in running if len(running) <= MOST_LINES else ():
                self._print("running", progress, _in_words(progress))
            self._console.print(Text(self._counts()), soft_wrap=True)

    @property
    def _running(self) -> list[TrialProgress]:
        """In the order in which they began."""
        return [self.trials[key] for key in list(self._ids["running"])]

    def _table(self) -> Segments:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("trial", overflow="fold")
        for heading in ("epoch", "S1 top-1 %", "gap", "expert", "time left"):
            table.add_column(heading, justify="right", no_wrap=True)
        running = self._running
        shown = running[: max(1, self._console.height - LINES_BESIDE_ROWS)]
        for progress in shown:
            values = _values(progress)
            table.add_row(
                progress.name,
                *(values.get(key, "-") for key in ("epoch", "top-1", "gap", "expert", "left")),
            )
        lines = [f"and {len(running) - len(shown)} more"] if len(shown) < len(running) else []
        whole = Group(table, *(Text(line, style="dim") for line in (*lines, self._counts())))
        # laid out once for all the lines that are printed above it until it is drawn again
        return Segments(list(self._console.render(whole)))

    def standing(self) -> dict[str, float]:
        """How many trials are in each state, and about how many `seconds_left`, where known.

        Also for another thread, which tells those who watch from elsewhere.
        """
        found: dict[str, float] = {state: len(self._ids[state]) for state in STATES}
        # what a search has not chosen yet
        found["waiting"] += self._total - len(self.trials)
        seconds = self._seconds_left()
        return found if seconds is None else found | {"seconds_left": round(seconds)}

    def _seconds_left(self) -> float | None:
        """By the pace of the trials that have one, those still to come taken as their mean.

        Imports, data and resumes are left out: a pace counts from a trial's first report.
        """
        trials = list(self.trials.values())
        paces = [whole for each in trials if (whole := each.whole_seconds) is not None]
        if not paces:
            return None
        usual = sum(paces) / len(paces)
        running = [each for each in trials if each.state == "running"]
        left = [
            usual * (1 - each.share_done) if each.seconds_left is None else each.seconds_left
            for each in running
        ]
        waiting = [each for each in trials if each.state == "waiting"]
        to_come = sum(usual * (1 - each.share_done) for each in waiting)
        to_come += usual * (self._total - len(trials))
        at_once = max(1, min(self._most_at_once, len(running) + len(waiting)))
        # the last trials run side by side with fewer
        return max([(sum(left) + to_come) / at_once, *left])

    def _counts(self) -> str:
        standing = self.standing()
        counts = [f"{standing[state]} {state}" for state in STATES if standing[state]]
        line = f"{', '.join(counts)} after {_clock(time.monotonic() - self._began)}"
        if "seconds_left" in standing:
            line += f", about {_clock(standing['seconds_left'])} left"
        return line


def _in_words(progress: TrialProgress) -> str:
    if "waiting" in progress.last:
        return f"waits: {progress.last['waiting']}"
    return "  ".join(f"{key} {value}" for key, value in _values(progress).items()) or "starting"


def _values(progress: TrialProgress) -> dict[str, str]:
    last, values = progress.last, {}
    if "epoch" in last and progress.state == "running":
        values["epoch"] = f"{last['epoch']}/{last['epochs']}"
    if "val_top1" in last:
        values["top-1"] = f"{last['val_top1']:.2f}"
    if "gap" in last:
        values["gap"] = f"{last['gap']:.3f}"
        values["expert"] = f"{100 * last['expert']:.0f}%"
    if progress.seconds_left is not None:
        values["left"] = _clock(progress.seconds_left)
    elif progress.state == "finished" and "train_seconds" in last:
        values["trained"] = _clock(last["train_seconds"])
    if last.get("stopped"):
        values["last"] = last["stopped"]
    return values


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
