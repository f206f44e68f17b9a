from __future__ import annotations

import base64
import gzip
import html
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards.reports.html_report import write_report
from dashboards.store.runs import RunFrames
from switokd.tracking.address import StoreError


@pytest.fixture(scope="module")
def report(quickstart_store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(RunFrames(quickstart_store), path, "fixture")
    return path.read_text(encoding="utf-8")


def test_the_report_loads_nothing_from_elsewhere(report: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", report, flags=re.DOTALL)
    assert not re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=", report)
    links = re.findall(r'href="([^"]*)"', markup)
    assert links
    assert all(link.startswith("http://127.0.0.1:5000/#/") for link in links)
    (packed,) = re.findall(r'id="plotly">([^<]*)<', report)
    assert gzip.decompress(base64.b64decode(packed)).decode().count("plotly.js v") == 1
    assert len(report) < 3_000_000


def test_the_report_holds_the_same_numbers_and_figures(report: str) -> None:
    assert "<td>96.60</td>" in report
    assert "1 trial failed: left out." in report
    assert re.findall(r"<h2>(.*?)</h2>", report) == ["Pairs", "Students", "More"]
    titles = re.findall(r"<summary>(.*?)</summary>", report)
    assert titles[:4] == [
        "Teachers",
        "Pair matrix: the best student of each pair",
        "Accuracy against cost",
        "Sensitivity to temperature",
    ]
    assert "Timeline of digits: wrn_16_2&gt;resnet20, link T1-S1" in titles
    assert report.count('class="plot"') >= 4 + 3
    assert r"\mathbf{96.60} \pm 0.26" in report


def test_the_report_opens_with_its_finding_and_what_it_is_of(report: str) -> None:
    markup = re.sub(r"<(script|style).*?</\1>", "", report, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", " ", markup))
    begin, _, rest = text.partition("switokd tau=1 helped resnet20 most: +1.30 points over vanilla")
    assert "teacher-student pairs compared" in begin
    assert len(begin) < 120, "the finding is the first thing said"
    assert re.search(r"Written \d{4}-\d\d-\d\d \d\d:\d\d · 33 trials, trained 2023-11-14", rest)
    assert "seeds 0, 1, 2; digits · commit aaaaaaaaaaaa" in rest
    settings = rest[rest.index("Settings") :]
    assert re.search(r"recipe\.batch_size\s+128", settings)
    assert re.search(r"temperature\s+1, 2", settings)
    assert "Large: the mean; small: the seeds." in rest


def test_an_unknown_experiment_writes_no_report(quickstart_store: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no experiment 'other'"):
        write_report(RunFrames(quickstart_store), tmp_path / "report.html", "other")
    assert not list(tmp_path.iterdir())


def test_a_report_of_nothing_says_so(writer: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(RunFrames(writer.uri), path, None)
    assert "No trial has finished yet." in path.read_text(encoding="utf-8")


def test_of_many_lines_the_best_are_drawn_and_the_rest_is_counted(
    quickstart_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    assert "best lines" not in report
    monkeypatch.setattr("dashboards.reports.html_report.MOST_LINES", 3)
    path = tmp_path / "report.html"
    write_report(RunFrames(quickstart_store), path, None)
    text = path.read_text(encoding="utf-8")
    assert text.count("The 3 best lines; 1 more on the dashboard.") == 1
