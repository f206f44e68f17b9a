from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from dashboards.analysis.comparison import COLUMNS, comparison_frame, comparison_notes
from dashboards.analysis.labels import datasets_of, trial_name
from dashboards.analysis.significance import holm
from tests.dashboards.conftest import Record, frame_of, record


def cell(frame: pd.DataFrame, column: str, **where: object) -> Any:
    for key, value in where.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1, f"{len(frame)} rows for {where}"
    return frame[column].iloc[0]


def test_one_row_per_network_of_a_trial_less_its_seed(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart))
    # 3 networks alone; 2 methods x 2 temperatures of a pair (2 networks) and a 2T1S cohort (3)
    assert len(frame) == 3 + 4 * 2 + 4 * 3
    assert frame["group"].nunique() == 3 + 4 + 4
    assert set(frame["seeds"]) == {3}
    assert list(frame) == COLUMNS


def test_mean_deviation_and_interval_over_the_seeds(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart))
    where = {"pair": "wrn_16_2>resnet20", "variant": "switokd", "temperature": 1, "network": "S1"}
    # 95.0 + 1.2 + (0, 0.3, 0.6) + (0.1, 0.2, 0.0)
    values = [96.3, 96.7, 96.8]
    mean, error = sum(values) / 3, stats.sem(values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=error)
    assert cell(frame, "last_mean", **where) == pytest.approx(mean)
    assert cell(frame, "last_std", **where) == pytest.approx(error * math.sqrt(3))
    assert cell(frame, "last_low", **where) == pytest.approx(low)
    assert cell(frame, "last_high", **where) == pytest.approx(high)
    assert cell(frame, "best_mean", **where) == pytest.approx(mean + 0.2)
    assert cell(frame, "seed_list", **where) == (0, 1, 2)


def test_vanilla_is_joined_by_network_and_paired_over_seeds(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart))
    where = {"pair": "wrn_16_2+wrn_16_1>resnet20", "variant": "switokd", "temperature": 1}
    reference = stats.ttest_rel([96.3, 96.7, 96.8], [95.0, 95.3, 95.6])
    assert cell(frame, "last_difference", network="S1", **where) == pytest.approx(1.3)
    assert cell(frame, "last_p_value", network="S1", **where) == pytest.approx(reference.pvalue)
    # the second teacher is a wrn_16_1: against that network's own vanilla
    vanilla = cell(frame, "last_mean", pair="wrn_16_1")
    second = cell(frame, "last_mean", network="T2", **where)
    assert cell(frame, "last_difference", network="T2", **where) == pytest.approx(second - vanilla)


def test_holm_corrects_over_the_table(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart))
    tested = frame.dropna(subset="last_p_value")
    assert len(tested) == 20
    smallest = tested["last_p_value"].min()
    assert tested["last_p_holm"].min() == pytest.approx(20 * smallest)


def test_vanilla_with_another_learning_rate_is_no_baseline() -> None:
    alone = record((), ("resnet20",), "vanilla", scores={"S1": (94.0, 94.0)})
    alone["params.S1.learning_rate"] = "0.01"
    frame = comparison_frame(frame_of([record(), alone]))
    assert frame["last_difference"].isna().all()
    assert set(frame["baseline"]) == {""}


def test_another_baseline_comes_from_the_same_cohort_and_temperature() -> None:
    rows = [
        record(method=method, temperature=temperature, seed=seed, scores={"T1": t, "S1": s})
        for method, temperature, seed, t, s in [
            ("dml", 1.0, 0, (90, 80), (70, 60)),
            ("dml", 1.0, 1, (91, 82), (71, 63)),
            ("dml", 2.0, 0, (50, 50), (50, 50)),
            ("switokd", 1.0, 0, (95, 90), (75, 68)),
            ("switokd", 1.0, 1, (95, 91), (75, 69)),
            ("switokd", 5.0, 0, (95, 90), (75, 68)),
        ]
    ]
    frame = comparison_frame(frame_of(rows), baseline="dml")
    ours = frame[(frame["method"] == "switokd") & (frame["temperature"] == 1)]
    assert cell(ours, "last_difference", network="S1") == pytest.approx((8 + 6) / 2)
    assert cell(ours, "last_difference", network="T1") == pytest.approx((10 + 9) / 2)
    assert frame[frame["temperature"] == 5]["last_difference"].isna().all()
    assert frame[frame["method"] == "dml"]["last_difference"].isna().all()


