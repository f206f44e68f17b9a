"""Networks from outside in a file: what identifies them, and what is refused before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from switokd.spec.experiment import load_experiment
from switokd.spec.recipe import NetworkSpec
from switokd.spec.trial import TrialSpec
from switokd.validation import SpecError
from tests.conftest import UserModule


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.pt"
    path.write_bytes(b"weights")
    return path


def file(student: Any, teacher: Any = "wrn_16_1", method: str = "dml") -> dict[str, Any]:
    return {
        "name": "own",
        "dataset": "digits",
        "cohorts": [{"teachers": [teacher], "students": [student]}],
        "methods": [method],
        "recipe": {"epochs": 1},
    }


def trial(*arguments: Any, **options: Any) -> TrialSpec:
    return load_experiment(file(*arguments, **options)).trials[-1]


def complaint(*arguments: Any, **options: Any) -> str:
    with pytest.raises(SpecError) as raised:
        load_experiment(file(*arguments, **options))
    return str(raised.value).removeprefix("the experiment: ")


def test_what_is_from_outside_counts_by_its_content(
    user_module: UserModule, weights: Path, tmp_path: Path
) -> None:
    model = f"{user_module('a = 1')}:net"
    own = {"model": model, "weights": str(weights)}
    ids = [trial(model).trial_id, trial(own).trial_id]
    ids.append(trial({**own, "new_head": True}).trial_id)
    ids += [trial({**own, "arguments": {"width": width}}).trial_id for width in (8, 16)]
    weights.write_bytes(b"others")
    ids.append(trial(own).trial_id)
    user_module("a = 2")
    ids.append(trial(own).trial_id)
    assert len(set(ids)) == len(ids)
    copy = tmp_path / "copy.pt"
    copy.write_bytes(weights.read_bytes())
    elsewhere = {**own, "weights": str(copy), "name": "short", "target_layer": "features"}
    assert trial(elsewhere).trial_id == ids[-1], "neither a file's name nor ours counts"


def test_another_process_finds_the_same(
    user_module: UserModule, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = trial({"model": f"{user_module('a = 1')}:net", "name": "n", "weights": "w.pt"})
    network = own.networks["S1"]
    assert network.weights == str(weights)
    assert network.origin.module_folder == str(tmp_path / "modules")
    assert own.pair == "wrn_16_1>n"
    again = TrialSpec.model_validate_json(own.model_dump_json())
    assert again == own
    assert again.trial_id == own.trial_id


def test_a_module_lies_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_file.py").write_text("", encoding="utf-8")
    path = tmp_path / "own.yaml"
    path.write_text(str(file("beside_the_file:net")), encoding="utf-8")
    (own,) = load_experiment(path).trials
    assert own.networks["S1"].module_folder == str(tmp_path)


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ("nowhere:net", "model: no module 'nowhere': it must lie beside the experiment file"),
        ("json:loads", "model: json: must be a module with a file of its own (found a part of"),
        ("timn/resnet10t", "unknown library of networks 'timn'; did you mean 'timm'?"),
        ({"model": "a:b:c"}, "model: must be package.module:callable (found 'a:b:c')"),
        ({"model": "resnet20", "weights": "no.pt"}, "weights: no.pt: no such file (looked at /"),
        ({"model": "resnet20", "weights": "/"}, "weights: /: must be a file (found a folder)"),
        ({"model": "resnet20", "arguments": {"a": 1}}, "arguments: resnet20 is of the zoo and ta"),
        ({"model": "resnet20", "name": "a>b"}, "name: must be letters, digits, '.', '_' and '-'"),
        ({"model": "resnet20", "source": "0" * 16}, "unknown key 'source' (known: arguments, "),
        ({"model": "resnet20", "frozen": True}, "weights: is required for resnet20, which is fro"),
        ({"model": "resnet20", "new_head": True}, "new_head: needs weights, and resnet20 names no"),
        ({"model": "resnet20", "frozen": 1}, "frozen: must be true or false (found 1)"),
    ],
)
def test_a_mistake_is_told_at_its_key(student: Any, told: str) -> None:
    found = complaint(student)
    assert found.startswith("cohorts.0.students.0")
    assert told in found
    assert "\n" not in found


def test_methods_say_whether_a_network_may_only_teach(weights: Path) -> None:
    teacher = {"model": "wrn_16_1", "weights": str(weights), "frozen": True}
    for method in ("dml", "kdcl"):
        assert trial("resnet20", teacher, method=method).frozen == {"T1"}
    told = "networks.T1.frozen: must be false: switokd takes no network that only teaches"
    assert complaint("resnet20", teacher, method="switokd") == told
    headless = {**teacher, "new_head": True}
    assert "new_head: must be false: what is frozen" in complaint("resnet20", headless)
    told = "networks.S1.frozen: must be false: a student learns"
    assert complaint(teacher, "resnet20") == told
    alone = load_experiment(file("resnet20", teacher, method="vanilla")).trials
    assert [each.pair for each in alone] == ["resnet20"], "what only teaches is not trained alone"


def test_what_is_from_outside_is_identified_in_every_trial() -> None:
    with pytest.raises(ValueError, match="source: is required: load_experiment finds it"):
        NetworkSpec(model="torchvision/resnet18")
    with pytest.raises(ValueError, match="weights_digest: must be null"):
        NetworkSpec(model="resnet20", weights_digest="0" * 16)
