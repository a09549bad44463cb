"""Batches drawn from two sources: logged and online data, demonstrations and corrections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from robot_rl.data.replay import Batch, TransitionSource
from robot_rl.data.sequences import Sequences, SequenceSource, joined
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class Pool:
    """Two sources drawn from as if they were one: uniformly over the transitions of both.

    Args:
        first: While `second` is empty, batches are the same as those of `first` alone.
        second: May grow.
    """

    first: TransitionSource
    second: TransitionSource

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions, those from `first` in front."""
        if len(self.second) == 0:
            return self.first.sample(size, generator)
        drawn = torch.randint(len(self), (size,), generator=generator, device=generator.device)
        count = int((drawn < len(self.first)).sum())
        if count in (0, size):
            return (self.first if count else self.second).sample(size, generator)
        return _joined(self.first.sample(count, generator), self.second.sample(size - count, generator))

    def sequences(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """`count` pieces, those from `first` in front."""
        if len(self.second) == 0:
            return of_sequences(self.first).sequences(count, length, generator)
        drawn = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        split = int((drawn < len(self.first)).sum())
        return _parted((self.first, split), (self.second, count - split), length, generator)


@dataclass(frozen=True)
class Mixture:
    """Batches of which a fixed share comes from `offline` and the rest from `online`.

    Args:
        offline: Logged data and demonstrations; while there are none, all of the batch is online.
        online: The run's own data; while it is empty, all of the batch is offline.
        offline_share: In [0, 1].
    """

    offline: TransitionSource
    online: TransitionSource
    offline_share: float

    def __post_init__(self) -> None:
        if not 0 <= self.offline_share <= 1:
            raise ConfigError(f"offline_share is {self.offline_share}; it must lie in [0, 1].")

    def __len__(self) -> int:
        return len(self.offline) + len(self.online)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions, `round(offline_share * size)` of them offline."""
        first = self._offline_of(size)
        if first == size:
            return self.offline.sample(size, generator)
        if first == 0:
            return self.online.sample(size, generator)
        return _joined(self.offline.sample(first, generator), self.online.sample(size - first, generator))

    def sequences(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """`count` pieces, `round(offline_share * count)` of them offline."""
        split = self._offline_of(count)
        return _parted((self.offline, split), (self.online, count - split), length, generator)

    def _offline_of(self, size: int) -> int:
        share = self.offline_share if len(self.online) else 1.0
        return round(share * size) if len(self.offline) else 0


def of_sequences(source: TransitionSource) -> SequenceSource:
    """`source` as one of sequences.

    Raises:
        ConfigError: If it knows transitions alone.
    """
    if not hasattr(source, "sequences"):
        raise ConfigError(
            "This learner is trained on pieces of episodes, and a world model's batches are single transitions: leave "
            "out --world-model."
        )
    return cast("SequenceSource", source)


def _parted(
    one: tuple[TransitionSource, int], two: tuple[TransitionSource, int], length: int, generator: torch.Generator
) -> Sequences:
    """So many pieces of the one and so many of the other."""
    drawn = [of_sequences(source).sequences(count, length, generator) for source, count in (one, two) if count]
    return drawn[0] if len(drawn) == 1 else joined(*drawn)


def _joined(one: Batch, two: Batch) -> Batch:
    return Batch(*(torch.cat(pair) for pair in zip(one, two, strict=True)))
