"""Batch norm over a batch that several processes share: the statistics are the whole batch's.

torch's own `SyncBatchNorm` runs on GPUs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from switokd.switching import full_precision
from switokd.validation import SpecError

# sums over all ranks, in place
Sum = Callable[[Tensor], object]


class SumOverRanks(torch.autograd.Function):
    """A tensor's sum over ranks. Every rank's loss depends on it, so its gradient is summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, in_place: Sum) -> Tensor:
        ctx.in_place = in_place
        total = values.clone()
        in_place(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        ctx.in_place(total)
        return total, None


class SynchronizedBatchNorm(_BatchNorm):
    """As the batch norm it was made of (`synchronize`), over the batch of all ranks."""

    sum_over_ranks: Sum
    made_of: type[_BatchNorm]

    def _check_input_dim(self, input: Tensor) -> None:
        """Any: its own kind was checked as the network was written."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = full_precision(input)
        dims = [dim for dim in range(values.dim()) if dim != 1]
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums = self._total(torch.cat([values.sum(dim=dims), count]))
        images, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        shape = [1, -1, *[1] * (values.dim() - 2)]
        centred = values - mean.view(shape)
        variance = self._total(centred.square().sum(dim=dims)) / images
        self._remember(mean.detach(), variance.detach() * images / (images - 1))
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            scaled = scaled * self.weight.view(shape)
        if self.bias is not None:
            scaled = scaled + self.bias.view(shape)
        return scaled.to(input.dtype)

    def _total(self, values: Tensor) -> Tensor:
        total: Tensor = SumOverRanks.apply(values, self.sum_over_ranks)
        return total

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None, "kept with the running statistics"
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            # the plain mean over all batches
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronize(network: nn.Module, sum_over_ranks: Sum) -> None:
    """Let every batch norm of a network use the statistics of all ranks, in place.

    The modules stay, with their names, weights and hooks. Raises SpecError for a batch norm that
    does something of its own.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            if type(module).forward is not _BatchNorm.forward:
                name = type(module).__name__
                raise SpecError(f"{name}: a batch norm of its own cannot be shared by processes")
            own = type(module)
            module.__class__ = SynchronizedBatchNorm
            shared = cast("SynchronizedBatchNorm", module)
            shared.sum_over_ranks, shared.made_of = sum_over_ranks, own


def release(network: nn.Module) -> None:
    """Undo `synchronize`, in place."""
    for module in network.modules():
        if isinstance(module, SynchronizedBatchNorm):
            own = module.made_of
            del module.sum_over_ranks, module.made_of
            module.__class__ = own  # type: ignore[assignment]
