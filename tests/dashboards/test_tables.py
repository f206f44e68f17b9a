from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from rich.console import Console

from dashboards.analysis.comparison import comparison_frame
from dashboards.reports.csv_table import comparison_csv
from dashboards.reports.latex_table import latex_table
from dashboards.reports.terminal_table import print_comparison
from dashboards.reports.wording import duration
from tests.dashboards.conftest import Record, frame_of, record


def printed(frame: pd.DataFrame, width: int, notes: tuple[str, ...] = ()) -> str:
    """What a log file would hold: no terminal, so no colours."""
    out = io.StringIO()
    print_comparison(frame, Console(file=out, width=width), notes)
    return out.getvalue()


def line_with(text: str, *words: str) -> str:
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return line


@pytest.fixture
def frame(quickstart: list[Record]) -> pd.DataFrame:
    gaps = {"1T1S": {"metrics.gap/T1-S1": 0.3}, "single": {}}
    rows = [row | gaps[row["topology"]] for row in quickstart if row["topology"] in gaps]
    return comparison_frame(frame_of(rows))


@pytest.mark.parametrize("width", [80, 110, 140])
def test_the_table_fits_the_terminal_and_is_plain(frame: pd.DataFrame, width: int) -> None:
    text = printed(frame, width)
    rows = [line for line in text.splitlines() if line.startswith((" dml tau", " switokd tau"))]
    assert len(rows) == 4, "a row of the table wraps"
    assert all("31%" in row and "s" in row for row in rows if "switokd" in row)
    assert " gap " in text
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text


def test_a_row_holds_its_numbers_and_a_cell_one_line_per_network(frame: pd.DataFrame) -> None:
    lines = printed(frame, 80).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(" switokd tau=1"))
    assert lines[at].split() == [
        *("switokd", "tau=1", "3", "S1", "96.60", "±0.26", "+1.30", "0.016", "0.30", "31%"),
        *("7.5", "s"),
    ]
    assert lines[at + 1].split()[:3] == ["T1", "97.70", "±0.10"]


def test_vanilla_stands_first_in_its_cohorts_table(frame: pd.DataFrame) -> None:
    text = printed(frame, 80)
    assert line_with(text, "vanilla ", "S1").split()[3:5] == ["95.30", "±0.30"]
    # wrn_16_1 is in no cohort here
    assert "digits: networks alone" in text


def test_a_wide_terminal_shows_both_epochs_and_what_time_is_compared_with(
    frame: pd.DataFrame,
) -> None:
    text = printed(frame, 110)
    assert "best top-1 %" in text
    assert "time (- dml)" in text
    line = line_with(text, "switokd tau=1", "S1")
    assert line.split()[4:8] == ["96.80", "±0.26", "96.60", "±0.26"]
    assert line.split()[-5:] == ["31%", "31%", "7.5", "s", "(-25%)"]
    narrow = printed(frame, 80)
    assert "best top-1" not in narrow
    assert "(-25%)" not in narrow


def test_the_comparison_begins_with_its_finding(frame: pd.DataFrame) -> None:
    text = printed(frame, 80)
    assert text.startswith("switokd tau=1 helped resnet20 most: +1.30 points over vanilla")


def test_the_legend_says_what_was_measured_and_tested(frame: pd.DataFrame) -> None:
    text = " ".join(printed(frame, 80, ("2 trials failed: left out",)).split())
    assert text.count("Differences are of the last epoch") == 1
    assert "paired t test against vanilla" in text
    assert "over the 8 rows tested" in text
    assert "Note: 2 trials failed: left out." in text


def test_one_seed_prints_no_deviation_and_says_why_no_test() -> None:
    rows = [
        record(scores={"T1": (97.0, 96.0), "S1": (95.0, 94.5)}),
        record((), ("resnet20",), "vanilla", scores={"S1": (94.0, 93.0)}),
    ]
    text = printed(comparison_frame(frame_of(rows)), 80)
    assert "±" not in text
    line = line_with(text, "switokd", "S1", "s")
    assert line.split()[-5:] == ["94.50", "+1.50", "25%", "10", "s"]
    assert "No p-values" in text


