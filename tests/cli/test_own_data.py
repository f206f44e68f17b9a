"""A data set of one's own at the command line: the example, and what looks at its networks."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from switokd import user_modules
from switokd.tracking.run_names import find_run
from tests.cli.conftest import User

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "experiments" / "own"
SHORT = ("recipe.epochs=1", "recipe.milestones=[]", "recipe.train_images=200", "methods=[switokd]")


@pytest.fixture(autouse=True)
def _modules_of_this_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_modules, "_imported", {})
    yield
    sys.modules.pop("own_data", None)


def test_the_example_trains_and_is_looked_at(user: User, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(EXAMPLE, user.folder / "example")
    assert user.types("train", "example/data.yaml", *SHORT) == 0
    (folder,) = user.folder.glob("runs/own-data/trials/*")
    (kept,) = user.folder.glob("data/.own/own_data.make-*/about.json")
    assert "digit 7" in kept.read_text()
    for target in (folder.name, str(folder / "weights" / "S1-best.pt")):
        assert user.types("evaluate", target) == 0
        rows = [line for line in user.output.splitlines() if "own_data:make" in line]
        assert all("digits" not in row for row in rows)
        assert len(rows) in (1, 2)
    assert user.types("explain", folder.name, "--images", "2") == 0
    assert "peak_overlap T1-S1" in user.output
    assert user.types("export", folder.name, "--network", "S1") == 0
    run = find_run(folder.name)
    assert run.data.params["dataset_arguments"] == '{"noise": 0.2}'
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "own_data:make"
    # what the code gives by now is another thing: told, and evaluated all the same
    code = user.folder / "example" / "own_data.py"
    code.write_text(code.read_text().replace("TEST_IMAGES = 400", "TEST_IMAGES = 300"))
    user_modules._imported.clear()
    sys.modules.pop("own_data", None)
    assert user.types("evaluate", folder.name, "--network", "S1") == 0
    assert "the code of own_data:make has changed since" in caplog.text
    assert "own_data:make: other images than when the trial was made" in caplog.text
