"""The finding of a comparison in a few sentences: who helped which student, how surely, at what
cost; or that nothing is sure."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from dashboards.analysis.labels import tells_temperature

# what counts as sure: the p-value after Holm's correction over the whole table
SIGNIFICANCE = 0.05


def finding(frame: pd.DataFrame, epoch: str = "compared") -> str:
    """What a comparison (`comparison.comparison_frame`) says of its students.

    `epoch`: last, best or compared (the one of the two that the comparison's rule takes), whose
    differences from the baseline are looked at. Empty where nothing is compared.
    """
    if frame.empty:
        return ""
    students = frame[(frame["topology"] != "single") & (frame["role"] == "student")]
    compared = students[students[f"{epoch}_difference"].notna()]
    if compared.empty:
        return ""
    baseline = compared["baseline"].iloc[0]
    tested = compared[compared[f"{epoch}_p_holm"].notna()]
    if tested.empty:
        top: Any = _largest(compared, epoch)
        return (
            f"Nothing is sure: differences from {baseline} need two seeds or more that differ. "
            f"The largest is {_gain(top, epoch)} ({_who(top)})."
        )
    sure = tested[tested[f"{epoch}_p_holm"] < SIGNIFICANCE]
    helped = sure[sure[f"{epoch}_difference"] > 0]
    harmed = sure[sure[f"{epoch}_difference"] < 0]
    if sure.empty:
        top = _largest(tested, epoch)
        return (
            f"Nothing is sure: of {_count(len(tested), 'student')} compared with {baseline} over "
            f"{_seeds(tested)}, none differs with p < {SIGNIFICANCE} after Holm's correction. The "
            f"largest difference is {_gain(top, epoch)} ({_who(top)}, p {_p(top, epoch)})."
        )
    sentences = []
    if not helped.empty:
        best = helped.sort_values(f"{epoch}_difference", kind="stable").iloc[-1]
        sentences.append(_sentence(best, epoch, baseline))
        others = len(helped) - 1
        if others:
            verb = "is" if others == 1 else "are"
            sentences.append(
                f"{others} more of {_count(len(tested), 'student')} {verb} surely better than "
                f"{baseline}."
            )
    if not harmed.empty:
        worst = harmed.sort_values(f"{epoch}_difference", kind="stable").iloc[0]
        sentences.append(
            f"{_count(len(harmed), 'student')} surely lost against {baseline}, most of all "
            f"{_who(worst)}: {_gain(worst, epoch)}."
        )
    return " ".join(sentences)


def _largest(rows: pd.DataFrame, epoch: str) -> Any:
    """The row of the largest difference, be it a gain or a loss."""
    return rows.iloc[int(rows[f"{epoch}_difference"].abs().argmax())]


def _sentence(row: Any, epoch: str, baseline: str) -> str:
    low, high = row[f"{epoch}_difference_low"], row[f"{epoch}_difference_high"]
    text = (
        f"{_method(row)} helped {row['model']} most: {_gain(row, epoch)} over {baseline} in "
        f"{row['pair']} on {row['dataset']} (95 % interval {low:+.2f} to {high:+.2f}, "
        f"p {_p(row, epoch)} after Holm's correction, {_count(int(row['seeds']), 'seed')})"
    )
    saved = row["updates_saved"]
    if not math.isnan(saved) and saved:
        text += f", while {saved:.0%} of the teacher's updates were saved"
    return f"{text}."


def _method(row: Any) -> str:
    if not tells_temperature(row):
        return str(row["variant"])
    return f"{row['variant']} tau={row['temperature']:g}"


def _who(row: Any) -> str:
    return f"{row['model']} in {row['pair']} by {_method(row)}"


def _gain(row: Any, epoch: str) -> str:
    return f"{row[f'{epoch}_difference']:+.2f} points"


def _p(row: Any, epoch: str) -> str:
    value = row[f"{epoch}_p_holm"]
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _seeds(rows: pd.DataFrame) -> str:
    fewest, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    return _count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
