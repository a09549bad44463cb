"""Episodes that are read from disk whenever they are gone through, and never held together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from robot_rl.data.dataset import Dataset
from robot_rl.data.episode import Episode
from robot_rl.data.reward import RewardFn, relabel


class Episodes(Protocol):
    """A number of episodes that can be gone through more than once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Episode]: ...


@dataclass(frozen=True)
class Selection:
    """Some episodes of a dataset, in order, with the reward of choice.

    Args:
        dataset: Where they are.
        indices: Which they are.
        reward: Reward of arriving in observations; None for the logged one.
    """

    dataset: Dataset
    indices: tuple[int, ...]
    reward: RewardFn | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Episode]:
        """Read them one by one."""
        episodes = self.dataset.read(self.indices)
        return episodes if self.reward is None else relabel(episodes, self.reward)
