"""A bundle with random weights, for measuring time: imports torch, so it runs in a process of its own.

python -m deploy.bench.untrained FOLDER RATE_HZ HIDDEN [HIDDEN ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from deploy.bundle.export import export_policy
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.actor import DeterministicActor, Policy, Scaler
from robot_rl.spec import Spec
from sim.virtual_arm import build_spec, load_model


def make_bundle(folder: Path, spec: Spec, hidden: tuple[int, ...]) -> None:
    """Export an untrained actor for `spec`."""
    torch.manual_seed(0)
    stats = ObservationStats(np.zeros(spec.obs_dim, np.float32), np.ones(spec.obs_dim, np.float32))
    actor = DeterministicActor(spec.obs_dim, spec.action_dim, hidden)
    trained = TrainedPolicy(
        module=Policy(actor, Scaler(spec, stats)),
        spec=spec,
        stats=stats,
        step=0,
        algorithm="none",
        data=Path("none"),
        run=Path("untrained"),
    )
    export_policy(trained, folder, [])


if __name__ == "__main__":
    where, rate_hz, *widths = sys.argv[1:]
    make_bundle(Path(where), build_spec(load_model(), float(rate_hz)), tuple(map(int, widths)))
