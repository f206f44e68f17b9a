"""Who is at work on an experiment, told through the store: for folders that share no disk.

A sweep's run carries its holders: host, process, folder, and a beat that a living one renews. One
is the sweep's, with how far that is; a trial that somebody trains alone has one of its own. Locks
on files tell processes of one folder apart; this tells folders and machines apart.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from switokd import names
from switokd.files.lock import HeldError
from switokd.tracking.client import open_client
from switokd.tracking.retry import TrackingError, tracking_errors
from switokd.tracking.store import TrackedExperiment

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
# several beats may be lost to a store that is away for a moment
DEAD_SECONDS = 45.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Holder:
    """This process as the one that sweeps an experiment, or that trains one `trial` of it, by its
    id; lets go at the end of its block.
    """

    def __init__(self, experiment: str, folder: Path, trial: str | None = None) -> None:
        self._experiment = experiment
        self._tag = names.HOLDER if trial is None else f"{names.HOLDER}.{trial}"
        self._me = {
            "host": socket.gethostname(),
            "boot": BOOT_ID.read_text().strip() if BOOT_ID.exists() else "",
            "pid": os.getpid(),
            "born": process_birth(os.getpid()),
            "folder": str(folder.absolute()),
        }
        self._held: TrackedExperiment | None = None
        self._standing: Callable[[], Mapping[str, float]] | None = None
        self.displaced = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_forever, daemon=True)

    def claim(self, tracked: TrackedExperiment) -> None:
        """Become the holder where there is a sweep's run; HeldError where another one lives.

        A sweep and who trains a trial alone may share a folder: there the trial's lock tells.

        Two that claim at the same moment are told apart by `confirm`, a while later.
        """
        run = tracked.sweep_run(self._experiment)
        if run is None:
            return
        for tag, other in self._others(run).items():
            if self._excludes(tag, other) and self._lives(tracked, tag, other):
                raise self._refused(tag, other)
        self._held = tracked
        with tracking_errors(tracked.uri):
            self._beat(tracked.uri, run.info.run_id)
        if not self._thread.is_alive():
            self._thread.start()

    def tell(self, standing: Callable[[], Mapping[str, float]]) -> None:
        """From now on say with each beat how far the sweep is."""
        self._standing = standing

    def confirm(self) -> Run | None:
        """The sweep's run; raises HeldError where another has become its holder since."""
        run = self._held.sweep_run(self._experiment) if self._held else None
        other = None if run is None else self._others(run).get(self._tag)
        if other is not None:
            self.displaced = True
            raise self._refused(self._tag, other)
        return run

    def _refused(self, tag: str, other: dict[str, Any]) -> HeldError:
        trial = tag.removeprefix(names.HOLDER).removeprefix(".")
        what = f"a sweep of {self._experiment!r} is at work"
        if trial:
            what = f"trial {trial} of {self._experiment!r} is trained"
        return HeldError(
            f"{what} already: process {other['pid']} on host {other['host']}, in "
            f"{other['folder']} (it shares this tracking store)"
        )

    def _others(self, run: Run) -> dict[str, dict[str, Any]]:
        """The holders that the run tells of and that are not this process, by their tags."""
        own = ("host", "boot", "pid", "born")
        found = {
            tag: json.loads(value)
            for tag, value in run.data.tags.items()
            if tag.startswith(names.HOLDER)
        }
        return {
            tag: other
            for tag, other in found.items()
            if not all(other[key] == self._me[key] for key in own)
        }

    def _excludes(self, tag: str, other: dict[str, Any]) -> bool:
        """Whether the holder of a tag, if it lives, keeps this process from its work."""
        if tag == self._tag:
            return True
        # two trials are no matter of each other's
        with_a_sweep = names.HOLDER in (tag, self._tag)
        return with_a_sweep and other["folder"] != self._me["folder"]

    def _lives(self, tracked: TrackedExperiment, tag: str, other: dict[str, Any]) -> bool:
        """By the process where it is of this machine, else by its beat: clocks may differ."""
        if all(other[key] == self._me[key] for key in ("host", "boot")):
            return process_birth(other["pid"]) == other["born"]
        seen_until = time.monotonic() + DEAD_SECONDS
        while time.monotonic() < seen_until:
            time.sleep(1.0)
            run = tracked.sweep_run(self._experiment)
            now = None if run is None else self._others(run).get(tag)
            if now is None or now["beat"] != other["beat"]:
                return now is not None
        return False

    def _beat(self, uri: str, run_id: str) -> None:
        beat = json.dumps(self._me | {"beat": time.time()})
        client = open_client(uri)
        client.set_tag(run_id, self._tag, beat)
        if self._standing is not None:
            client.set_tag(run_id, names.STANDING, json.dumps(self._standing()))

    def _beat_forever(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                run = self.confirm()
                if run is not None and self._held is not None:
                    self._beat(self._held.uri, run.info.run_id)
            except HeldError:
                # it took us for dead while the store was away: the trials are its own now
                os.kill(os.getpid(), signal.SIGINT)
                return
            except Exception as error:
                # a store that is away for a while is told of where points wait for it
                log.debug("no beat: %s", error)

    def __enter__(self) -> Holder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._held is None or self.displaced:
            return
        with contextlib.suppress(TrackingError), tracking_errors(self._held.uri):
            run = self._held.sweep_run(self._experiment)
            if run is not None and self._tag not in self._others(run):
                client = open_client(self._held.uri)
                own = [self._tag, *([names.STANDING] if self._tag == names.HOLDER else [])]
                for tag in own:
                    if tag in run.data.tags:
                        client.delete_tag(run.info.run_id, tag)


def process_birth(pid: int) -> str | None:
    """When a process of this machine began, in ticks since the boot; None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state, *others = stat.rpartition(")")[2].split()
    return None if state == "Z" else others[18]
