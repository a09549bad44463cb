"""Predictors that a world model must beat: nothing changes, and linear least squares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robot_rl.data.replay import Batch

Predictor = Callable[[Tensor, Tensor], Tensor]  # observation (B, S), encoded action (B, U) -> next observation
RIDGE = 1e-4  # penalty on the weights, per row; keeps collinear dimensions finite


def last_state(obs: Tensor, action: Tensor) -> Tensor:
    """s' = s."""
    return obs


def linear(rows: Batch) -> Predictor:
    """s' = s + W [s, a, 1], W by ridge regression on normalised `rows`."""
    x = _design(rows.obs, rows.action).double()
    penalty = RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ (rows.next_obs - rows.obs).double()).float()
    return lambda obs, action: obs + _design(obs, action) @ weights


def _design(obs: Tensor, action: Tensor) -> Tensor:
    return torch.cat([obs, action, torch.ones_like(obs[:, :1])], -1)
