"""Pieces of episodes, for learners that remember."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Sequences(NamedTuple):
    """B pieces of at most L transitions, time first, in the robot's units.

    A piece that ends early is filled up with its last observation.

    Args:
        obs: (L+1, B, S).
        action: (L, B, A), as executed.
        reward: (L, B).
        mask: (L, B), 0 where the task terminated, else 1.
        valid: (L, B), whether the transition exists, and with it the observation after it.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    mask: Tensor
    valid: Tensor


class SequenceSource(Protocol):
    """Whatever pieces of episodes can be drawn from."""

    def sequences(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """`count` pieces of `length` transitions; each transition is equally likely to be in the middle of one."""
        ...


def joined(one: Sequences, two: Sequences) -> Sequences:
    """The pieces of both, those of `one` in front."""
    return Sequences(*(torch.cat(pair, dim=1) for pair in zip(one, two, strict=True)))


def span(ends: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Where pieces around picked rows start, and how long they are.

    Args:
        ends: (B, 2L-1), whether nothing follows a row; the picked one is in the middle, at L-1.
        offset: (B,), how many rows before the picked one the piece shall start, in [0, L).

    Returns:
        First row of each piece, counted from the first column, and the number of its rows, (B,) each.
    """
    length = (ends.shape[1] + 1) // 2
    free = (~ends).long()
    back = free[:, : length - 1].flip(1).cumprod(1).sum(1)  # rows before it in the same episode
    ahead = free[:, length - 1 : -1].cumprod(1).sum(1)
    earliest = length - 1 - back
    start = torch.minimum(length - 1 - offset, ahead)  # full pieces where the episode has so many rows
    start = torch.maximum(start, earliest)
    return start, (length + ahead - start).clamp(max=length)
