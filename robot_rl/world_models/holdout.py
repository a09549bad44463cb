"""Which episodes a world model never learns from, now or when it is refitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from robot_rl.data.episode import Episode
from robot_rl.errors import DataError


@dataclass(frozen=True)
class Holdout:
    """Chooses by how an episode begins, not by a draw: one that was held out once stays so, whatever comes beside it.

    Args:
        share: Of episodes, in (0, 1), on average.
        seed: Another one holds out others.
    """

    share: float = 0.1
    seed: int = 0

    def split(self, episodes: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
        """Training and held-out episodes, in their order; at least one on each side.

        An episode of a single step whose outcome is not logged has nothing to learn or to judge by, and is on neither.

        Raises:
            DataError: If there are fewer than two episodes.
        """
        episodes = [episode for episode in episodes if episode.transitions]
        if len(episodes) < 2:
            raise DataError(
                f"A world model needs episodes to hold out, and there are {len(episodes)}. Record at least 2."
            )
        ranks = [self._rank(episode) for episode in episodes]
        order = sorted(range(len(episodes)), key=ranks.__getitem__)
        count = sum(rank < self.share for rank in ranks)
        held = set(order[: min(max(1, count), len(episodes) - 1)])
        return [e for i, e in enumerate(episodes) if i not in held], [episodes[i] for i in sorted(held)]

    def _rank(self, episode: Episode) -> float:
        """In [0, 1), by the first two observations: the same while an episode is still growing."""
        begins = self.seed.to_bytes(8, "little", signed=True) + episode.observations[:2].tobytes()
        return int.from_bytes(hashlib.sha256(begins).digest()[:8], "little") / 2**64
