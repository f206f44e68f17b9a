"""Tune's side of a trial's run: where Tune decides when and where, the run knows what.

A trial trains in its worker's own process, or, where several share a GPU, beside the others in one
process for that GPU (`tuning.workers.shared_process`). A trial's identity, checkpoints and points
are the session's.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Protocol

from ray import tune

from switokd.spec.trial import TrialSpec
from switokd.training.exclusive import trains_beside_others
from tuning.workers.rank_actors import RankActors
from tuning.workers.shared_process import PlaceInSharedProcess
from tuning.workers.trial_run import TrialRun


class Run(Protocol):
    """A `TrialRun`, or one in another process."""

    def assign(self, config: dict[str, Any]) -> None: ...
    def step(self) -> dict[str, Any]: ...
    def stop_early(self, reason: str) -> None: ...
    def take_over(self, donor: str, changed: str, values: dict[str, float]) -> None: ...
    def pause(self) -> None: ...
    def save(self) -> None: ...
    def close(self) -> None: ...


class TrialWorker(tune.Trainable):
    """Trains the trial of its config (see `TrialRun`); reused for the next one.

    config["common"]["shared"]: the name of the actor that keeps the processes of shared GPUs, or
    None where each trial has a process of its own.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._run: Run = self._place(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        here = isinstance(self._run, TrialRun)
        if here != _belongs_here(new_config):
            self._run.close()
            self._run = self._place(new_config)
        else:
            self._run.assign(new_config)
        return True

    def _place(self, config: dict[str, Any]) -> Run:
        if _belongs_here(config):
            return TrialRun(config, launcher=RankActors())
        return PlaceInSharedProcess(config)

    def step(self) -> dict[str, Any]:
        if isinstance(self._run, TrialRun) and self._run.broken:
            # by the trial before. Tune has this one go on in another worker; it would not where the
            # process ended while it is given the trial
            os.kill(os.getpid(), signal.SIGKILL)
        return self._run.step()

    def stop_early(self, reason: str) -> None:
        """Let the trial end as a finished one after the epoch that it is in."""
        self._run.stop_early(reason)

    def take_over(self, donor: str, changed: str, values: dict[str, float]) -> None:
        """Go on from another member's networks under changed settings (a TrialSpec in JSON)."""
        self._run.take_over(donor, changed, values)

    def pause(self) -> None:
        """Leave the trial for a while to whichever worker takes it up next."""
        self._run.pause()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing for Tune to keep: the trial's own checkpoint is found by its id."""
        self._run.save()
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Resuming happens as the run begins, from the trial's own checkpoint."""

    def cleanup(self) -> None:
        """Tune stops the trial: leave a checkpoint and a run marked KILLED."""
        self._run.close()


def _belongs_here(config: dict[str, Any]) -> bool:
    """Whether the trial of a configuration trains in the worker's own process."""
    if config["common"]["shared"] is None:
        return True
    trial = TrialSpec.model_validate_json(config["choice"]["trial"])
    return not trains_beside_others(trial)
