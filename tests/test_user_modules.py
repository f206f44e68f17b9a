"""Modules of a user's: what identifies them, and how it is told what is wrong with them."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from switokd.user_modules import folder_of, load, source_of
from switokd.validation import SpecError
from tests.conftest import UserModule


def complaint(address: str) -> str:
    with pytest.raises(SpecError) as raised:
        load(address)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_module_is_identified_by_its_text_wherever_it_lies(
    user_module: UserModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = user_module("answer = 1\n")
    first = source_of(name)
    assert (len(first), folder_of(name)) == (16, str(tmp_path / "modules"))
    assert name not in sys.modules, "nothing is imported"
    (tmp_path / "modules").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "elsewhere")])
    assert (source_of(name), folder_of(name)) == (first, str(tmp_path / "elsewhere"))


def test_one_changed_line_is_another_source_also_in_what_it_imports(
    user_module: UserModule,
) -> None:
    name = user_module("import torch\nimport parts.blocks\nanswer = 1\n")
    user_module("", "parts.__init__")
    user_module("from math import pi\n", "parts.blocks")
    first = source_of(name)
    user_module("def unused(): ...\n", "parts.other")
    second = source_of(name)
    user_module("from math import tau\n", "parts.blocks")
    third = source_of(name)
    user_module("import torch\nimport parts.blocks\nanswer = 2\n")
    assert len({first, second, third, source_of(name)}) == 4


def test_cyclic_imports_are_identified(user_module: UserModule) -> None:
    name = user_module("import other\n")
    user_module("import brought\n", "other")
    first = source_of(name)
    user_module("import brought  # and more\n", "other")
    assert source_of(name) != first


def test_an_installed_package_is_identified_by_its_version() -> None:
    assert source_of("torchvision.models") == f"torchvision=={version('torchvision').split('+')[0]}"
    assert source_of("switokd.models").startswith("switokd==")


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("nowhere", "no module 'nowhere': it must lie beside the experiment file, on PYTHONPATH"),
        ("json.tool", "must be a module with a file of its own (found a part of Python)"),
        ("__main__", "must be a module with a file of its own (found the running script)"),
    ],
)
def test_what_cannot_be_identified_is_refused(module: str, told: str) -> None:
    with pytest.raises(SpecError) as raised:
        source_of(module)
    assert told in str(raised.value)


def test_a_file_that_is_no_python(user_module: UserModule, tmp_path: Path) -> None:
    told = complaint(f"{user_module('def f(:')}:f")
    assert "brought.py: cannot be read as Python (invalid syntax, line 1)" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nowhere\nf = 1\n", "ModuleNotFoundError: No module named 'nowhere' (brought.py, "),
        ("print('noise')\n1 / 0\n", "ZeroDivisionError: division by zero (brought.py, line 2)"),
        ("import sys\nsys.exit('enough')\n", "SystemExit: enough (brought.py, line 2)"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines (brought.py, line 1)"),
        ("from other import g\nf = 1\n", "partially initialized module"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line(
    user_module: UserModule, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    user_module("from brought import f\ng = 1\n", "other")
    found = complaint(f"{user_module(text)}:f")
    assert found.startswith("brought cannot be imported: ")
    assert told in found
    assert capsys.readouterr().out == "", "what it prints is not printed among ours"


def test_a_mistake_may_be_mended_without_a_new_process(user_module: UserModule) -> None:
    complaint(f"{user_module('1 / 0')}:answer")
    assert load(f"{user_module('answer = 1')}:answer") == 1


def test_a_missing_name_is_answered_with_the_nearest(user_module: UserModule) -> None:
    name = user_module("def small(): ...\n")
    assert "has no 'smal'; did you mean 'small'?" in complaint(f"{name}:smal")


def test_code_that_changed_since_is_refused(user_module: UserModule) -> None:
    name = user_module("answer = 1\n")
    source = source_of(name)
    assert load(f"{name}:answer", source) == 1
    user_module("answer = 2\n")
    with pytest.raises(SpecError, match=f"has changed since the trial was made .* {source}"):
        load(f"{name}:answer", source)
    with pytest.raises(SpecError, match="has changed since this process imported it"):
        load(f"{name}:answer", source_of(name))
