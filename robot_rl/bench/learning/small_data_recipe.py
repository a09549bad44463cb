"""What `robot-rl bench small-data` is told: tasks, world models and arms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from robot_rl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset, and what counts as solved in its environment."""

    data: str  # dataset folder, below --data
    threshold: float  # normalised score to reach
    low: float  # return, or share of successes, that scores 0
    high: float  # that scores 100
    measure: Literal["return", "success"] = "return"  # what an evaluation is scored by


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to the goal."""

    finetune: dict[str, Any]  # keys of `finetune`
    pretrain: dict[str, Any] | None = None  # keys of `pretrain`; none starts online
    model: str = ""  # name of the world model that augments pretraining
    online_model: bool = False  # it augments fine-tuning as well
    logged: bool = False  # fine-tuning is given the logged data


@dataclass(frozen=True, kw_only=True)
class SmallDataRecipe:
    """What a bench file holds."""

    name: str  # of the bench
    seeds: tuple[int, ...]  # of everything
    tasks: dict[str, Task]
    arms: dict[str, Arm]
    baseline: str  # the arm that speed-ups are relative to
    compare: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # an arm, and those it is held against
    models: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])  # keys of `world-model`
    pretrain: dict[str, Any] = field(default_factory=dict[str, Any])  # keys for every arm
    finetune: dict[str, Any] = field(default_factory=dict[str, Any])  # keys for every arm
    about: str = ""  # what was decided before, on which seeds

    def __post_init__(self) -> None:
        if self.baseline not in self.arms:
            raise ConfigError(f"baseline '{self.baseline}' is not one of the arms {list(self.arms)}.")
        unknown = {name for arm, others in self.compare.items() for name in (arm, *others)} - self.arms.keys()
        if unknown:
            raise ConfigError(f"compare names {sorted(unknown)}, but the arms are {list(self.arms)}.")
        for name, arm in self.arms.items():
            if arm.model and arm.model not in self.models:
                raise ConfigError(f"arm '{name}' wants world model '{arm.model}'; there are {list(self.models)}.")
