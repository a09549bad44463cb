"""Trials: which source's actions pay, found by letting each act.

Similarity tells which source looks alike; that need not be the one whose actions help. In the first episodes each
source's replayed action acts in turn, and then none. What each earned decides whose is replayed from then on, and how
closely the actor is held to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

NO_SOURCE = "no source"
RECENT = 0.1  # share of the latest episode in the mean return of recent ones


class Trials(nn.Module):
    """The turns, what they earned, and what follows; all of it is part of a checkpoint.

    Args:
        sources: Names of the K sources.
        episodes: N, for which each source, and none, acts; 0 for no trials: the similarity weights choose the source.
    """

    acting: Tensor  # (K + 1,), one-hot of the source whose actions are replayed, or of none; zeros: the weights choose
    kept: Tensor  # (K + 1,), the same for who judges or exports the policy: the best so far, not whose turn it is
    tried: Tensor  # (K + 1,), episodes in which each acted
    earned: Tensor  # (K + 1, N), the returns of those
    since: Tensor  # (), policy version with which the present turn began; its owner sets it
    recent: Tensor  # (), mean return of the latest episodes after the trials

    def __init__(self, sources: Sequence[str], episodes: int) -> None:
        super().__init__()
        self.names, self.episodes, count = (*sources, NO_SOURCE), episodes, len(sources)
        first = torch.eye(count + 1)[0] if episodes else torch.zeros(count + 1)
        self.register_buffer("acting", first)
        self.register_buffer("kept", first.clone())
        self.register_buffer("tried", torch.zeros(count + 1))
        self.register_buffer("earned", torch.zeros(count + 1, episodes))
        self.register_buffer("since", torch.zeros((), dtype=torch.int64))
        self.register_buffer("recent", torch.zeros(()))
        self._return, self._counts = 0.0, False  # of the episode that is on its way; False until one begins

    @property
    def running(self) -> bool:
        """Whether the sources are still being tried."""
        return bool((self.tried < self.episodes).any())

    @property
    def alone(self) -> bool:
        """Whether nothing is proposed."""
        return bool(self.acting[-1])

    @property
    def turns(self) -> int:
        """How many there were."""
        return int(self.tried.sum())

    @property
    def earnings(self) -> dict[str, float]:
        """Median return of each source's episodes, and of those without; of those that had some."""
        return {self.names[number]: median for number, median in self._medians.items()}

    @property
    def hold(self) -> float:
        """How much of the cloning weight holds the actor near what is proposed, in [0, 1].

        1 until the policy earns more than its source did, 0 once that is twice as much above what was earned without a
        source; 0 as well where nothing is proposed.
        """
        if self.alone:
            return 0.0
        if self.running or not bool(self.acting.any()):
            return 1.0
        alone, source = _median(self.earned[-1]), _median(self.earned[int(self.acting.argmax())])
        if source <= alone:  # without trials
            return 1.0
        return min(1.0, max(0.0, 2.0 - (float(self.recent) - alone) / (source - alone)))

    def witness(self, row: Any) -> None:
        """The next transition of an actor, a record of `transition_dtype`; an episode that ends with it is noted.

        Episodes that began with a policy of an earlier turn count for none, nor do those in which a person intervened.
        """
        if row["starts"]:
            self._return, self._counts = 0.0, True
        self._return += float(row["reward"])
        if (
            row["intervention"]
            or not math.isfinite(self._return)
            or (self.running and row["policy_version"] < self.since)
        ):
            self._counts = False
        if row["terminated"] or row["truncated"]:
            if self._counts:
                self.note(self._return)
            self._counts = False

    def note(self, return_: float) -> None:
        """An episode ended with this return: it counts for the one that acted, and the next one's turn comes.

        After the last, the source with the largest median is kept to, which one lucky episode does not decide; none, if
        that is not above what was earned without a source by more than returns mostly range (in the median over sources
        and none). Where all medians are the same, the weights choose. Later episodes tell how well the policy does.
        """
        if not self.running:
            self.recent.lerp_(self.recent.new_tensor(return_), RECENT)
            return
        acted = int(self.tried.argmin())
        self.earned[acted, int(self.tried[acted])] = return_
        self.tried[acted] += 1
        told = self._medians
        best = max(told, key=told.__getitem__)
        if self.running:
            _choose(self.acting, int(self.tried.argmin()))
            _choose(self.kept, best)
            return
        chance = _median(self.earned.amax(1) - self.earned.amin(1))  # so much do returns of one and the same differ
        alone = len(self.acting) - 1
        if max(told.values()) == min(told.values()):
            chosen = None
        else:
            chosen = best if told[best] > told[alone] + chance else alone
        self.recent.fill_(told[best])
        _choose(self.acting, chosen)
        _choose(self.kept, chosen)

    @property
    def _medians(self) -> dict[int, float]:
        """By number in `names`, of those that had episodes."""
        had = enumerate(zip(self.earned, map(int, self.tried), strict=True))
        return {number: _median(returns[:tried]) for number, (returns, tried) in had if tried}


def _choose(which: Tensor, number: int | None) -> None:
    """Make a one-hot of `number`; None leaves the choice to the weights."""
    which.zero_()
    if number is not None:
        which[number] = 1.0


def _median(returns: Tensor) -> float:
    """Of (N,); of an even number the mean of the two in the middle."""
    return float(returns.quantile(0.5))
