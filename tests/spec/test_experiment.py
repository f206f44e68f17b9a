"""Experiment files as users write them: what they expand to, and what they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from switokd.spec.experiment import load_experiment
from switokd.spec.trial import TrialSpec
from switokd.validation import SpecError

BASE: dict[str, Any] = {
    "name": "trial-run",
    "dataset": "digits",
    "cohorts": [{"teachers": ["wrn_16_2"], "students": ["wrn_16_1"]}],
    "methods": ["vanilla", "dml", "switokd"],
    "temperatures": [1, 2],
    "seeds": [0, 1],
    "recipe": {"epochs": 4, "milestones": [3]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.yaml"


def trials_of(file: Path, *overrides: str, **changes: Any) -> tuple[TrialSpec, ...]:
    file.write_text(yaml.safe_dump(BASE | changes, sort_keys=False), encoding="utf-8")
    return load_experiment(file, overrides).trials


def complaint(file: Path, *overrides: str, **changes: Any) -> str:
    """What the user is told, less the file's name, with which every line opens."""
    with pytest.raises(SpecError) as raised:
        trials_of(file, *overrides, **changes)
    lines = str(raised.value).splitlines()
    source = f"{file} with {' '.join(overrides)}" if overrides else str(file)
    assert all(line.startswith(f"{source}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{source}: ") for line in lines)


def test_axes_multiply_and_vanilla_is_shared(file: Path) -> None:
    cohorts = [
        {"teachers": ["wrn_16_2"], "students": ["wrn_16_1"]},
        {"teachers": ["wrn_16_2"], "students": ["resnet20", "wrn_16_1"]},
        {"teachers": ["wrn_16_2", "resnet20"], "students": ["wrn_16_1"]},
    ]
    trials = trials_of(file, cohorts=cohorts)
    vanilla = [trial for trial in trials if trial.method.name == "vanilla"]
    # three distinct networks x two seeds, whatever the cohorts and temperatures
    assert len(vanilla) == 3 * 2
    assert {trial.topology for trial in vanilla} == {"single"}
    assert all(list(trial.networks) == ["S1"] and trial.temperature == 1 for trial in vanilla)
    together = [trial for trial in trials if trial.method.name != "vanilla"]
    assert len(together) == 3 * 2 * 2 * 2
    assert {trial.topology for trial in together} == {"1T1S", "1T2S", "2T1S"}
    assert len({trial.trial_id for trial in trials}) == len(trials)


def test_one_network_with_two_recipes_is_two_networks(file: Path) -> None:
    cohorts = [
        {"teachers": ["wrn_16_2"], "students": [{"model": "wrn_16_1", "learning_rate": 0.01}]},
        {"teachers": ["wrn_16_2"], "students": ["wrn_16_1"]},
    ]
    trials = trials_of(file, cohorts=cohorts, methods=["vanilla"], seeds=[0])
    assert [(t.pair, t.networks["S1"].learning_rate) for t in trials] == [
        ("wrn_16_2", 0.1),
        ("wrn_16_1", 0.01),
        ("wrn_16_1", 0.1),
    ]


def test_a_list_in_the_recipe_or_a_method_is_an_axis(file: Path) -> None:
    trials = trials_of(
        file,
        methods=[{"switokd": {"threshold": ["adaptive", 0.2, 0.6]}}],
        recipe={"epochs": [2, 4], "milestones": [[], [1], [1, 2]], "learning_rate": [0.1, 0.2]},
        temperatures=[1],
        seeds=[0],
    )
    assert len(trials) == 3 * 2 * 3 * 2
    assert {t.recipe.milestones for t in trials} == {(), (1,), (1, 2)}
    assert {t.method.variant for t in trials} == {
        *("switokd", "switokd(threshold=0.2)", "switokd(threshold=0.6)")
    }
    assert {t.networks["T1"].learning_rate for t in trials} == {0.1, 0.2}


def test_a_network_has_its_own_settings_or_the_recipe_s(file: Path) -> None:
    student = {"model": "wrn_16_1", "optimizer": "adam", "learning_rate": 0.001}
    (trial,) = trials_of(
        file,
        cohorts=[{"teachers": ["wrn_16_2"], "students": [student]}],
        methods=["dml"],
        temperatures=[3],
        seeds=[7],
        recipe={"epochs": 1, "weight_decay": 0.01, "momentum": 0.8},
    )
    teacher, own = trial.networks["T1"], trial.networks["S1"]
    assert (teacher.optimizer, teacher.learning_rate, teacher.momentum) == ("sgd", 0.1, 0.8)
    assert (own.optimizer, own.learning_rate, own.momentum) == ("adam", 0.001, 0)
    assert (teacher.weight_decay, own.weight_decay) == (0.01, 0.01)