def test_an_ascii_stream_gets_ascii(frame: pd.DataFrame) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_comparison(frame, Console(file=out, width=80))
    out.flush()
    assert b"96.60 +-0.26" in out.buffer.getvalue()  # type: ignore[attr-defined]


def test_an_empty_comparison_says_so() -> None:
    text = printed(comparison_frame(frame_of([])), 80, ("1 trial failed: left out",))
    assert "No finished trial to compare." in text
    assert "1 trial failed" in text


def test_csv_gives_every_number_back(frame: pd.DataFrame) -> None:
    again = pd.read_csv(io.StringIO(comparison_csv(frame)), float_precision="round_trip")
    assert len(again) == len(frame)
    for column in ("last_mean", "last_std", "last_low", "last_p_holm", "time_saved"):
        pd.testing.assert_series_equal(again[column], frame[column])
    assert again["seed_list"][0] == "0 1 2"


def test_latex_has_students_with_their_deviation_and_bold_only_what_is_sure() -> None:
    rows = []
    for seed, noise in enumerate((0.0, 0.1, 0.2)):
        scores = {"T1": (97.0, 97.0), "S1": (99.0, 95.0 + noise + 0.01 * seed)}
        rows.append(record(scores=scores, seed=seed, share=0.25))
        # a higher mean, but of seeds that differ
        scores = {"T1": (98.0, 97.0), "S1": (99.0, 94.0 + 2 * seed)}
        rows.append(record(method="dml", scores=scores, seed=seed, share=0.0))
        alone = {"S1": (99.0, 92.0 + noise)}
        rows.append(record((), ("resnet20",), "vanilla", scores=alone, seed=seed))
    text = latex_table(comparison_frame(frame_of(rows)))
    lines = text.splitlines()
    assert r"\multicolumn{5}{@{}l}{\emph{digits: wrn\_16\_2$>$resnet20}} \\" in lines
    at = lines.index(r"vanilla & 3 & $92.10 \pm 0.10$ &  &  \\")
    assert lines[at + 1 : at + 3] == [
        r"dml $\tau$=1 & 3 & $96.00 \pm 2.00$ & $+3.90$ & 0 \\",
        r"switokd $\tau$=1 & 3 & $\mathbf{95.11} \pm 0.11$ & $+3.01$ & 25 \\",
    ]
    assert text.count(r"\mathbf") == 1
    assert "Differences are of the last epoch" in text
    assert "with $p < 0.05$ after Holm's correction" in text


def test_a_latex_table_fits_a_column(quickstart: list[Record]) -> None:
    lines = latex_table(comparison_frame(frame_of(quickstart))).splitlines()
    rows = [line for line in lines if line.count(" & ") == 4]
    assert len(rows) == 1 + 2 * 5
    # as printed: no marks, a \\pm is one character
    printed = [re.sub(r"\\(pm|tau|mathbf)|[{}$\\]", "", row) for row in rows]
    assert max(map(len, printed)) < 60


def test_what_all_rows_of_a_cohort_share_is_said_in_its_title() -> None:
    rows = [record(epochs=8), record(method="dml", epochs=8)]
    # another cohort's recipe makes epochs an axis of the data set
    rows.append(record(("wrn_16_1",), epochs=4))
    frame = comparison_frame(frame_of(rows))
    text = printed(frame, 80)
    assert "digits: wrn_16_2>resnet20 (1T1S), recipe.epochs=8" in text
    assert text.count("recipe.epochs=8") == 1
    latex = latex_table(frame)
    assert latex.count("recipe.epochs=8") == 1
    assert r"\emph{digits: wrn\_16\_2$>$resnet20, recipe.epochs=8}" in latex


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7.54, "7.5 s"), (42, "42 s"), (200, "3 min 20 s"), (18_120, "5 h 02 min")],
)
def test_durations_in_the_units_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text
