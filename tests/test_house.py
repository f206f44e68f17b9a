"""What the import contracts of `make lint` do not say of the house: names and sizes of modules."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("switokd", "tuning", "dashboards")
LONGEST = 400


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_called_as_no_other(package: str) -> None:
    """So that a name says where one is; the method SwitOKD is called as the package is."""
    names = [path.stem for path in modules(package) if not path.stem.startswith("__")]
    names += [path.parent.name for path in modules(package) if path.name == "__init__.py"]
    twice = {name for name, count in Counter(names).items() if count > 1}
    assert twice <= {"switokd"}
    assert not set(names) & sys.stdlib_module_names
    assert not {"utils", "common", "helpers"} & set(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_and_module_says_what_it_is_for(package: str) -> None:
    silent = [
        path for path in modules(package) if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_a_file_is_one_concept() -> None:
    files = [path for package in (*PACKAGES, "tests") for path in modules(package)]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path for path, lines in lengths.items() if lines > LONGEST} == set()
