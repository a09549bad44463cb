"""What `robot-rl bench online` is told: arms, and the teachers they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from robot_rl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OnlineRecipe:
    """What an online bench file holds."""

    name: str  # of the bench
    seeds: tuple[int, ...]  # of weights, batches, exploration and evaluation
    # name -> {pretrain: keys of `pretrain`, finetune: of `finetune`, teacher: a name, data: name of one whose sources,
    #          seeds: only these of the bench's}
    arms: dict[str, dict[str, Any]]
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict[str, Any])  # name -> keys of `pretrain teacher`
    pretrain: dict[str, Any] = field(default_factory=dict[str, Any])  # for every arm that pretrains
    finetune: dict[str, Any] = field(default_factory=dict[str, Any])  # for every arm
    measure: Literal["success", "return"] = (
        "success"  # what is compared; for environments that tell no success, the return
    )
    thresholds: tuple[float, ...] = (0.8, 0.9)  # of what is compared
    about: str = ""  # what was decided before, on which seeds

    def __post_init__(self) -> None:
        for arm, parts in self.arms.items():
            if others := sorted({*parts.get("seeds", ())} - {*self.seeds}):
                raise ConfigError(
                    f"Arm '{arm}' has seeds {others}; the bench has {[*self.seeds]}. Name them there too."
                )

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(arm, seed), all arms of a seed at a time."""
        return [
            (arm, seed)
            for seed in self.seeds
            for arm, parts in self.arms.items()
            if seed in parts.get("seeds", self.seeds)
        ]