KNOWN_DATASETS = (
    "(known: cifar10, cifar100, digits, fashion_mnist, image_folder, imagenet, mnist, "
    "tiny_imagenet)"
)


def cohort(teachers: list[Any], students: list[Any]) -> dict[str, Any]:
    return {"cohorts": [{"teachers": teachers, "students": students}]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methdos": []}, "unknown key 'methdos'; did you mean 'methods'? (known: "),
        (
            {"dataset": "cifar"},
            f"unknown dataset 'cifar'; did you mean 'cifar10'? {KNOWN_DATASETS}",
        ),
        ({"dataset": 3}, "dataset: must be the name of a dataset, or a mapping with 'name' (found"),
        ({"dataset": {"name": "digits", "path": "x"}}, "dataset.path: digits has none"),
        ({"dataset": {"name": "image_folder"}}, "dataset.path: is required for image_folder"),
        ({"methods": ["switok"]}, "methods.0: unknown method 'switok'; did you mean 'switokd'?"),
        ({"methods": []}, "methods: must be a list with at least one method (found [])"),
        ({"methods": ["dml", "dml"]}, "methods: dml is there twice"),
        ({"methods": [{"dml": {}, "kdcl": {}}]}, "methods.0: must be the name of a method, or one"),
        (
            {"methods": [{"dml": {"weight": 1}}]},
            "methods.0.dml: unknown key 'weight' (known: none)",
        ),
        (
            {"methods": ["dml", {"switokd": {"threshold": 3}}]},
            "methods.1.switokd.threshold: must be 'adaptive' or a number from 0 to 2 (the gap's "
            "range) (found 3)",
        ),
        (
            {"methods": [{"switokd": {"threshold": []}}]},
            "methods.0.switokd.threshold: must have at least one element (found [])",
        ),
        (
            {"methods": [{"kdcl": {"variant": "general"}}]},
            "recipe.holdout: must be above 0 for kdcl(variant=general), which learns",
        ),
        ({"cohorts": []}, "cohorts: must have at least one element (found [])"),
        ({"cohorts": [{"teachers": ["wrn_16_2"]}]}, "cohorts.0.students: is required"),
        (cohort(["wrn_16_2"], []), "cohorts.0.students: must have at least one element (found [])"),
        (cohort([], ["wrn_16_1"]), "cohorts.0.teachers: must have at least one element (found [])"),
        (
            {"cohorts": [{"teachers": ["wrn_16_2"], "students": ["resnet2"]}]},
            "cohorts.0.students.0: unknown network 'resnet2'; did you mean 'resnet20'? (known: ",
        ),
        (
            {"cohorts": [{"teachers": [{"model": "wrn_16_2", "lr": 1}], "students": ["resnet20"]}]},
            "cohorts.0.teachers.0: unknown key 'lr' (known: arguments, frozen, init, ",
        ),
        (
            cohort([{"model": "wrn_16_2", "optimizer": "adam", "momentum": 0.5}], ["resnet20"]),
            "cohorts.0.teachers.0.momentum: adam has no such setting (found 0.5)",
        ),
        (
            {"recipe": {"epochs": 4, "optimizer": "adam", "momentum": 0.5}},
            "recipe.momentum: adam has no such setting (found 0.5)",
        ),
        ({"cohorts": BASE["cohorts"] * 2}, "cohorts: wrn_16_2>wrn_16_1 is there twice"),
        ({"recipe": {}}, "recipe.epochs: is required"),
        ({"recipe": 3}, "recipe: must be a mapping with at least 'epochs' (found 3)"),
        ({"recipe": {"epochs": 10.0}}, "recipe.epochs: must be a whole number (found 10.0)"),
        ({"recipe": {"epochs": "10"}}, "recipe.epochs: must be a whole number (found '10')"),
        ({"recipe": {"epochs": True}}, "recipe.epochs: must be a whole number (found true)"),
        ({"recipe": {"epochs": 10**20}}, "recipe.epochs: must be at most 1000000 (found 1000000"),
        ({"recipe": {"epochs": [4, 4]}}, "recipe.epochs: 4 is there twice"),
        (
            {"recipe": {"epochs": 4, "milestones": [5]}},
            "recipe.milestones: must be from 1 to epochs = 4 (found 5)",
        ),
        (
            {"recipe": {"epochs": 4, "milestones": [3, 2]}},
            "recipe.milestones: must increase (found [3, 2])",
        ),
        (
            {"recipe": {"epochs": 4, "milestones": [[1], [9]]}},
            "recipe.milestones: must be from 1 to epochs = 4 (found 9)",
        ),
        (
            {"recipe": {"epochs": 4, "milestones": [2], "schedule": "cosine"}},
            "recipe.milestones: belong to schedule 'step' (found schedule 'cosine')",
        ),
        (
            {"recipe": {"epochs": 4, "warmup_epochs": 4}},
            "recipe.warmup_epochs: must be below epochs = 4 (found 4)",
        ),
        ({"temperatures": []}, "temperatures: must have at least one element (found [])"),
        ({"temperatures": [1, 0]}, "temperatures.1: must be above 0 (found 0)"),
        ({"temperatures": ["2"]}, "temperatures.0: must be a number (found '2')"),
        ({"temperatures": [float("nan")]}, "temperatures.0: must be a finite number (found nan)"),
        ({"temperatures": [float("inf")]}, "temperatures.0: must be a finite number (found inf)"),
        ({"temperatures": [1, 1.0]}, "temperatures: 1 is there twice"),
        ({"seeds": []}, "seeds: must have at least one element (found [])"),
        ({"seeds": [0, 0]}, "seeds: 0 is there twice"),
        ({"seeds": [-1]}, "seeds.0: must be at least 0 (found -1)"),
        ({"seeds": [True]}, "seeds.0: must be a whole number (found true)"),
        ({"seeds": [1.5]}, "seeds.0: must be a whole number (found 1.5)"),
        ({"seeds": [2**32]}, "seeds.0: must be below 4294967296 (found 4294967296)"),
        ({"seeds": 5}, "seeds: must be a list (found 5)"),
        ({"name": "a b"}, "name: must be letters, digits, '.', '_' and '-', the first a letter or"),
        ({"name": "a/b"}, "name: must be letters, digits, '.', '_' and '-', the first a letter or"),
        ({"name": ".x"}, "name: must be letters, digits, '.', '_' and '-', the first a letter or"),
        ({"name": "x" * 101}, "name: must have at most 100 characters (found 'xxx"),
        ({"name": 3}, "name: must be a text (in quotes where it reads as a number, date, true"),
        ({"resources": {"cpus": "all"}}, "resources.cpus: must be 'auto' or a whole number from 1"),
    ],
)
def test_a_mistake_is_one_line_that_names_key_value_and_choice(
    file: Path, changes: dict[str, Any], told: str
) -> None:
    found = complaint(file, **changes)
    assert told in found
    assert "\n" not in found
    if not told.startswith("unknown"):
        assert found.startswith(told)


