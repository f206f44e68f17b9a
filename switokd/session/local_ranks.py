"""Ranks as processes of this machine, for a trial that is trained without Ray.

`python -m switokd.session.local_ranks` is such a process: it reads which trial and rank it is from
its standard input, and ends when that is closed, as it is when rank 0's process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from switokd.session.failures import RankLostError
from switokd.session.rank_group import (
    Fate,
    RankEnd,
    Rendezvous,
    end_of,
    end_where_unnoticed,
    follow,
)
from switokd.spec.trial import TrialSpec
from switokd.training.build import choose_device
from switokd.validation import SpecError

# of the loopback interface; another system's has another name, and torch finds it
LOOPBACK = "lo" if sys.platform == "linux" else None
PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 1.0
READY = "ready\n"


class LocalRanks:
    """The processes of ranks 1 and up, started for one trial."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._folder = ""
        self._stopped = threading.Event()

    def start(self, trial: TrialSpec) -> Rendezvous:
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
            # whoever dies before the others meet it would be waited for
            if process.stdout.readline() != READY:
                raise RankLostError(f"rank {rank} died ({_how(process.wait())}) as it began")
        self._stopped = threading.Event()
        watched = (list(self._processes), self._stopped)
        threading.Thread(target=_watch, args=watched, name="rank watch", daemon=True).start()
        return Rendezvous(path, interface=LOOPBACK)

    def ended(self) -> Sequence[RankEnd]:
        ends: list[RankEnd] = []
        for rank, process in enumerate(self._processes, start=1):
            try:
                process.wait(PATIENCE_SECONDS if not ends else 1)
            except subprocess.TimeoutExpired:
                continue
            assert process.stdout is not None, "it is piped"
            said = process.stdout.read()
            if said:
                fate, text = json.loads(said)
                ends.append(RankEnd(rank, Fate(fate), text))
            else:
                ends.append(RankEnd(rank, Fate.DIED, f"died ({_how(process.returncode)})"))
        return ends

    def stop(self, *, orderly: bool) -> None:
        self._stopped.set()
        for process in self._processes:
            if orderly:
                try:
                    process.wait(PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
            else:
                process.kill()
        for process in self._processes:
            # closes its pipes too
            process.communicate()
        self._processes.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def _watch(processes: Sequence[subprocess.Popen[str]], stopped: threading.Event) -> None:
    while all(process.poll() is None for process in processes):
        if stopped.wait(LOOK_SECONDS):
            return
    end_where_unnoticed(stopped)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def main() -> None:
    """Be one of the processes."""
    asked = json.loads(sys.stdin.readline())
    # whoever prints is not rank 0
    answers, sys.stdout = sys.stdout, sys.stderr
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    sys.path[:] = asked["modules"]
    rank = asked["rank"]
    answers.write(READY)
    answers.flush()
    try:
        trial = TrialSpec.model_validate_json(asked["trial"])
        follow(trial, rank, Rendezvous(asked["path"], interface=LOOPBACK), gpu=rank)
    except Exception as error:
        end = end_of(rank, error)
        answers.write(json.dumps([end.fate, end.said]))
        answers.flush()
        # whoever waits for this rank is to notice, whatever else holds the process
        os._exit(1)


def _end_with_rank_0() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
