"""The learners by name."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.awac import AWAC, AWACConfig
from robot_rl.algorithms.bc import BC, BCConfig
from robot_rl.algorithms.dqn import DQN, DQNConfig
from robot_rl.algorithms.dreamer import Dreamer, DreamerConfig
from robot_rl.algorithms.iql import IQL, IQLConfig
from robot_rl.algorithms.latent_sac import LatentSAC, LatentSACConfig
from robot_rl.algorithms.sac import SAC, SACConfig
from robot_rl.algorithms.td3_bc import TD3BC, TD3BCConfig
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.ranges import require_ranges
from robot_rl.spec import Spec

AlgorithmName = Literal["bc", "td3-bc", "awac", "iql", "sac", "dqn", "latent-sac", "dreamer"]
AgentConfig = BCConfig | TD3BCConfig | AWACConfig | IQLConfig | SACConfig | DQNConfig | LatentSACConfig | DreamerConfig

LEARNERS: dict[str, tuple[type[Any], type[Agent]]] = {
    "bc": (BCConfig, BC),
    "td3-bc": (TD3BCConfig, TD3BC),
    "awac": (AWACConfig, AWAC),
    "iql": (IQLConfig, IQL),
    "sac": (SACConfig, SAC),
    "dqn": (DQNConfig, DQN),
    "latent-sac": (LatentSACConfig, LatentSAC),
    "dreamer": (DreamerConfig, Dreamer),
}
CONFIGS: dict[str, type[Any]] = {name: config for name, (config, _) in LEARNERS.items()}


def build_agent(cfg: AgentConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu") -> Agent:
    """The learner that `cfg` configures.

    Raises:
        ConfigError: If an option is out of its range, or it chooses among actions and the robot's are continuous, or
            the other way round.
    """
    require_ranges(cfg, "agent")
    if isinstance(cfg, DQNConfig) != (spec.control == "discrete"):
        kind = (
            "an index: use dqn" if spec.control == "discrete" else "continuous: dqn chooses one of a few, use another"
        )
        raise ConfigError(f"The actions here are {kind}.")
    if not (np.isfinite(spec.action_low).all() and np.isfinite(spec.action_high).all()):
        raise ConfigError(
            f"Actions here reach from {spec.action_low.tolist()} to {spec.action_high.tolist()}; learners need finite "
            f"bounds. Wrap the environment in gymnasium.wrappers.RescaleAction, or give logs whose actions have bounds."
        )
    make: Any = next(learner for config, learner in LEARNERS.values() if config is type(cfg))
    return make(cfg, spec, stats, seed=seed, device=device)
