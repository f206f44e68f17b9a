"""The page of methods speaks of those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from switokd.methods import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "method.md"


def test_the_table_of_methods_lists_exactly_what_can_be_named() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## 4.")[2].partition("## 5.")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(METHODS)
