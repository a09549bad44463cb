"""Policies with a memory, the way they are evaluated, exported and served.

The memory is one flat vector that goes in and comes out, so that an ONNX graph, a robot's computer and a
test treat it alike: zeros where an episode begins, else what the last call returned. Its last A numbers are
the action that was executed; whoever executes another one writes it there before the next call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class RecurrentPolicy(nn.Module, ABC):
    """Raw observation and memory in, executable action and memory out.

    Args:
        state_dim: Width M of the memory, the last executed action included.
    """

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        self.state_dim = state_dim

    @abstractmethod
    def forward(self, obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Deterministic executable action and the memory after it, (B, S), (B, M) -> (B, A), (B, M)."""


class RecurrentBehaviour(nn.Module, ABC):
    """A `RecurrentPolicy` as it acts while collecting, with its own exploration noise.

    Args:
        state_dim: Width M of the memory.
    """

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        self.state_dim = state_dim

    @abstractmethod
    def forward(self, obs: Tensor, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Executable action and memory, (B, S), (B, M), (B, A) -> (B, A), (B, M); `noise` is standard normal."""
