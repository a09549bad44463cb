"""The world models by name."""

from __future__ import annotations

from typing import Any, Literal

from robot_rl.data.stats import ObservationStats
from robot_rl.ranges import require_ranges
from robot_rl.spec import Spec
from robot_rl.world_models.ensemble import EnsembleConfig, EnsembleModel
from robot_rl.world_models.model import Targets, WorldModel
from robot_rl.world_models.vae import VAEConfig, VAEModel

ModelName = Literal["vae", "ensemble"]
AnyModelConfig = VAEConfig | EnsembleConfig

MODEL_CONFIGS: dict[str, type[Any]] = {"vae": VAEConfig, "ensemble": EnsembleConfig}


def build_model(
    cfg: AnyModelConfig,
    spec: Spec,
    stats: ObservationStats,
    targets: Targets | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> WorldModel:
    """The model that `cfg` configures.

    Raises:
        ConfigError: If an option is out of its range.
    """
    require_ranges(cfg, "model")
    match cfg:
        case VAEConfig():
            return VAEModel(cfg, spec, stats, targets, seed=seed, device=device)
        case EnsembleConfig():
            return EnsembleModel(cfg, spec, stats, targets, seed=seed, device=device)
