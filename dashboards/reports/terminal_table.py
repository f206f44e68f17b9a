"""The comparison in the terminal, as much of it as the terminal is wide for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashboards.analysis.labels import trial_name
from dashboards.reports.wording import duration, interval, legend, number, p_value, spread

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
        cells: list[Text | str] = [Text(trial_name(rows[0], "tau")), str(rows[0]["seeds"])]
        cells += ["\n".join(cell(row) for row in rows) for cell in columns.values()]
        if timed:
            alone = rows[0]["topology"] == "single"
            cells.append("\n".join(map(time_cell, rows)) if alone else time_cell(rows[0]))
        table.add_row(*cells)
    return table


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
