"""More epochs in the file: only the new ones are trained, from checkpoints that lie elsewhere."""

from __future__ import annotations

import shutil

import pytest

from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow


def test_more_epochs_go_on_from_the_storage_of_a_machine_that_is_gone(
    workplace: Workplace,
) -> None:
    storage = workplace.folder / "elsewhere"
    content = small_experiment(
        name="longer", methods=["switokd"], resources={"storage": storage.as_uri()}
    )
    (short,) = workplace.write(content).trials
    workplace.sweep()
    assert not workplace.checkpoints(short)
    # what is left of the first machine: the tracking store and the storage
    shutil.rmtree(workplace.folder / "runs" / "longer")

    content["recipe"]["epochs"] = 2
    (long,) = workplace.write(content).trials
    output = workplace.sweep()
    assert "1 trial, 0 finished before, 1 to train" in output
    runs = workplace.trial_runs("longer")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert "switokd.continued_from" not in runs[short.trial_id].data.tags
    assert runs[long.trial_id].data.tags["switokd.continued_from"] == short.trial_id
    one, two = (workplace.series(runs[trial.trial_id]) for trial in (short, long))
    assert list(two["val_top1/S1"]) == [1, 2]
    assert two["val_top1/S1"][1] == one["val_top1/S1"][1]
    assert list(two["gap/T1-S1"]) == list(range(1, 2 * len(one["gap/T1-S1"]) + 1))
