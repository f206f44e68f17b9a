"""A network from outside is tried: what would fail in training is told before, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switokd.training.tryout import try_out
from switokd.validation import SpecError


class Net(nn.Module):
    """Gives what `answer` makes of its logits and its mode."""

    def __init__(self, answer: Callable[[Tensor, bool], Any], classes: int = 7) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, classes)
        self.dropout = nn.Dropout(0.5)
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        hidden = self.dropout(self.norm(images).mean(dim=(2, 3)))
        return self.answer(self.linear(hidden), self.training)


def test_a_network_is_left_as_it_was() -> None:
    network = Net(lambda logits, training: logits).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    try_out(network, "net", 7, 8)
    assert torch.equal(torch.get_rng_state(), random)
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def fails(logits: Tensor, training: bool) -> Tensor:
    print("noise")
    return torch.cat([logits, logits[:, :1].T])


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (
            Net(lambda logits, training: logits, classes=10),
            "net in training: must give logits (2, 7) for images (2, 3, 8, 8) (found (2, 10); its "
            "builder is called with num_classes=7)",
        ),
        (
            Net(lambda logits, training: (logits, logits) if training else logits),
            "net in training: must give one tensor of logits (found tuple; auxiliary heads may",
        ),
        (
            Net(lambda logits, training: logits if training else {"logits": logits}),
            "net in evaluation: must give one tensor of logits (found dict; ",
        ),
        (Net(lambda logits, training: logits / 0), "net in training: gives logits that are not fi"),
        (Net(fails), "net fails in training on images (2, 3, 8, 8): RuntimeError: "),
        (nn.Flatten(), "net: has no parameters to train"),
    ],
)
def test_what_would_fail_in_training_is_told(
    network: nn.Module, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SpecError) as raised:
        try_out(network, "net", 7, 8)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""
