"""The learners by name."""

from __future__ import annotations

from typing import Any, Literal

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.awac import AWAC, AWACConfig
from robot_rl.algorithms.bc import BC, BCConfig
from robot_rl.algorithms.dqn import DQN, DQNConfig
from robot_rl.algorithms.iql import IQL, IQLConfig
from robot_rl.algorithms.sac import SAC, SACConfig
from robot_rl.algorithms.td3_bc import TD3BC, TD3BCConfig
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.spec import Spec

AlgorithmName = Literal["bc", "td3-bc", "awac", "iql", "sac", "dqn"]
AgentConfig = BCConfig | TD3BCConfig | AWACConfig | IQLConfig | SACConfig | DQNConfig

CONFIGS: dict[str, type[Any]] = {
    "bc": BCConfig,
    "td3-bc": TD3BCConfig,
    "awac": AWACConfig,
    "iql": IQLConfig,
    "sac": SACConfig,
    "dqn": DQNConfig,
}


def build_agent(cfg: AgentConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu") -> Agent:
    """The learner that `cfg` configures.

    Raises:
        ConfigError: If it chooses among actions and the robot's are continuous, or the other way round.
    """
    if isinstance(cfg, DQNConfig) != (spec.control == "discrete"):
        kind = (
            "an index: use dqn" if spec.control == "discrete" else "continuous: dqn chooses one of a few, use another"
        )
        raise ConfigError(f"The actions here are {kind}.")
    match cfg:
        case BCConfig():
            return BC(cfg, spec, stats, seed=seed, device=device)
        case TD3BCConfig():
            return TD3BC(cfg, spec, stats, seed=seed, device=device)
        case AWACConfig():
            return AWAC(cfg, spec, stats, seed=seed, device=device)
        case IQLConfig():
            return IQL(cfg, spec, stats, seed=seed, device=device)
        case SACConfig():
            return SAC(cfg, spec, stats, seed=seed, device=device)
        case DQNConfig():
            return DQN(cfg, spec, stats, seed=seed, device=device)