@pytest.mark.parametrize("key", list(BASE))
def test_null_is_no_value(file: Path, key: str) -> None:
    assert complaint(file, **{key: None}).startswith(f"{key}: must be ")


@pytest.mark.parametrize(
    "key", ["epochs", "learning_rate", "optimizer", "holdout", "deterministic"]
)
def test_null_is_no_value_in_the_recipe(file: Path, key: str) -> None:
    found = complaint(file, recipe={"epochs": 4, key: None})
    assert found.startswith(f"recipe.{key}: must be ")
    assert found.endswith("(found null)")


def test_every_mistake_is_told_at_once(file: Path) -> None:
    found = complaint(file, seeds=[], temperatures=["a", 0], recipe={"lr": 1, "epoch": 3})
    assert [line.partition(" ")[0] for line in found.splitlines()] == [
        *("temperatures.0:", "temperatures.1:", "seeds:", "recipe:", "recipe:")
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must be a YAML mapping with 'name', 'dataset', ...; found nothing"),
        (b"# only this\n", "must be a YAML mapping with 'name', 'dataset', ...; found nothing"),
        (b"- a\n- b\n", "must be a YAML mapping with 'name', 'dataset', ...; found a list"),
        (b"hello", "must be a YAML mapping with 'name', 'dataset', ...; found a text"),
        (b"3", "must be a YAML mapping with 'name', 'dataset', ...; found a number"),
        (b"\x89PNG\r\n\x1a\n\x00", "is no text in UTF-8 (byte 0 is not)"),
        (b"name: \x00", "not plain YAML: character 6 is 0"),
        (b"a: [1, 2\nb: }", "line 2, column 2: not plain YAML: while parsing a flow sequence"),
        (b"name: a\nseeds: [1]\nname: b\n", "line 3, column 1: not plain YAML: key 'name' is "),
        (b"recipe: {epochs: 1, epochs: 2}", "line 1, column 21: not plain YAML: key 'epochs'"),
        (b"a: !!python/object/apply:os.getcwd []", "line 1, column 4: not plain YAML: could not"),
        (b"a: 1\n---\nb: 2\n", "line 2, column 1: not plain YAML: expected a single document"),
        (b"a: *b", "line 1, column 4: not plain YAML: found undefined alias 'b'"),
        (b"? [a]\n: 1", "line 1, column 3: not plain YAML: while constructing a mapping"),
        (b"a: !!int x", "not plain YAML: a value does not fit"),
        (b"a: !!timestamp x", "not plain YAML: a value does not fit"),
        (b"a: " + b"9" * 5000, "not plain YAML: a value does not fit"),
        (b"a: " + b"[" * 2000 + b"]" * 2000, "not plain YAML: nested too deeply"),
    ],
)
def test_a_file_that_is_no_experiment(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SpecError) as raised:
        load_experiment(file)
    assert str(raised.value).startswith(f"{file}: {told}")
    assert "\n" not in str(raised.value)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "none.yaml", f"no such file (looked at {tmp_path / 'none.yaml'})"),
        (Path("a" * 5000), "cannot be read: File name too long"),
    ):
        with pytest.raises(SpecError) as raised:
            load_experiment(path)
        assert str(raised.value) == f"{path}: {told}"


