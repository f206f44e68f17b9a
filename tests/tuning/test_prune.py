"""What may be deleted, and that comparison and continuation need none of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.store.runs import RunFrames
from switokd import names
from switokd.files.lock import FileLock
from switokd.session.extension import shorter_trials
from switokd.session.folders import trial_folder
from switokd.session.trial_session import open_session
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.tracker import TrialTracker
from tests.compatibility import cases
from tests.session.killed_trials import train
from tuning.prune import find_dispensable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_models")]


def trial(epochs: int) -> TrialSpec:
    recipe = cases.RECIPE | {"milestones": [], "epochs": epochs}
    return cases.experiment("pruned", recipe=recipe).trials[0]


def test_what_goes_is_needed_by_nobody(tmp_path: Path) -> None:
    store = tracking.open_experiment("pruned", f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    short, long = trial(1), trial(2)
    train(short, tmp_path, tracker=TrialTracker(store, short))
    train(long, tmp_path, tracker=TrialTracker(store, long), continues=[short.trial_id])
    with open_session(trial(7), runs=tmp_path, threads=1, tracker=TrialTracker(store, trial(7))):
        pass
    folders = {
        name: trial_folder(tmp_path, "pruned", spec.trial_id)
        for name, spec in (("short", short), ("long", long), ("unfinished", trial(7)))
    }
    orphan = trial_folder(tmp_path, "pruned", "0123456789ab")
    shutil.copytree(folders["unfinished"], orphan)
    exported = tmp_path / "export" / store.trial_runs()[long.trial_id].info.run_id
    exported.mkdir(parents=True)
    before = comparison_frame(RunFrames(store.uri).trials("pruned"))

    with FileLock(folders["long"] / "lock", "a trial"):
        held = find_dispensable("pruned", store, tmp_path)
    assert not [each for each in held if folders["long"] in each.path.parents]
    found = {each.path: each for each in find_dispensable("pruned", store, tmp_path)}
    copies = ("weights", names.TIMELINE_FILE, names.SPEC_FILE)
    assert found.keys() == {
        *(folders[name] / copy for name in ("short", "long") for copy in copies),
        folders["short"] / "checkpoints",
        orphan,
        exported,
    }
    checkpoint = next((folders["short"] / "checkpoints").iterdir())
    assert found[folders["short"] / "checkpoints"].size == checkpoint.stat().st_size
    for each in found.values():
        each.delete()
    assert find_dispensable("pruned", store, tmp_path) == []

    after = comparison_frame(RunFrames(store.uri).trials("pruned"))
    assert before.equals(after)
    finished = {key: run.data.params for key, run in store.trial_runs().items()}
    longest = trial(4)
    continues = shorter_trials([longest], finished)[longest.trial_id]
    with open_session(longest, runs=tmp_path, threads=1, continues=continues) as session:
        assert session.state.continued_from == long.trial_id
    with open_session(trial(7), runs=tmp_path, threads=1) as session:
        assert session.checkpoints.names(), "an unfinished trial keeps its checkpoint"
