"""The latest episodes of an online run, and what they say of how it explores."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

ENOUGH = 5  # episodes by which exploring is judged


class RecentEpisodes:
    """Return and success (NaN where unknown) of the latest 20 episodes, for the log."""

    def __init__(self) -> None:
        self.table = torch.zeros(0, 2, dtype=torch.float64)

    def add(self, total_reward: float, success: bool | None) -> None:
        """Note an episode that ended."""
        row = torch.tensor([[total_reward, math.nan if success is None else float(success)]], dtype=torch.float64)
        self.table = torch.cat([self.table, row])[-20:]

    def scalars(self) -> dict[str, float]:
        """Their means; empty before the first."""
        if not len(self.table):
            return {}
        mean, success = self.table.mean(0).tolist()
        return {"collect/return": mean} | ({} if math.isnan(success) else {"collect/success": success})

    def too_wide(self, evaluated: Mapping[str, float]) -> str | None:
        """Words for the user where a policy that succeeds fails once it explores; None where it doesn't, or too early.

        Args:
            evaluated: Scalars of an evaluation of the same policy without exploration.
        """
        alone, exploring = evaluated.get("eval/success", 0.0), self.scalars().get("collect/success", 1.0)
        if len(self.table) < ENOUGH or alone < 0.5 or exploring >= alone / 2:
            return None
        return (
            f"The policy succeeds in {alone:.0%} of episodes by itself and in {exploring:.0%} while it explores, so it "
            "learns from failures. Let it explore less: --agent.exploration (td3-bc), or --agent.first-std and, for "
            "sac, --agent.alpha, given to pretrain."
        )