def test_a_method_with_several_variants_is_no_baseline_but_a_variant_is() -> None:
    rows = [
        record(method="kdcl", settings="variant=naive"),
        record(method="kdcl", settings="variant=linear"),
        record(scores={"T1": (97.0, 97.0), "S1": (96.0, 96.0)}),
    ]
    assert comparison_frame(frame_of(rows), "kdcl")["last_difference"].isna().all()
    frame = comparison_frame(frame_of(rows), "kdcl(variant=naive)")
    assert cell(frame, "last_difference", method="switokd", network="S1") == pytest.approx(1.0)


def test_a_swept_recipe_key_is_an_axis_and_splits_the_groups() -> None:
    rows = [
        record(scores={"T1": (1, 1), "S1": (score, score)}, epochs=epochs, seed=seed)
        for epochs, seed, score in [(4, 0, 50), (4, 1, 52), (8, 0, 60), (8, 1, 64)]
    ]
    students = comparison_frame(frame_of(rows)).query("network == 'S1'")
    assert cell(students, "last_mean", axes="recipe.epochs=4") == 51
    assert cell(students, "last_mean", axes="recipe.epochs=8") == 62


def test_failed_and_running_trials_do_not_count() -> None:
    wrong = {"T1": (0.0, 0.0), "S1": (0.0, 0.0)}
    rows = [record()] + [
        record(scores=wrong, seed=seed, status=status)
        for seed, status in enumerate(["FAILED", "FAILED", "RUNNING"], 1)
    ]
    trials = frame_of(rows)
    frame = comparison_frame(trials)
    assert cell(frame, "last_mean", network="S1") == 95.0
    assert cell(frame, "seeds", network="S1") == 1
    assert comparison_notes(trials) == [
        "1 trial still running: left out",
        "2 trials failed: left out",
    ]


def test_what_a_scheduler_did_to_trials_is_said() -> None:
    scores = {"T1": (1.0, 1.0), "S1": (1.0, 1.0)}
    tags: list[dict[str, str]] = [
        {"tags.switokd.stopped": "epoch 1: stopped by asha"},
        {"tags.switokd.pbt": "[]"},
        {"tags.switokd.pbt": "[]"},
        {},
    ]
    rows = [record(scores=scores, seed=seed, **own) for seed, own in enumerate(tags)]
    assert comparison_notes(frame_of(rows)) == [
        "1 trial ended early by a scheduler, and compared by its last epoch",
        "2 trials with settings that changed on the way (population-based training), called by "
        "the first ones",
    ]


def test_a_users_method_is_called_by_a_temperature_that_it_may_have() -> None:
    row = {"variant": "mine:Own", "method": "mine:Own", "topology": "1T1S", "temperature": 1.0}
    assert trial_name(row) == "mine:Own"
    assert trial_name(row | {"temperature": 4.0}) == "mine:Own τ=4"
    ours = {"variant": "dml", "method": "dml"}
    assert trial_name(row | ours) == "dml τ=1"


def test_the_most_used_data_set_comes_first_and_a_smoke_run_last() -> None:
    names = ["cifar100 (stand-in)"] * 5 + ["cifar10"] + ["digits"] * 3
    rows = pd.DataFrame({"dataset": names})
    assert datasets_of(rows) == ["digits", "cifar10", "cifar100 (stand-in)"]


