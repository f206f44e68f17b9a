"""A run is meant by its id, its trial's id, or the beginning of one, where that is unique."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from switokd import names
from switokd.tracking.run_names import find_run
from switokd.tracking.store import TrackingStore
from switokd.validation import SpecError
from tests.compatibility.cases import STORE


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingStore:
    """The runs of ten trials and of their sweep."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(gzip.decompress(STORE.read_bytes()))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return TrackingStore(f"sqlite:///{path}")


def test_every_way_to_name_a_run(store: TrackingStore) -> None:
    runs = list(store.runs(list(store.experiments())))
    trials = {run.data.tags[names.TRIAL_ID]: run for run in runs if names.TRIAL_ID in run.data.tags}
    assert len(trials) == len(runs) - 1 > 5
    for trial_id, run in trials.items():
        for name in (trial_id, trial_id[:8], run.info.run_id, run.info.run_id[:14]):
            assert find_run(name).info.run_id == run.info.run_id, name


def test_a_beginning_of_several_is_answered_with_them(store: TrackingStore) -> None:
    runs = store.runs(list(store.experiments()))
    trials = [run.data.tags[names.TRIAL_ID] for run in runs if names.TRIAL_ID in run.data.tags]
    first, count = Counter(trial[0] for trial in trials).most_common(1)[0]
    assert count > 1
    with pytest.raises(SpecError, match=f"beginning of {count} runs") as error:
        find_run(first)
    for trial in trials:
        assert (trial in str(error.value)) == trial.startswith(first)


@pytest.mark.parametrize("name", ["0" * 12, "no such run", "%", "' or 1=1 --", ""])
def test_what_is_no_run(store: TrackingStore, name: str) -> None:
    with pytest.raises(SpecError, match=r"has no run|beginning of"):
        find_run(name)
