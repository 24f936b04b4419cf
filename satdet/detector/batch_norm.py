"""Batch norm over the tiles of all workers of a trial, so that its statistics do not depend on how many there are."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics are those of all workers' inputs together, on the CPU as well.

    torch's own `SyncBatchNorm` works on GPUs only. In evaluation mode it is torch's batch norm.

    Parameters
    ----------
    original : BatchNorm2d
        Whose parameters and running averages it takes over.
    group : ProcessGroup
        Its messages must not get among others', whose order may differ between the workers.
    """

    def __init__(self, original: nn.BatchNorm2d, group: Any) -> None:
        super().__init__(original.num_features, original.eps, original.momentum, original.affine)
        self.weight, self.bias = original.weight, original.bias
        self.running_mean, self.running_var = original.running_mean, original.running_var
        self.num_batches_tracked = original.num_batches_tracked
        self.training = original.training
        self._group = group

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and variance of each channel over all workers' inputs."""
        if not self.training:
            return super().forward(input)
        totals = _Total.apply(_sums(input), self._group)
        first, second, number = totals.tensor_split([self.num_features, 2 * self.num_features])
        mean = first / number
        variance = (second / number - mean.square()).clamp(min=0)
        self._follow(mean.detach(), variance.detach(), number.detach())
        scale = self.weight.double() * (variance + self.eps).rsqrt()
        shift = self.bias.double() - mean * scale
        normalised = torch.addcmul(shift.float()[:, None, None], input.float(), scale.float()[:, None, None])
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        """Move the running averages, as torch does, by the variance without bias."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        unbiased = variance * number / (number - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)


def _sums(input: Tensor) -> Tensor:
    """Sum and sum of squares of each channel, and the number of values in one, (2 C + 1,) float64."""
    channels = input.shape[1]
    count = input.numel() / channels
    if not count:  # a worker none of whose tiles has anything to learn from
        return torch.cat([input.double().flatten(), input.new_zeros(2 * channels + 1, dtype=torch.float64)])
    variance, mean = (moment.double() for moment in torch.var_mean(input.float(), (0, 2, 3), correction=0))
    # Moments about zero can be added up; in double precision their difference is exact enough.
    return torch.cat([mean * count, (variance + mean.square()) * count, mean.new_tensor([count])])


class _Total(torch.autograd.Function):
    """The sum over all workers; a gradient of it is the sum of all workers' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


def share_batch_norm(module: nn.Module, group: Any) -> None:
    """Replace, in place, batch norm with parameters in `module` by batch norm over all workers of `group`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _shared(child, group))
        else:
            share_batch_norm(child, group)


def shares_batch_norm(module: nn.Module) -> bool:
    """Whether there is batch norm over all workers in `module`."""
    return any(isinstance(each, (SharedBatchNorm2d, nn.SyncBatchNorm)) for each in module.modules())


def _shared(original: nn.BatchNorm2d, group: Any) -> nn.Module:
    if original.weight.device.type != "cuda":
        return SharedBatchNorm2d(original, group)
    shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(original, group)  # type: ignore[no-untyped-call]
    return shared
