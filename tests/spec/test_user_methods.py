"""Methods of a user: their own settings, their code in the id, tried before anything trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from switokd.methods import build_method
from switokd.spec.experiment import load_experiment
from switokd.spec.tracked_params import all_but_length, fill_params, params_of
from switokd.spec.trial import TrialSpec
from switokd.training.tryout import try_method
from switokd.validation import SpecError
from tests.conftest import UserModule

EXAMPLE = Path(__file__).parents[2] / "experiments" / "own" / "own_methods.py"


def file(method: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "dataset": "digits",
        "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
        "methods": [method],
        "temperatures": [1, 2],
        "recipe": {"epochs": 1},
    }


def complaint(method: Any) -> str:
    with pytest.raises(SpecError) as raised:
        load_experiment(file(method))
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix("the experiment: ")


@pytest.fixture
def method(user_module: UserModule) -> str:
    return f"{user_module(EXAMPLE.read_text(encoding='utf-8'))}:LogitMatching"


def test_its_settings_are_swept_and_checked_like_ours(method: str) -> None:
    trials = load_experiment(file({method: {"weight": [0.5, 1]}})).trials
    # it says that it has no temperature
    assert [t.method.variant for t in trials] == [f"{method}(weight=0.5)", method]
    params = params_of(trials[0])
    assert params["method"] == method
    assert params["method.weight"] == "0.5"
    assert params["method.source"] == trials[0].method.source
    assert fill_params(params)["method.source"] == trials[0].method.source
    assert "must be at least 0 (found -1" in complaint({method: {"weight": -1.0}})
    assert "unknown key 'wieght'; did you mean 'weight'?" in complaint({method: {"wieght": 1.0}})


def test_another_line_of_code_is_another_trial(method: str, user_module: UserModule) -> None:
    (first,) = load_experiment(file(method)).trials
    assert TrialSpec.model_validate_json(first.model_dump_json()) == first
    user_module(EXAMPLE.read_text(encoding="utf-8") + "# changed\n")
    with pytest.raises(SpecError, match="has changed since this process imported it"):
        load_experiment(file(method))
    with pytest.raises(ValueError, match="has changed since the trial was made"):
        TrialSpec.model_validate_json(first.model_dump_json())
    user_module(EXAMPLE.read_text(encoding="utf-8"), "second")
    (second,) = load_experiment(file("second:LogitMatching")).trials
    assert second.trial_id != first.trial_id
    assert all_but_length(params_of(second)) != all_but_length(params_of(first))


def test_the_example_computes_what_it_says(method: str) -> None:
    torch.manual_seed(0)
    logits = {name: torch.randn(4, 6, dtype=torch.float64) for name in ("T1", "T2", "S1")}
    targets = torch.tensor([0, 1, 2, 5])
    step = build_method(method, teachers=2, weight=0.5)(logits, targets)
    target = (logits["T1"] + logits["T2"]) / 2
    own = F.cross_entropy(logits["S1"], targets)
    expected = own + 0.5 * ((logits["S1"] - target) ** 2).mean()
    torch.testing.assert_close(step.losses["S1"], expected)
    torch.testing.assert_close(step.losses["T2"], F.cross_entropy(logits["T2"], targets))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Own = 3", "brought:Own: must be a subclass of switokd.methods.base.Method"),
        ("1 / 0", "brought cannot be imported: ZeroDivisionError: division by zero (brought.py, "),
        ("def Other(): ...", "has no 'Own'"),
    ],
)
def test_what_is_no_method_is_told_in_one_line(
    user_module: UserModule, text: str, told: str
) -> None:
    user_module(text)
    assert told in complaint("brought:Own")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("predictions.nothing", "brought:Own fails: AttributeError: 'Predictions' object has no"),
        ("None", "brought:Own: step must give a CohortStep (found NoneType)"),
        ("self.unswitched(predictions, {})", "losses must be of ['S1', 'T1'] (found [])"),
        (
            "self.unswitched(predictions, {n: z for n, z in predictions.logits.items()})",
            "the loss of T1 must be one number with a gradient (found (2, 10))",
        ),
    ],
)
def test_what_would_fail_in_training_is_told_before(
    user_module: UserModule, answer: str, told: str
) -> None:
    user_module(
        "from switokd.methods.base import Method\n"
        "class Own(Method):\n"
        "    def step(self, predictions):\n"
        f"        return {answer}\n"
    )
    with pytest.raises(SpecError) as raised:
        try_method(build_method("brought:Own"), "brought:Own", 10)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_ours_pass_the_same_trial() -> None:
    for name in ("dml", "kdcl", "switokd"):
        try_method(build_method(name, teachers=2), name, 10)
