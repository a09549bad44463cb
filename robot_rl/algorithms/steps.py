"""The moves that all learners share: optimiser steps and target averaging."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Adam in its fused form (one kernel over all parameters).

    Args:
        parameters: What it steps.
        lr: Learning rate.
        weight_decay: L2 penalty added to the gradient, as in the papers' code.
    """
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


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
