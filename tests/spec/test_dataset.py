"""Data from outside in a trial's id: by content, with the ids of earlier trials as they were."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dashboards.analysis.grouping import grouped
from switokd.data.batches.shared_cache import open_copy
from switokd.spec.experiment import load_experiment
from switokd.spec.tracked_params import all_but_length, fill_params, params_of
from switokd.spec.trial import TrialSpec
from switokd.validation import SpecError
from tests.conftest import UserModule
from tests.dashboards.test_older_runs import frame_of
from tuning.plan import as_begun

SETS = """
    import numpy as np

    def make(shade=0):
        data = [(np.full((8, 8), shade + 10 * k, np.uint8), k % 2) for k in range(8)]
        return data, data
"""


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITOKD_DATA", str(tmp_path / "data"))


def file(dataset: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "dataset": dataset,
        "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
        "methods": ["dml"],
        "recipe": {"epochs": 1},
    } | changes


def trial_of(dataset: Any, **changes: Any) -> TrialSpec:
    (trial,) = load_experiment(file(dataset, **changes)).trials
    return trial


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((8, 8, 3), 40 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


def at(path: Path | str) -> dict[str, str]:
    return {"name": "image_folder", "path": str(path)}


def test_images_are_known_wherever_they_lie(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trial_of(at(images))
    monkeypatch.chdir(tmp_path)
    assert trial_of(at("images")).trial_id == first.trial_id
    moved = shutil.move(images, tmp_path / "moved")
    there = trial_of(at(moved))
    assert there.trial_id == first.trial_id
    assert all_but_length(params_of(there)) == all_but_length(params_of(first))
    # people still read where they lay
    assert params_of(there)["dataset_path"] == str(moved)
    Image.new("RGB", (8, 8)).save(Path(moved) / "cat" / "5.png")
    assert trial_of(at(moved)).trial_id != first.trial_id


def test_without_the_images_the_path_counts(tmp_path: Path, images: Path) -> None:
    missing = trial_of(at(tmp_path / "none"))
    assert missing.dataset_digest is None
    assert missing.trial_id != trial_of(at(tmp_path / "nowhere")).trial_id
    # a smoke form looks at no image
    smoke = {"smoke": True, "recipe": {"epochs": 1, "image_size": 8}}
    there = trial_of(at(images), **smoke)
    shutil.rmtree(images)
    assert trial_of(at(images), **smoke) == there


def former(trial: TrialSpec) -> TrialSpec:
    """The trial as a file gave it before images were identified by their content."""
    return TrialSpec.model_validate(trial.model_dump() | {"dataset_digest": None})


def test_a_trial_begun_before_keeps_its_id(images: Path) -> None:
    first, second = load_experiment(file(at(images), seeds=[0, 1])).trials
    old = former(first)
    assert old.trial_id != first.trial_id
    assert list(as_begun([first, second], {old.trial_id: None})) == [old, second]
    assert list(as_begun([first], {old.trial_id: None, first.trial_id: None})) == [first]


def test_such_a_trial_is_compared_with_later_ones(images: Path, tmp_path: Path) -> None:
    first, second = load_experiment(file(at(images), seeds=[0, 1])).trials
    trials = [former(first), second]
    frame = grouped(frame_of(*trials))
    assert set(frame["dataset"]) == {"images"}
    assert frame["group"].nunique() == 1
    assert set(frame["axes"]) == {""}
    # where the images have changed since, nobody knows which the older one saw
    Image.new("RGB", (8, 8)).save(images / "cat" / "5.png")
    trials.append(trial_of(at(images)))
    assert grouped(frame_of(*trials))["group"].nunique() == 3


def test_a_callables_set_is_known_by_code_arguments_and_images(user_module: UserModule) -> None:
    name = f"{user_module(SETS)}:make"
    trial = trial_of(name)
    assert trial.dataset_name == name
    assert trial.recipe.image_size == 8
    assert trial.recipe.augmentation == "none"
    assert trial.dataset_digest is not None
    dark = trial_of({"name": name, "arguments": {"shade": 9}})
    assert len({trial.trial_id, dark.trial_id}) == 2
    params = params_of(dark)
    assert params["dataset"] == name
    assert params["dataset_arguments"] == '{"shade": 9}'
    assert fill_params(params)["dataset_source"] == trial.dataset_source
    assert TrialSpec.model_validate(dark.model_dump()) == dark
    with pytest.raises(ValueError, match="dataset_source: is required"):
        TrialSpec.model_validate(dark.model_dump() | {"dataset_source": None})


def test_it_is_looked_at_as_often_for_many_trials_as_for_one(
    user_module: UserModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{user_module(SETS)}:make"
    looked: list[Path] = []

    def opened(copy: Path) -> Any:
        looked.append(copy)
        return open_copy(copy)

    monkeypatch.setattr("switokd.data.sets.own.open_copy", opened)
    trial_of(name)
    looked.clear()
    trial_of(name)
    of_one, _ = len(looked), looked.clear()
    assert len(load_experiment(file(name, seeds=list(range(20)))).trials) == 20
    assert len(looked) == of_one


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"name": "digits", "arguments": {"a": 1}}, "dataset.arguments: digits takes none"),
        (
            {"name": "brought:make", "path": "x"},
            "dataset.path: brought:make has none: the callable",
        ),
        ({"name": "brought:make", "arguments": {"b": 1}}, "got an unexpected keyword argument 'b'"),
        ("nowhere:make", "dataset.name: no module 'nowhere'"),
        ("brought:mak", "dataset.name: brought in"),
        ("brought:", "must be package.module:callable (found 'brought:')"),
    ],
)
def test_a_mistake_is_one_line(dataset: Any, told: str, user_module: UserModule) -> None:
    user_module(SETS)
    with pytest.raises(SpecError) as raised:
        load_experiment(file(dataset))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
