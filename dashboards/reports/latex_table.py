"""The comparison as a LaTeX table that fits a column: methods down, what they gave across."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from dashboards.analysis.finding import SIGNIFICANCE
from dashboards.analysis.labels import trial_name
from dashboards.reports.wording import epoch_rule

SEVERAL = r"\multicolumn{5}{@{}l}"


def latex_table(frame: pd.DataFrame) -> str:
    """A booktabs table of the students, one block per data set and pair, vanilla first.

    Cells are mean and standard deviation in percent, of the epoch that is compared. Bold is what is
    surely better than the baseline, after Holm's correction, and nothing else.
    """
    students = frame[(frame["role"] == "student") & (frame["topology"] != "single")]
    alone = frame[frame["topology"] == "single"].drop_duplicates("network_key")
    alone = alone.set_index("network_key")
    baseline = next((name for name in students["baseline"] if name), "")
    lines = [
        *(r"% needs \usepackage{booktabs}", r"\begin{table}[t]", r"\centering\small"),
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{caption(students, baseline)}}}" if len(students) else "",
        *(r"\begin{tabular}{@{}llrrr@{}}", r"\toprule"),
        r"Method & $n$ & Top-1 (\%) & $\Delta$ & Saved (\%) \\",
    ]
    blocks = students.groupby(["dataset", "pair", "network"], sort=False)
    for (dataset, pair, network), rows in blocks:
        name = f"{dataset}: {pair}"
        if rows["topology"].iloc[0].partition("T")[2] != "1S":
            name += f", {network} {rows['model'].iloc[0]}"
        shared = rows["axes"].iloc[0] if rows["axes"].nunique() == 1 else ""
        # what all rows of a block share stands in its head: a column is narrow
        name += f", {shared}" if shared else ""
        lines += [r"\midrule", rf"{SEVERAL}{{\emph{{{escaped(name)}}}}} \\"]
        for key in dict.fromkeys(rows["network_key"]):
            if key in alone.index:
                axes = rows.loc[rows["network_key"] == key, "axes"].iloc[0]
                lines.append(row_of(alone.loc[key].to_dict() | {"axes": axes}, shared))
        lines += [row_of(row, shared) for row in rows.to_dict("records")]  # type: ignore[arg-type]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(line for line in lines if line) + "\n"


def caption(students: pd.DataFrame, baseline: str) -> str:
    text = (
        r"Students' top-1 accuracy (\%): mean $\pm$ standard deviation over $n$ seeds. "
        + escaped(epoch_rule(students))
        + " Saved: teacher updates skipped."
    )
    if baseline:
        text += (
            rf" $\Delta$: points above {escaped(baseline)}; bold: better with "
            rf"$p < {SIGNIFICANCE}$ after Holm's correction."
        )
    return text


def row_of(row: dict[str, Any], shared: str) -> str:
    """One line: method, seeds, top-1, difference from the baseline, updates saved."""
    mean, std = row["compared_mean"], row["compared_std"]
    difference, saved = row["compared_difference"], row["updates_saved"]
    sure = row["compared_p_holm"] < SIGNIFICANCE and difference > 0
    score = f"{mean:.2f}"
    if sure:
        score = rf"\mathbf{{{score}}}"
    if not math.isnan(std):
        score += rf" \pm {std:.2f}"
    cells = [
        escaped(trial_name(row | {"axes": "" if shared else row["axes"]}, "tau")),
        str(row["seeds"]),
        "--" if math.isnan(mean) else f"${score}$",
        "" if math.isnan(difference) else f"${difference:+.2f}$",
        "" if math.isnan(saved) else f"{100 * saved:.0f}",
    ]
    return " & ".join(cells) + r" \\"


def escaped(text: str) -> str:
    for mark in "_%&#":
        text = text.replace(mark, "\\" + mark)
    return text.replace("tau=", "$\\tau$=").replace(">", "$>$")
