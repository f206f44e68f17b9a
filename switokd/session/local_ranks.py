"""Ranks as processes of this machine, for a trial that is trained without Ray.

`python -m switokd.session.local_ranks` is such a process: it reads which trial and rank it is from
its standard input, and ends when that is closed, as it is when rank 0's process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from switokd.session.rank_group import (
    LOOK_SECONDS,
    Fate,
    RankEnd,
    Rendezvous,
    device_of_rank,
    end_of,
    follow,
)
from switokd.spec.trial import TrialSpec
from switokd.training.build import choose_device
from switokd.validation import SpecError

# of the loopback interface; another system's has another name, and torch finds it
LOOPBACK = "lo" if sys.platform == "linux" else None
PATIENCE_SECONDS = 10.0
COLLECTING_SECONDS = 1.0
READY = "ready\n"


class LocalRanks:
    """The processes of ranks 1 and up, started for one trial."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._folder = ""

    def start(self, trial: TrialSpec, lost: Callable[[], None]) -> Rendezvous:
        size, device = trial.resources.ranks, choose_device(trial.resources)
        if device.type == "cuda" and torch.cuda.device_count() < size:
            found = torch.cuda.device_count()
            raise SpecError(f"resources.gpus: the trial asks for {size}; this machine has {found}")
        self._folder = tempfile.mkdtemp(prefix="switokd-ranks-")
        path = str(Path(self._folder) / "rendezvous")
        for rank in range(1, size):
            process = subprocess.Popen(
                [sys.executable, "-m", "switokd.session.local_ranks"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                # an interrupt from the keyboard is rank 0's, which ends the others in good order
                start_new_session=True,
            )
            self._processes.append(process)
            assert process.stdin is not None, "it is piped"
            asked = {"trial": trial.model_dump_json(), "rank": rank, "path": path}
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asked | {"modules": sys.path}) + "\n")
                process.stdin.flush()
        for rank, process in enumerate(self._processes, start=1):
            assert process.stdout is not None, "it is piped"
            # whoever ends before the others meet it would be waited for
            if (said := process.stdout.readline()) != READY:
                raise _end(rank, process.wait(), said, " as it began").error()
        watched = (list(self._processes), lost)
        threading.Thread(target=_watch, args=watched, name="rank watch", daemon=True).start()
        return Rendezvous(path, interface=LOOPBACK)

    def ended(self) -> Sequence[RankEnd]:
        patience = time.monotonic() + PATIENCE_SECONDS
        while not _any_ended(self._processes) and time.monotonic() < patience:
            time.sleep(0.05)
        # the first may not be the one that says why
        until = time.monotonic() + COLLECTING_SECONDS
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        return [
            _end(rank, each.returncode, _last_words(each))
            for rank, each in enumerate(self._processes, start=1)
            if each.poll() is not None
        ]

    def stop(self, *, orderly: bool) -> None:
        for process in self._processes:
            if orderly:
                try:
                    process.wait(PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
            else:
                process.kill()
        for process in self._processes:
            # waits for it, and closes its pipes, which a child of its own may hold open
            with contextlib.suppress(BrokenPipeError), process:
                pass
        self._processes.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def _any_ended(processes: Sequence[subprocess.Popen[str]]) -> bool:
    return any(process.poll() is not None for process in processes)


def _watch(processes: Sequence[subprocess.Popen[str]], lost: Callable[[], None]) -> None:
    """Say that one has ended, be it with the trial: who is told knows of that."""
    while not _any_ended(processes):
        time.sleep(LOOK_SECONDS)
    lost()


def _last_words(process: subprocess.Popen[str]) -> str:
    """Of one that has ended; not read to the end, which a child of its own may hold open."""
    assert process.stdout is not None, "it is piped"
    return "" if process.returncode < 0 else process.stdout.readline()


def _end(rank: int, code: int, said: str, when: str = "") -> RankEnd:
    """How a process has ended that said something, or nothing."""
    if said:
        fate, text = json.loads(said)
        return RankEnd(rank, Fate(fate), text)
    return RankEnd(rank, Fate.DIED, f"died ({_how(code)}){when}")


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def main() -> None:
    """Be one of the processes."""
    # rank 0 ends the others, whoever else is told to end: a whole job often is
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)
    # whoever prints is not rank 0, be it a library or a child
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    sys.path[:] = asked["modules"]
    rank = asked["rank"]
    try:
        trial = TrialSpec.model_validate_json(asked["trial"])
        device = device_of_rank(trial, gpu=rank)
        answers.write(READY)
        answers.flush()
        follow(trial, rank, Rendezvous(asked["path"], interface=LOOPBACK), device)
    except Exception as error:
        end = end_of(rank, error)
        answers.write(json.dumps([end.fate, end.said]) + "\n")
        answers.flush()
        # whoever waits for this rank is to notice, whatever else holds the process
        os._exit(1)


def _end_with_rank_0() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
