"""The comparison in the terminal, as much of it as the terminal is wide for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashboards.analysis.comparison import ALWAYS_TRAINING
from dashboards.analysis.finding import finding
from dashboards.analysis.labels import trial_name
from dashboards.reports.wording import duration, interval, legend, number, p_value, spread

# columns of a terminal from which on a table shows more
SHOWS_BOTH_EPOCHS = 110
SHOWS_INTERVAL = 135


def print_comparison(frame: pd.DataFrame, console: Console, notes: Sequence[str] = ()) -> None:
    """Print the finding, one table per data set and cohort, and how to read them.

    Every table starts with its networks trained alone. Below 110 columns the epoch that is not
    compared gives way, the share of updates saved and the time against dml; below 135 intervals.
    """
    sentence = finding(frame)
    if sentence:
        console.print(Text(sentence, style="bold"))
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
        title, cohort = f"{dataset}: {pair} ({topology})", pd.concat([vanilla, rows])
        if rows["axes"].nunique() == 1 and rows["axes"].iloc[0]:
            # what all rows share need not be in each of them
            title, cohort = f"{title}, {rows['axes'].iloc[0]}", cohort.assign(axes="")
        yield title, cohort.reset_index(drop=True)
    for dataset, rows in frame[is_alone & ~frame["network_key"].isin(shown)].groupby("dataset"):
        yield f"{dataset!s}: networks alone", rows.assign(network=rows["model"])


def cohort_table(cohort: pd.DataFrame, baseline: str, console: Console) -> Table:
    """One row per group; a cell holds one line per network."""
    wide = console.width >= SHOWS_BOTH_EPOCHS
    unicode = "utf" in console.encoding
    sign = "±" if unicode else "+-"
    table = Table(
        box=box.SIMPLE_HEAD if unicode else box.ASCII,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 1 if unicode else 0),
    )
    table.add_column("trial", overflow="fold", min_width=13)
    table.add_column("n" if not wide else "seeds", justify="right")
    columns = network_columns(cohort, baseline, console.width, sign)
    for name in columns:
        wraps = name.startswith("paper")
        table.add_column(name, justify="left" if name == "net" else "right", no_wrap=not wraps)
    timed = wide and bool(cohort["time_saved"].notna().any())
    table.add_column(f"time (- {ALWAYS_TRAINING})" if timed else "time", justify="right")
    for _, group in cohort.groupby("group", sort=False):
        rows: list[dict[str, Any]] = group.to_dict("records")  # type: ignore[assignment]
        cells: list[Text | str] = [Text(trial_name(rows[0], "tau")), str(rows[0]["seeds"])]
        cells += ["\n".join(cell(row) for row in rows) for cell in columns.values()]
        alone = rows[0]["topology"] == "single"
        times = [time_cell(row, timed) for row in (rows if alone else rows[:1])]
        table.add_row(*cells, "\n".join(times))
    return table


def network_columns(
    cohort: pd.DataFrame, baseline: str, width: int, sign: str
) -> dict[str, Callable[[dict[str, Any]], str]]:
    """The columns with a line per network that have anything to say, by their heads."""
    wide = width >= SHOWS_BOTH_EPOCHS
    columns: dict[str, Callable[[dict[str, Any]], str]] = {"net": lambda row: row["network"]}
    if wide:
        columns["best top-1 %"] = lambda row: spread(row["best_mean"], row["best_std"], sign)
        columns["last top-1 %"] = lambda row: spread(row["last_mean"], row["last_std"], sign)
    else:
        epochs = sorted(set(cohort["compared_epoch"]))
        columns[f"{' or '.join(epochs)} top-1 %"] = lambda row: spread(
            row["compared_mean"], row["compared_std"], sign
        )
    if width >= SHOWS_INTERVAL and cohort["compared_interval_low"].notna().any():
        columns["95 %"] = lambda row: interval(
            row["compared_interval_low"], row["compared_interval_high"]
        )
    if not cohort["baseline"].eq("").all():
        columns[f"- {baseline}"] = lambda row: number(row["compared_difference"], "+.2f")
        columns["p Holm" if wide else "p"] = lambda row: p_value(row["compared_p_holm"])
    if cohort["published_mean"].notna().any():
        columns["paper, best - paper"] = lambda row: published_cell(row, sign)
    if cohort["last_gap"].notna().any():
        columns["gap"] = lambda row: number(row["last_gap"], ".2f")
    if cohort["expert_share"].notna().any():
        columns["expert"] = lambda row: number(row["expert_share"], ".0%")
    if wide and cohort["updates_saved"].notna().any():
        columns["saved"] = lambda row: number(row["updates_saved"], ".0%")
    return columns


def published_cell(row: dict[str, Any], sign: str) -> str:
    if pd.isna(row["published_mean"]):
        return ""
    measured = spread(row["published_mean"], row["published_std"], sign)
    return f"{measured} ({row['published_difference']:+.2f})"


def time_cell(row: dict[str, Any], against_dml: bool) -> str:
    if pd.isna(row["train_seconds"]):
        return ""
    saved = row["time_saved"]
    relative = f" ({-saved:+.0%})" if against_dml and not pd.isna(saved) else ""
    taught = " T+S" if row["teacher_seconds"] > 0 else ""
    return duration(row["train_seconds"]) + taught + relative
