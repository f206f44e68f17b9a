"""Where a trial starts from: its own newest checkpoint, a shorter trial's last one, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from switokd.provenance import library_versions
from switokd.session.checkpoint import CheckpointFolder
from switokd.session.extension import changed_data, incompatibility
from switokd.session.folders import checkpoint_folder
from switokd.session.state import TrialState, latest_state
from switokd.session.teacher_weights import lacks_snapshots
from switokd.spec.trial import TrialSpec

log = logging.getLogger(__name__)


def resumable_state(trial: TrialSpec, checkpoints: CheckpointFolder) -> TrialState | None:
    """The newest state of the trial; None where there is none that it can go on from."""
    state = latest_state(checkpoints)
    lacking = None if state is None else lacks_snapshots(trial, state.trainer)
    if lacking is None:
        return state
    log.warning("trial %s begins anew: %s", trial.trial_id, lacking)
    # a later step of theirs would be taken for the newest
    checkpoints.delete()
    return None


def first_state(trial: TrialSpec, runs: Path, threads: int, continues: Sequence[str]) -> TrialState:
    """The state of a new trial: its own, or where the first fitting shorter trial ended."""
    new = TrialState(
        trainer={},
        # threads change the order of sums: what a trial began with it keeps
        threads=threads,
        in_force=trial.model_dump_json(),
        versions=library_versions(),
    )
    for trial_id in continues:
        shorter = latest_state(checkpoint_folder(trial, runs, trial_id))
        reason = (
            incompatibility(shorter, trial)
            or lacks_snapshots(trial, shorter.trainer if shorter else {})
            or changed_data(shorter, trial)
        )
        if shorter is None or reason is not None:
            log.warning("from the first step, and not from trial %s: %s", trial_id, reason)
            continue
        # its windows are of another length: they are made anew from the whole timeline
        return replace(
            new,
            trainer=shorter.trainer,
            threads=shorter.threads,
            last_top1=shorter.last_top1,
            history=shorter.history,
            outbox=shorter.history,
            continued_from=trial_id,
        )
    return new