def test_exponents_anchors_and_merges_read_as_people_mean_them(file: Path) -> None:
    file.write_text(
        """
name: x
dataset: digits
cohorts:
  - {teachers: &big [wrn_16_2], students: [wrn_16_1]}
  - {teachers: *big, students: [resnet20]}
methods: [dml]
recipe:
  <<: {epochs: 3, batch_size: 64}
  epochs: 4
  weight_decay: 5e-4
  learning_rate: 1E-2
""",
        encoding="utf-8",
    )
    trials = load_experiment(file).trials
    assert [trial.pair for trial in trials] == ["wrn_16_2>wrn_16_1", "wrn_16_2>resnet20"]
    assert (trials[0].recipe.epochs, trials[0].recipe.batch_size) == (4, 64)
    assert trials[0].networks["S1"].weight_decay == 0.0005
    assert trials[0].networks["S1"].learning_rate == 0.01
    # an override of one place leaves the other that shares its anchor alone
    changed = load_experiment(file, ["cohorts.0.teachers.0=wrn_16_8"]).trials
    assert [trial.pair for trial in changed] == ["wrn_16_8>wrn_16_1", "wrn_16_2>resnet20"]


def test_overrides_reach_every_place(file: Path) -> None:
    trials = trials_of(
        file,
        "seeds=[5]",
        "temperatures.1=4",
        "recipe.epochs=9",
        "recipe.learning_rate=5e-4",
        "resources.cpus=2",
        "cohorts.0.students.0=resnet20",
        "methods=[{switokd: {threshold: 0.3}}]",
        "recipe.epochs=8",
    )
    assert [(t.seed, t.temperature, t.recipe.epochs) for t in trials] == [(5, 1, 8), (5, 4, 8)]
    assert trials[0].networks["S1"].learning_rate == 0.0005
    assert trials[0].resources.cpus == 2
    assert trials[0].pair == "wrn_16_2>resnet20"
    assert trials[0].method.variant == "switokd(threshold=0.3)"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("recipe.epochs", "must be key=value, such as recipe.epochs=2"),
        ("=3", "must be key=value, such as recipe.epochs=2"),
        ("recipe..epochs=2", "must be key=value, such as recipe.epochs=2"),
        ("seeds.5=1", "seeds has no element '5' (it has 2, counted from 0)"),
        ("seeds.-1=1", "seeds has no element '-1' (it has 2, counted from 0)"),
        ("seeds.²=1", "seeds has no element '²' (it has 2, counted from 0)"),
        ("name.x=3", "name is 'trial-run', which has no keys"),
        ("seeds.0.a=3", "seeds.0 is 0, which has no keys"),
        ("recipe.epochs=[1", "line 1, column 3: not plain YAML: while parsing a flow sequence"),
        ("recipe={epochs: 1, epochs: 2}", "line 1, column 13: not plain YAML: key 'epochs' is"),
    ],
)
def test_an_override_that_is_none(file: Path, override: str, told: str) -> None:
    with pytest.raises(SpecError) as raised:
        trials_of(file, override)
    assert str(raised.value).startswith(f"override {override!r}: {told}")


def test_a_wrong_override_is_told_like_a_wrong_file(file: Path) -> None:
    assert complaint(file, "recipe.epochs=0") == "recipe.epochs: must be at least 1 (found 0)"
    assert complaint(file, "recipe.a.b=0").startswith("recipe: unknown key 'a'")
