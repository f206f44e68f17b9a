"""The comparison as text: a terminal table, CSV, and LaTeX in the layout of the paper's Table 4."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# columns of a terminal from which on a table shows more
SHOWS_TIME = 100
SHOWS_INTERVAL = 125


def print_comparison(frame: pd.DataFrame, console: Console, notes: Sequence[str] = ()) -> None:
    """Print the comparison, one table per data set and cohort, then how to read it and the notes.

    Every table starts with its networks trained alone. Below 100 columns the share of expert steps
    and the training time give way, below 125 the intervals.
    """
    for note in notes:
        console.print(f"Note: {note}.", style="yellow", markup=False, highlight=False)
    if frame.empty:
        console.print("No finished trial to compare.")
        return
    baseline = next((name for name in frame["baseline"] if name), "")
    for title, cohort in cohorts(frame):
        console.print(Text(title, style="bold"))
        console.print(cohort_table(cohort, baseline, console))
    console.print(legend(frame, baseline), style="dim", highlight=False)


def cohorts(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each data set and cohort under a title; first its networks trained alone.

    Networks that were trained alone only come last, in one table per data set.
    """
    is_alone = frame["topology"] == "single"
    alone = frame[is_alone].drop_duplicates("network_key").set_index("network_key", drop=False)
    shown: set[str] = set()
    keys = ["dataset", "topology", "pair"]
    for (dataset, topology, pair), rows in frame[~is_alone].groupby(keys, sort=False):
        joined = rows.drop_duplicates(["network", "network_key"])
        joined = joined[joined["network_key"].isin(alone.index)]
        vanilla = alone.loc[joined["network_key"]].assign(
            network=joined["network"].to_numpy(),
            group=[f"alone {axes}" for axes in joined["axes"]],
            axes=joined["axes"].to_numpy(),
        )
        shown |= set(joined["network_key"])
        yield f"{dataset}: {pair} ({topology})", pd.concat([vanilla, rows], ignore_index=True)
    for dataset, rows in frame[is_alone & ~frame["network_key"].isin(shown)].groupby("dataset"):
        yield f"{dataset!s}: networks alone", rows.assign(network=rows["model"])


def cohort_table(cohort: pd.DataFrame, baseline: str, console: Console) -> Table:
    """One row per group; a cell holds one line per network."""
    unicode = "utf" in console.encoding
    sign = "±" if unicode else "+-"
    table = Table(
        box=box.SIMPLE_HEAD if unicode else box.ASCII, pad_edge=False, collapse_padding=True
    )
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "net": lambda row: row["network"],
        "best top-1 %": lambda row: spread(row["best_mean"], row["best_std"], sign),
        "last top-1 %": lambda row: spread(row["last_mean"], row["last_std"], sign),
    }
    if console.width >= SHOWS_INTERVAL:
        columns["last, 95 %"] = lambda row: interval(row["last_low"], row["last_high"])
    if not cohort["baseline"].eq("").all():
        columns[f"- {baseline}"] = lambda row: number(row["last_difference"], "+.2f")
        columns["p Holm"] = lambda row: p_value(row["last_p_holm"])
    if cohort["published_mean"].notna().any():
        columns["paper, best - paper"] = lambda row: published_cell(row, sign)
    if console.width >= SHOWS_TIME and cohort["expert_share"].notna().any():
        columns["expert"] = lambda row: number(row["expert_share"], ".0%")
    table.add_column("trial", overflow="fold", min_width=13)
    table.add_column("seeds", justify="right")
    for name in columns:
        left = name == "net"
        table.add_column(
            name, justify="left" if left else "right", no_wrap=name != "paper, best - paper"
        )
    timed = console.width >= SHOWS_TIME
    if timed:
        table.add_column("time", justify="right", no_wrap=True)
    for _, group in cohort.groupby("group", sort=False):
        rows: list[dict[str, Any]] = group.to_dict("records")  # type: ignore[assignment]
        cells: list[Text | str] = [Text(trial_label(rows[0])), str(rows[0]["seeds"])]
        cells += ["\n".join(cell(row) for row in rows) for cell in columns.values()]
        if timed:
            alone = rows[0]["topology"] == "single"
            cells.append("\n".join(map(time_cell, rows)) if alone else time_cell(rows[0]))
        table.add_row(*cells)
    return table


def trial_label(row: dict[str, Any]) -> str:
    """Variant, temperature and the further axes of a group."""
    parts = [row["variant"]]
    if row["topology"] != "single":
        parts.append(f"tau={row['temperature']:g}")
    return " ".join([*parts, row["axes"]]).strip()


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


def published_cell(row: dict[str, Any], sign: str) -> str:
    if pd.isna(row["published_mean"]):
        return ""
    measured = spread(row["published_mean"], row["published_std"], sign)
    return f"{measured} ({row['published_difference']:+.2f})"


def time_cell(row: dict[str, Any]) -> str:
    if pd.isna(row["train_seconds"]):
        return ""
    saved = row["time_saved"]
    return duration(row["train_seconds"]) + ("" if pd.isna(saved) else f" ({-saved:+.0%})")


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `5 h 02 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def legend(frame: pd.DataFrame, baseline: str) -> str:
    """How to read the numbers: what was measured, on what, and which test stands behind p."""
    measured_on = sorted(set(frame["measured_on"]))
    lines = [
        "Top-1 in percent on the " + "; ".join(measured_on) + ": mean and standard deviation over "
        "seeds, of the best and of the last epoch; differences are of the last."
    ]
    if measured_on == ["test set"]:
        lines.append("The best epoch was chosen on the test set itself, as in the paper.")
    tests = sorted({test.partition(",")[0] for test in frame["last_test"] if test})
    if tests:
        lines.append(
            f"p: two-sided {' or '.join(tests)} test against {baseline}, Holm's correction over "
            f"the {int(frame['last_p_value'].notna().sum())} rows tested."
        )
    elif baseline:
        lines.append("No p-values: a test needs two seeds or more that differ.")
    return " ".join(lines)


def comparison_csv(frame: pd.DataFrame) -> str:
    """The comparison in full, one line per network of a group; lists are joined by blanks."""
    flat = frame.drop(columns=["network_key", "cohort_key"])
    for column in ("seed_list", "run_ids", "experiment_ids"):
        flat[column] = [" ".join(map(str, values)) for values in flat[column]]
    return flat.to_csv(index=False)


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
