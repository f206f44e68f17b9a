"""The comparison as LaTeX, in the layout of the paper's Table 4."""

from __future__ import annotations

import math

import pandas as pd


def latex_table(frame: pd.DataFrame, epoch: str = "best") -> str:
    """A booktabs table in the layout of the paper's Table 4: networks down, methods across.

    Cells are mean and standard deviation in percent, the highest mean of a row in bold. `epoch` is
    `best` (the paper's) or `last`.
    """
    together = frame[frame["topology"] != "single"]
    alone = frame[frame["method"] == "vanilla"].set_index("network_key")
    alone = alone[~alone.index.duplicated()]
    several = together["temperature"].nunique() > 1
    labels = together.assign(
        column=[
            f"{variant} tau={temperature:g}" if several else variant
            for variant, temperature in zip(
                together["variant"], together["temperature"], strict=True
            )
        ]
    )
    columns = list(dict.fromkeys(sorted(labels["column"])))
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{Top-1 accuracy (\%), {epoch} epoch: mean and standard deviation over seeds.}}",
        rf"\begin{{tabular}}{{lll{'c' * (len(columns) + 1)}}}",
        r"\toprule",
        "Dataset & & Network & " + " & ".join(["Vanilla", *map(escaped, columns)]) + r" \\",
    ]
    keys = ["dataset", "topology", "pair", "axes"]
    for (dataset, topology, _, axes), cohort in labels.groupby(keys, sort=False):
        lines.append(r"\midrule")
        shown = f"{dataset} {topology} {axes}".strip()
        for (network, model), rows in cohort.groupby(["network", "model"], sort=True):
            cells = []
            key = rows["network_key"].iloc[0]
            cells.append(score(alone.loc[key], epoch) if key in alone.index else None)
            by_column = rows.drop_duplicates("column").set_index("column")
            cells += [
                score(by_column.loc[column], epoch) if column in by_column.index else None
                for column in columns
            ]
            lines.append(
                f"{escaped(shown)} & {network} & {escaped(str(model))} & "
                + " & ".join(latex_cells(cells))
                + r" \\"
            )
            shown = ""
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def score(row: pd.Series, epoch: str) -> tuple[float, float]:
    return float(row[f"{epoch}_mean"]), float(row[f"{epoch}_std"])


def latex_cells(scores: list[tuple[float, float] | None]) -> list[str]:
    """The scores of one row, rounded; the highest as printed in bold."""
    means = [round(item[0], 2) for item in scores if item and not math.isnan(item[0])]
    cells = []
    for item in scores:
        if item is None or math.isnan(item[0]):
            cells.append("--")
            continue
        mean, std = item
        text = f"{mean:.2f}"
        if len(means) > 1 and round(mean, 2) == max(means):
            text = rf"\mathbf{{{text}}}"
        cells.append(f"${text}$" if math.isnan(std) else rf"${text} \pm {std:.2f}$")
    return cells


def escaped(text: str) -> str:
    for mark in "_%&#":
        text = text.replace(mark, "\\" + mark)
    return text.replace("tau=", "$\\tau$=").replace(">", "$>$")
