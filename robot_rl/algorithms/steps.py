"""The moves that all learners share: optimiser steps and target averaging."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_step
from torch.optim.swa_utils import get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)


class FusedAdam(torch.optim.Adam):
    """torch's fused Adam, called without the bookkeeping of options that no learner here uses.

    At a few hundred thousand weights that bookkeeping costs as much as the step itself. One parameter
    group; state and results are those of `torch.optim.Adam(..., fused=True)`, to the last bit.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step on the parameters that have a gradient."""
        group = self.param_groups[0]
        moved: list[Tensor] = [p for p in group["params"] if p.grad is not None]
        slots = [self.state[p] for p in moved]
        if closure is not None or not all(slots):  # the first step makes the state
            return super().step(closure)
        adam_step(
            moved,
            [p.grad for p in moved],  # pyright: ignore[reportArgumentType] - none is None
            [slot["exp_avg"] for slot in slots],
            [slot["exp_avg_sq"] for slot in slots],
            [],
            [slot["step"] for slot in slots],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        return None


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> FusedAdam:
    """Adam in its fused form (one kernel over all parameters).

    Args:
        parameters: What it steps.
        lr: Learning rate.
        weight_decay: L2 penalty added to the gradient, as in the papers' code.
    """
    return FusedAdam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One gradient step on `loss`."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, over all parameters at once."""
    get_ema_multi_avg_fn(1 - tau)(list(target.parameters()), list(source.parameters()), 0)


def frozen_copy(module: M, like: nn.Module) -> M:
    """`module` with the weights of `like` and without gradients: a target network."""
    module.load_state_dict(like.state_dict())
    return module.requires_grad_(False)
