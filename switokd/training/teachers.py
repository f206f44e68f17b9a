"""Networks that only teach: whose weights teach when, and what they say, computed once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from switokd.training.exclusive import GPU
from switokd.training.maps import MapRecorder, Maps

# outputs that would take more memory are computed in each step
MOST_BYTES = 1 << 30

StateDict = Mapping[str, Tensor]


class TrainedTeachers:
    """The weights of teachers that other trials have trained.

    `weights`: by teacher, and by the epoch (from 1) up to which they teach. A teacher with several
    learns along with its student (route-constrained optimization; Jin et al., ICCV 2019).
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], weights: Mapping[str, Mapping[int, StateDict]]
    ) -> None:
        self.weights = weights
        self._networks = networks
        self._teaches_until: dict[str, int] = {}

    def prepare(self, finished_epochs: int) -> bool:
        """Give each teacher the weights of the epoch to come; whether any has others than before.

        They are changed in place.
        """
        changed = False
        for name, by_epoch in self.weights.items():
            until = min((e for e in by_epoch if e > finished_epochs), default=max(by_epoch))
            if self._teaches_until.get(name) != until:
                self._networks[name].load_state_dict(by_epoch[until])
                self._teaches_until[name] = until
                changed = True
        return changed


class FrozenOutputs:
    """Logits and maps of networks that only teach, for every training image.

    For images that are the same in each epoch. `networks`: those that only teach; `train_size`: the
    number of training images; `shapes`: (C, H, W) of the maps that the method asks of them.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        maps: MapRecorder | None,
        train_size: int,
        num_classes: int,
        shapes: Mapping[str, Mapping[str, torch.Size]],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._networks = dict(networks)
        self._recorder = maps
        self._dtype = dtype
        self._logits = {
            name: torch.zeros(train_size, num_classes, device=device, dtype=dtype)
            for name in networks
        }
        self._maps = {
            name: {
                stage: torch.zeros((train_size, *shape), device=device, dtype=dtype)
                for stage, shape in shapes.get(name, {}).items()
            }
            for name in networks
        }
        # until then they are not known
        self.ready = False

    @staticmethod
    def bytes_needed(
        train_size: int,
        num_classes: int,
        shapes: Mapping[str, Mapping[str, torch.Size]],
        networks: Iterable[str],
    ) -> int:
        """What they would take on the device."""
        numbers = sum(
            num_classes + sum(math.prod(shape) for shape in shapes.get(name, {}).values())
            for name in networks
        )
        return 4 * train_size * numbers

    @torch.no_grad()
    def fill(
        self,
        batches: Iterable[tuple[Tensor | tuple[Tensor, ...], Tensor, Tensor]],
        autocast: AbstractContextManager[None],
    ) -> None:
        """Compute them for all training images, given with their indices; in place.

        A recorded step knows tensors by their addresses.
        """
        with autocast, torch.compiler.set_stance("force_eager"):
            for images, _, indices in batches:
                GPU.give_way()
                images = images if isinstance(images, Tensor) else images[0]
                images = images.to(self._dtype).contiguous(memory_format=torch.channels_last)
                for name, network in self._networks.items():
                    logits = network(images).to(self._dtype)
                    self._logits[name].index_copy_(0, indices, logits)
                found: Maps = self._recorder.take() if self._recorder else {}
                for name, stages in self._maps.items():
                    for stage, values in stages.items():
                        values.index_copy_(0, indices, found[name][stage].to(self._dtype))
        self.ready = True

    def __contains__(self, name: str) -> bool:
        return self.ready and name in self._networks

    def logits(self, name: str, indices: Tensor) -> Tensor:
        """Of one network, (B, K), for the training images with these indices (B,)."""
        return self._logits[name].index_select(0, indices)

    def maps(self, indices: Tensor) -> Maps:
        """Of all of the networks, (B, C, H, W) by network and stage; of none, as long as they are
        not known.
        """
        if not self.ready:
            return {}
        return {
            name: {stage: values.index_select(0, indices) for stage, values in stages.items()}
            for name, stages in self._maps.items()
        }
