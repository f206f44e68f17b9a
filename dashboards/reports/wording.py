"""How the comparison's numbers are written, and what a reader is told of them."""

from __future__ import annotations

import pandas as pd

from dashboards.analysis.comparison import ALWAYS_TRAINING
from dashboards.analysis.labels import trial_name
from switokd import names

INTERVAL_CAPTION = (
    "Large: the mean; small: the seeds. From three seeds on the line is the 95 % interval of the "
    "mean (Student's t on log odds, so that it stays from 0 to 100 %)."
)

COST_CAPTION = (
    "Filled and on the line: no other is as accurate for less. Bars: the 95 % interval over seeds. "
    "Training seconds follow the machine's load, and hold the whole training of a teacher that was "
    "trained before. Milliseconds an image are those of one image where the trial ran."
)

TIMELINE_CAPTION = (
    "Solid: gap, dotted: threshold; {}. The bar shows the mode: the darker, the more steps in "
    "expert mode, in which the teacher waits; of a method without a switch, in which it would "
    "have. Below: solid the student, dashed the teacher."
)


def number(value: float, form: str) -> str:
    return "" if pd.isna(value) else format(value, form)


def spread(mean: float, std: float, sign: str = "±") -> str:
    """Mean and, over several seeds, standard deviation: `92.50 ±0.17`."""
    return number(mean, ".2f") + ("" if pd.isna(std) else f" {sign}{std:.2f}")


def interval(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{low:.2f} to {high:.2f}"


def p_value(value: float) -> str:
    if pd.isna(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `5 h 02 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def cost_in_words(value: float, cost: str) -> str:
    """`3 min 20 s`, `269,722 parameters`, `2.5 million multiply-adds`, `0.51 ms`."""
    if cost == "train_seconds":
        return duration(value)
    if cost == names.MILLISECONDS_PER_IMAGE:
        return f"{value:.2g} ms"
    what = "parameters" if cost == names.PARAMETERS else "multiply-adds"
    return f"{value / 1e6:.2g} million {what}" if value >= 1e6 else f"{value:,.0f} {what}"


def front_in_words(points: pd.DataFrame, cost: str) -> str:
    """What lies on the Pareto front of `accuracy_cost.cost_points`, the cheapest first."""
    front = points[points["on_front"]].sort_values("cost", kind="stable")
    several = points["pair"].nunique() > 1
    told = [
        trial_name(row)
        + (f" of {row['pair']}" if several else "")
        + f" ({row['compared_mean']:.2f} %, {cost_in_words(row['cost'], cost)})"
        for _, row in front.iterrows()
    ]
    if not told:
        return ""
    students = f"{len(points)} {'student' if len(points) == 1 else 'students'}"
    return f"Worth their cost are {len(told)} of {students}: {', '.join(told)}."


def legend(frame: pd.DataFrame, baseline: str) -> str:
    """How to read the numbers: what was measured, on what, and which test stands behind p."""
    measured_on = sorted(set(frame["measured_on"]))
    lines = [
        "Top-1 in percent on the " + "; ".join(measured_on) + ": mean and standard deviation over "
        f"seeds. {epoch_rule(frame)}"
    ]
    tests = sorted({test.partition(",")[0] for test in frame["compared_test"] if test})
    if tests:
        lines.append(
            f"p: two-sided {' or '.join(tests)} test against {baseline}, Holm's correction over "
            f"the {int(frame['compared_p_value'].notna().sum())} rows tested."
        )
    elif baseline:
        lines.append("No p-values: a test needs two seeds or more that differ.")
    if frame["expert_share"].notna().any():
        lines.append(
            "Expert: share of steps in which the student lags too far behind and the link's "
            "teacher waits; with one student that is the share of teacher updates saved."
        )
    if frame["time_saved"].notna().any():
        lines.append(
            f"Times follow the machine's load; relative ones are against {ALWAYS_TRAINING} of the "
            "same cohort, in which no teacher waits."
        )
    if frame["teacher_seconds"].notna().any():
        lines.append(
            "T+S: with the training of the teacher before, whole, though its students share it."
        )
    return " ".join(lines)


def epoch_rule(frame: pd.DataFrame) -> str:
    """Which epoch is compared, and why."""
    rules = {
        "last": "Differences are of the last epoch, as the best one was chosen by what it is "
        "measured on.",
        "best": "Differences are of the best epoch, which the hold-out chose.",
    }
    epochs = sorted(set(frame["compared_epoch"]))
    if len(epochs) > 1:
        return "Differences are of the best epoch where a hold-out chose it, else of the last."
    return rules[epochs[0]]
