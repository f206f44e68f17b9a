"""Networks of one's own at the command line: the example, and mistakes before anything trains."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from switokd import user_modules
from switokd.tracking.run_names import find_run
from tests.cli.conftest import User

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "experiments" / "own"
SHORT = ("recipe.epochs=1", "recipe.milestones=[]", "recipe.train_images=200", "methods=[switokd]")
EXPERIMENT = """
name: own
dataset: digits
cohorts: [{{teachers: [resnet20], students: [{student}]}}]
methods: [dml]
recipe: {{epochs: 1, batch_size: 512, image_size: 8}}
"""


@pytest.fixture(autouse=True)
def _modules_of_this_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_modules, "_imported", {})
    known = set(sys.modules)
    yield
    for name in {"own_networks", "own_methods", "mine", "yours"} - known:
        sys.modules.pop(name, None)


def test_the_example_trains_and_is_looked_at(user: User) -> None:
    shutil.copytree(EXAMPLE, user.folder / "example")
    assert user.types("train", "example/networks.yaml", *SHORT) == 0
    assert "shufflenet>small_16+small_8 switokd tau=1 seed=0" in user.output
    (folder,) = user.folder.glob("runs/own-networks/trials/*")
    assert user.types("evaluate", folder.name) == 0
    rows = [line.split()[:2] for line in user.output.splitlines() if "digits" in line]
    assert sorted(rows) == [["S1", "small_16"], ["S2", "small_8"], ["T1", "shufflenet"]]
    assert user.types("explain", folder.name, "--images", "2") == 0
    assert "peak_overlap T1-S2" in user.output
    assert user.types("export", folder.name, "--network", "S2") == 0
    run = find_run(folder.name)
    params = run.data.params
    assert params["S2.arguments"] == '{"width": 8}'
    assert params["T1.source"].startswith("torchvision==")
    assert params["S1.source"] == params["S2.source"]
    # the trained networks may teach: a bare file of one is a frozen teacher
    teacher = f"model: own_networks:small, weights: {folder}/weights/S1-best.pt, frozen: true"
    text = EXPERIMENT.format(student="resnet20").replace("[resnet20], s", f"[{{{teacher}}}], s")
    (user.folder / "example" / "second.yaml").write_text(text, encoding="utf-8")
    assert user.types("train", "example/second.yaml") == 0
    (line,) = (line for line in user.output.splitlines() if line.startswith("best_val_top1/T1"))
    assert float(line.split()[1]) == pytest.approx(own_top1(user, folder), abs=0.01)


def own_top1(user: User, folder: Path) -> float:
    """The top-1 of S1's best weights at the image size of the second experiment."""
    path = folder / "weights" / "S1-best.pt"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"image_size": 8}, user.folder / "small.pt")
    assert user.types("evaluate", "small.pt") == 0
    (row,) = (line.split() for line in user.output.splitlines() if "digits" in line)
    return float(row[2])


def test_a_method_of_ones_own_trains_beside_ours(user: User) -> None:
    shutil.copytree(EXAMPLE, user.folder / "example")
    chosen = 'methods=[{"own_methods:LogitMatching": {weight: 0.5}}]'
    assert user.types("train", "example/method.yaml", *SHORT[:3], chosen) == 0
    assert "wrn_16_1>own_networks:small own_methods:LogitMatching(weight=0.5)" in user.output
    assert user.types("compare", "own-method") == 0
    assert "own_methods:LogitMatching(weight=0.5)" in " ".join(user.output.split())


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nowhere", "mine cannot be imported: ModuleNotFoundError: No module named 'nowh"),
        ("print('x')\nimport yours", "mine cannot be imported: ImportError: cannot import name "),
        ("def net(width): ...", "mine:net: missing a required argument: 'width' (it takes: widt"),
        ("def net(num_classes):\n  print('x')\n  raise OSError('oh')", "OSError: oh (mine.py, li"),
        (
            "from torch import nn\nfrom torchvision.models import resnet18\n"
            "def net(num_classes):\n  return resnet18()",
            "must give logits (2, 10) for images (2, 3, 8, 8) (found (2, 1000); its builder is",
        ),
    ],
)
def test_a_mistake_is_one_message_before_anything_trains(user: User, code: str, told: str) -> None:
    (user.folder / "mine.py").write_text(code, encoding="utf-8")
    (user.folder / "yours.py").write_text("from mine import net\n", encoding="utf-8")
    text = EXPERIMENT.format(student="'mine:net'")
    (user.folder / "own.yaml").write_text(text, encoding="utf-8")
    for command in ("train", "sweep"):
        message = user.is_told(command, "own.yaml")
        assert told in message
        assert "\n" not in message
    client = MlflowClient(f"sqlite:///{user.folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("own")
    assert experiment is None or not client.search_runs([experiment.experiment_id])


def test_models_lists_those_that_are_named(user: User) -> None:
    shutil.copy(EXAMPLE / "own_networks.py", user.folder)
    assert user.types("models", "own_networks:small", "torchvision/squeezenet1_1") == 0
    first, second = (line.split() for line in user.output.splitlines()[1:3])
    # 3 x 16 x 9 + 16 x 32 x 9 + 2 x (16 + 32) + 33 x 1000
    assert first[:3] == ["own_networks:small", "1000", "38,136"]
    # at 32 x 32: 16 x 16 x 16 x 27 + 8 x 8 x 32 x 144 + 32 x 1000
    assert first[3] == "437,504"
    assert second[0] == "torchvision/squeezenet1_1"
    assert "no module 'nowhere'" in user.is_told("models", "nowhere:net")
