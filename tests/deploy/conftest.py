"""A small policy and a bundle of it, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deploy.bundle.contract import Contract
from deploy.bundle.export import export_policy
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.actor import DeterministicActor, Policy, Scaler
from robot_rl.spec import Spec
from sim.virtual_arm import build_spec, load_model

Make = Callable[..., TrainedPolicy]


@pytest.fixture(scope="session")
def reach_spec() -> Spec:
    return build_spec(load_model(), 50.0)


@pytest.fixture(scope="session")
def make_trained() -> Make:
    def make(spec: Spec, module: nn.Module | None = None) -> TrainedPolicy:
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        stats = ObservationStats(
            rng.normal(size=spec.obs_dim).astype(np.float32),
            rng.uniform(0.1, 2.0, spec.obs_dim).astype(np.float32),
        )
        actor = DeterministicActor(spec.obs_dim, spec.action_dim, (32, 32), dropout=0.1)
        return TrainedPolicy(
            module=module or Policy(actor, Scaler(spec, stats)),
            spec=spec,
            stats=stats,
            step=1234,
            algorithm="bc",
            data=Path("gone"),
            run=Path("outputs/reach"),
        )

    return make


@pytest.fixture(scope="session")
def trained(make_trained: Make, reach_spec: Spec) -> TrainedPolicy:
    return make_trained(reach_spec)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, trained: TrainedPolicy) -> tuple[Path, Contract]:
    folder = tmp_path_factory.mktemp("export") / "bundle"
    recorded = np.random.default_rng(3).normal(size=(300, trained.spec.obs_dim)).astype(np.float32)
    return folder, export_policy(trained, folder, [recorded])
