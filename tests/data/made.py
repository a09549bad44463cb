"""Tiny logs made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.spec import Entry, Spec, vector

SHARED = Path(__file__).parents[3] / "shared" / "data"
SPEC = Spec(
    (vector("joint_pos", 3, unit="rad"), vector("joint_vel", 3, unit="rad/s")),
    (Entry("targets", ("a", "b"), "rad", (-1.0, -1.0), (1.0, 1.0)),),
    rate_hz=20.0,
    control="joint_position",
)


def make_episode(seed: int = 0, steps: int = 40, **more: Any) -> Episode:
    rng = np.random.default_rng(seed)
    facts: dict[str, Any] = {
        "observations": rng.normal(size=(steps + 1, 6)),
        "actions": rng.uniform(-0.9, 0.9, (steps, 2)),
        "rewards": rng.normal(size=steps),
        "success": True,
        "timestamps": np.arange(steps + 1) / 20.0,
        "source": f"made:{seed}",
    }
    return Episode(**(facts | more))


def robomimic_file(path: Path, change: Callable[[h5py.File], object] = lambda f: None, demos: int = 3) -> Path:
    """A robomimic file with `demos` demonstrations of 5 + i steps, then changed."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "NoSuchTask", "type": 3, "env_kwargs": {}})
        for i in range(demos):
            steps = 5 + i
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = steps
            obs = rng.normal(size=(steps + 1, 4))
            demo["obs/state"], demo["next_obs/state"] = obs[:-1], obs[1:]
            demo["actions"] = rng.uniform(-1, 1, (steps, 2))
            demo["rewards"] = np.zeros(steps)
            demo["dones"] = np.eye(1, steps, steps - 1, dtype=int)[0]
        change(file)
    return path


def d4rl_file(path: Path, change: Callable[[h5py.File], object] = lambda f: None) -> Path:
    """Ten rows: an episode of 4 that terminates, one of 3 that times out, 3 rows without an end."""
    with h5py.File(path, "w") as file:
        file["observations"] = np.repeat(np.arange(10.0)[:, None], 3, 1)
        file["actions"] = np.linspace(-0.5, 0.5, 20).reshape(10, 2)
        file["rewards"] = np.arange(10.0)
        file["terminals"] = np.isin(np.arange(10), [3])
        file["timeouts"] = np.isin(np.arange(10), [6])
        change(file)
    return path


def replace(file: h5py.File, key: str, value: Any) -> None:
    del file[key]
    file[key] = value