def test_a_trial_tracked_in_two_experiments_counts_once() -> None:
    old = record(scores={"T1": (1, 1), "S1": (1, 1)})
    new = record(scores={"T1": (2, 2), "S1": (2, 2)}, experiment="other")
    assert old["trial_id"] == new["trial_id"]
    frame = comparison_frame(frame_of([old, new]))
    assert cell(frame, "seeds", network="S1") == 1
    assert cell(frame, "last_mean", network="S1") == 2


def test_with_a_hold_out_the_test_score_is_compared() -> None:
    held = {"params.recipe.holdout": "0.1"}
    tested = {"metrics.test_top1/S1": 90.0, "metrics.test_top1_best/S1": 91.0}
    row = record((), ("resnet20",), "vanilla", scores={"S1": (99.0, 98.0)}, **held)
    assert cell(comparison_frame(frame_of([row])), "measured_on") == "hold-out"
    frame = comparison_frame(frame_of([row | tested]))
    assert (cell(frame, "best_mean"), cell(frame, "last_mean")) == (91.0, 90.0)
    assert cell(frame, "measured_on").startswith("test set, best epoch chosen on the hold-out")


def test_the_best_epoch_is_compared_only_where_the_test_set_did_not_choose_it() -> None:
    def rows(**extra: Any) -> list[Record]:
        tested = {"metrics.test_top1/S1": 60.0, "metrics.test_top1_best/S1": 70.0}
        alone = {"metrics.test_top1/S1": 55.0, "metrics.test_top1_best/S1": 58.0}
        scores = {"T1": (97.0, 96.0), "S1": (80.0, 75.0)}
        held = "params.recipe.holdout" in extra
        return [
            record(scores=scores, **extra, **(tested if held else {})),
            record(
                *((), ("resnet20",), "vanilla"),
                scores={"S1": (72.0, 71.0)},
                **extra,
                **(alone if held else {}),
            ),
        ]

    def compared(trials: list[Record]) -> tuple[Any, ...]:
        frame = comparison_frame(frame_of(trials)).query("network == 'S1' and role == 'student'")
        columns = ["compared_epoch", "compared_mean", "compared_difference", "compared_values"]
        return tuple(frame[frame["topology"] == "1T1S"].iloc[0][columns])

    assert compared(rows()) == ("last", 75.0, 75.0 - 71.0, (75.0,))
    held = {"params.recipe.holdout": "0.1"}
    assert compared(rows(**held)) == ("best", 70.0, 70.0 - 58.0, (70.0,))


def test_holm_of_the_compared_epoch_runs_over_what_is_compared(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart))
    assert frame["compared_p_holm"].equals(frame["last_p_holm"])
    # of half of the rows it is the best epoch, in which switokd is less sure
    held = [
        row
        | {"params.recipe.holdout": "0.1", "trial_id": row["trial_id"][::-1]}
        | {key.replace("last_val", "test"): row[key] for key in row if "last_val" in key}
        | {
            key.replace("best_val_top1", "test_top1_best"): row[key] + (less and row["seed"] == "1")
            for key in row
            if "best_val" in key
        }
        for row in quickstart
        for less in [row["method"] == "switokd"]
    ]
    mixed = comparison_frame(frame_of([*quickstart, *held]))
    assert mixed["compared_epoch"].value_counts().nunique() == 1
    assert mixed["compared_p_holm"].equals(holm(mixed["compared_p_value"]))
    assert not mixed["compared_p_holm"].equals(mixed["last_p_holm"])
    assert frame["compared_values"].map(len).tolist() == frame["seeds"].tolist()
    where = {"pair": "wrn_16_2>resnet20", "variant": "switokd", "temperature": 1, "network": "S1"}
    assert cell(frame, "compared_values", **where) == pytest.approx((96.3, 96.7, 96.8))


