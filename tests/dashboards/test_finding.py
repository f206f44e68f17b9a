"""The finding's sentence, from comparisons made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dashboards.analysis.finding import finding


def student(**fields: Any) -> dict[str, Any]:
    """A student's row; `difference` and `p_holm` are those of the compared epoch."""
    row: dict[str, Any] = {
        **{"dataset": "digits", "topology": "1T1S", "pair": "wrn_16_2>resnet20"},
        **{
            "method": "switokd",
            "variant": "switokd",
            "temperature": 1.0,
            "role": "student",
            "model": "resnet20",
        },
        **{"seeds": 3, "baseline": "vanilla", "difference": 1.2, "p_holm": 0.012},
        **{"difference_low": 0.8, "difference_high": 1.6, "updates_saved": 0.31},
        **fields,
    }
    compared = ("difference", "difference_low", "difference_high", "p_holm")
    return {f"compared_{key}" if key in compared else key: value for key, value in row.items()}


def found(*rows: dict[str, Any]) -> str:
    return finding(pd.DataFrame(rows))


def test_a_sure_gain_is_said_with_its_interval_and_what_it_saved() -> None:
    assert found(student()) == (
        "switokd tau=1 helped resnet20 most: +1.20 points over vanilla in wrn_16_2>resnet20 on "
        "digits (95 % interval +0.80 to +1.60, p 0.012 after Holm's correction, 3 seeds), while "
        "31% of the teacher's updates were saved."
    )


def test_where_no_update_was_saved_none_is_praised() -> None:
    for saved in (0.0, float("nan")):
        assert "saved" not in found(student(variant="dml", updates_saved=saved))


def test_a_sure_loss_is_no_help() -> None:
    text = found(student(difference=-2.5, p_holm=0.0004))
    assert text == (
        "1 student surely lost against vanilla, most of all resnet20 in wrn_16_2>resnet20 by "
        "switokd tau=1: -2.50 points."
    )


def test_the_largest_difference_is_not_praised_where_it_may_be_chance() -> None:
    text = found(student(difference=9.05, p_holm=1.0), student(difference=0.1, p_holm=0.05))
    assert text.startswith("Nothing is sure: of 2 students compared with vanilla over 3 seeds")
    assert text.endswith("+9.05 points (resnet20 in wrn_16_2>resnet20 by switokd tau=1, p 1.000).")
    assert "helped" not in text


def test_the_largest_difference_may_be_a_loss() -> None:
    text = found(student(difference=0.3, p_holm=1.0), student(difference=-4.3, p_holm=0.9))
    assert "The largest difference is -4.30 points" in text


def test_one_seed_has_no_test_and_so_nothing_is_sure() -> None:
    text = found(student(seeds=1, p_holm=float("nan")))
    assert text.startswith("Nothing is sure: differences from vanilla need two seeds or more")
    assert "+1.20 points" in text


def test_of_several_sure_ones_the_largest_is_told_and_the_others_counted() -> None:
    text = found(
        student(difference=0.4),
        student(variant="dml", difference=3.0, p_holm=0.0002),
        student(difference=-1.0),
        student(difference=8.0, p_holm=0.3),
    )
    assert text.startswith("dml tau=1 helped resnet20 most: +3.00 points")
    assert "p < 0.001" in text
    assert "1 more of 4 students is surely better than vanilla." in text
    assert text.endswith("-1.00 points.")


def test_teachers_networks_alone_and_the_baseline_say_nothing() -> None:
    nothing = [
        student(role="teacher"),
        student(topology="single"),
        student(difference=float("nan"), p_holm=float("nan")),
    ]
    assert found(*nothing) == ""
    assert finding(pd.DataFrame()) == ""
