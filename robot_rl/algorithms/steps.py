"""The moves that all learners share: optimiser steps and target averaging."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# What torch.optim.Adam and torch.optim.swa_utils themselves call; not part of torch's typed surface.
_fused_adam: Any = vars(torch)["_fused_adam_"]
_lerp: Any = vars(torch)["_foreach_lerp_"]
M = TypeVar("M", bound=nn.Module)


class FusedAdam(torch.optim.Adam):
    """torch's fused Adam without its bookkeeping, which at a few hundred thousand weights costs as much as the step.

    The per-parameter step counters are views of one tensor, so that counting is one operation instead of one
    for each parameter. One parameter group; state and results are those of `torch.optim.Adam(..., fused=True)`,
    to the last bit (a test holds it).
    """

    _plan: tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], Tensor] | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step on all parameters; the first one, which makes the state, is torch's own."""
        group = self.param_groups[0]
        if closure is not None or len(self.state) < len(group["params"]):
            self._plan = None  # of a state that was cleared meanwhile
            return super().step(closure)
        params, means, squares, counters, count = self._plan or self._make_plan()
        grads = [p.grad for p in params]
        if any(grad is None for grad in grads):
            raise RuntimeError("FusedAdam steps all its parameters at once, but some have no gradient.")
        count += 1
        _fused_adam(
            params, grads, means, squares, [], counters,
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
            weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def load_state_dict(self, state_dict: Any) -> None:
        """As torch's."""
        super().load_state_dict(state_dict)
        self._plan = None

    def _make_plan(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], Tensor]:
        params: list[Tensor] = self.param_groups[0]["params"]
        slots = [self.state[p] for p in params]
        count = torch.stack([slot["step"] for slot in slots])
        counters = list(count.unbind(0))
        for slot, counter in zip(slots, counters, strict=True):
            slot["step"] = counter
        self._plan = (params, [s["exp_avg"] for s in slots], [s["exp_avg_sq"] for s in slots], counters, count)
        return self._plan


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> FusedAdam:
    """Adam in its fused form (one kernel over all parameters).

    Args:
        parameters: What it steps.
        lr: Learning rate.
        weight_decay: L2 penalty added to the gradient, as in the papers' code.
    """
    return FusedAdam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def real_mean(values: Tensor, real: Tensor) -> Tensor:
    """Mean of `values`, (B,), over the rows that `Batch.real` marks; 0 where it marks none."""
    return (values * real).sum() / real.sum().clamp_min(1.0)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, *, clip: float | None = None) -> None:
    """One gradient step on `loss`; the gradient's norm is kept to `clip`, where given."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    optimiser.step()


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau source, over all parameters at once."""
    _lerp(list(target.parameters()), list(source.parameters()), tau)


def frozen_copy(module: M, like: nn.Module) -> M:
    """`module` with the weights of `like` and without gradients: a target network."""
    module.load_state_dict(like.state_dict())
    return module.requires_grad_(False)