def test_updates_saved_are_the_expert_steps_where_one_student_decides() -> None:
    scores = dict.fromkeys(("T1", "T2", "S1", "S2"), (90.0, 90.0))
    links = {"metrics.expert_share/T1-S1": 0.2, "metrics.expert_share/T2-S1": 0.4}
    gaps = {"metrics.gap/T1-S1": 0.5, "metrics.gap/T2-S1": 0.75}
    one = record(("wrn_16_2", "wrn_16_1"), scores=scores, **links, **gaps)
    frame = comparison_frame(frame_of([one]))
    assert cell(frame, "last_gap", network="S1") == 0.625
    assert cell(frame, "last_gap", network="T2") == 0.75
    assert cell(frame, "updates_saved", network="S1") == pytest.approx(0.3)
    assert cell(frame, "updates_saved", network="T2") == pytest.approx(0.4)
    several = record(students=("resnet20", "wrn_16_1"), scores=scores)
    frame = comparison_frame(frame_of([several]))
    assert frame["updates_saved"].isna().all(), "a teacher waits where all its links do"
    assert frame["expert_share"].notna().all()


def test_time_saved_is_against_the_cohort_training_at_every_step(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart)).query("network == 'S1' and temperature == 1")
    ours = frame[frame["variant"] == "switokd"]
    assert ours["time_saved"].tolist() == pytest.approx([0.25, 0.25])
    assert frame[frame["variant"] != "switokd"]["time_saved"].isna().all()
    assert ours["expert_share"].tolist() == pytest.approx([0.31, 0.31])


def paper_records(temperature: float = 1.0) -> list[Record]:
    pair: dict[str, Any] = {
        "teachers": ("wrn_16_2",),
        "students": ("mobilenet_v2_x0_5",),
        "dataset": "cifar100",
    }
    scores = {"T1": (74.0, 73.0), "S1": (67.0, 66.0)}
    alone: dict[str, Any] = {"scores": {"S1": (60.0, 59.0)}, "dataset": "cifar100"}
    return [
        record(**pair, scores=scores, temperature=temperature),
        record(**pair, scores=scores, settings="threshold=0.6"),
        record((), ("mobilenet_v2_x0_5",), "vanilla", **alone),
        record((), ("wrn_16_2",), "vanilla", **alone),
    ]


def test_published_values_stand_beside_the_best_epoch() -> None:
    frame = comparison_frame(frame_of(paper_records()))
    ours = frame[frame["variant"] == "switokd"]
    assert cell(ours, "published_mean", network="S1") == 67.24
    assert cell(ours, "published_std", network="S1") == 0.04
    assert cell(ours, "published_difference", network="S1") == pytest.approx(67.0 - 67.24)
    assert cell(ours, "published_mean", network="T1") == 73.90
    # wrn_16_2 alone is 73.37 in Table 7, but this comparison holds Table 4's pair
    assert cell(frame, "published_mean", pair="wrn_16_2") == 72.90
    assert cell(frame, "published_mean", pair="mobilenet_v2_x0_5") == 60.07
    assert frame[frame["variant"] == "switokd(threshold=0.6)"]["published_mean"].isna().all()


def test_no_published_value_at_another_temperature() -> None:
    frame = comparison_frame(frame_of(paper_records(temperature=2.0)))
    assert frame[frame["method"] == "switokd"]["published_mean"].isna().all()


def test_different_commits_and_versions_are_pointed_out() -> None:
    version = "tags.switokd.version.torch"
    rows = [record(seed=seed, **{version: "2.14.1"}) for seed in range(3)]
    assert comparison_notes(frame_of(rows)) == []
    rows[0] |= {"git_commit": "b" * 40 + "-dirty", version: "2.11.0"}
    assert comparison_notes(frame_of(rows)) == [
        "1 of 3 trials ran code that was not committed",
        "trials of different commits are compared: aaaaaaaaaaaa (2), bbbbbbbbbbbb-dirty (1)",
        "trials of different torch versions are compared: 2.14.1 (2), 2.11.0 (1)",
    ]


def test_equal_trials_in_any_order_give_the_same_comparison(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart)).drop(columns=["group", "run_ids"])
    turned = comparison_frame(frame_of(quickstart[::-1]))
    pd.testing.assert_frame_equal(frame, turned.drop(columns=["group", "run_ids"]))
