"""A dataset as robomimic HDF5, readable by robomimic and, with no number lost, by our own importer.

https://robomimic.github.io/docs/datasets/overview.html. Beside robomimic's own fields each demonstration keeps
what that format has no place for (`success`, `terminated`, `final_observed`, `timestamps`), and `data` the spec.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from robot_rl.data.dataset import Dataset
from robot_rl.data.episode import Episode
from robot_rl.data.exporters.left_out import left_out
from robot_rl.data.exporters.whole import whole
from robot_rl.spec import Entry, Spec

_GYM, _ROBOSUITE = 2, 1  # robomimic's EnvType


def export_robomimic(dataset: Dataset, out: Path) -> list[str]:
    """Write `out`, an HDF5 file; returns what a user should know.

    Raises:
        DataError: If `out` exists, or an episode cannot be read.
    """
    spec = dataset.spec
    with whole(out) as work, h5py.File(work, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = dataset.total_steps
        data.attrs["env_args"] = json.dumps(_env_args(spec))
        data.attrs["robot_rl"] = json.dumps({"spec": spec.to_dict(), "origin": dataset.origin})
        for number, episode in enumerate(dataset):
            _write(data.create_group(f"demo_{number}"), episode, spec)
    notes = left_out(dataset)
    if not ((spec.action_low >= -1).all() and (spec.action_high <= 1).all()):
        notes.append("actions keep the robot's units; robomimic's learners expect them in [-1, 1]")
    return notes


def _env_args(spec: Spec) -> dict[str, object]:
    robosuite = spec.env_id.startswith("robosuite/")
    name = spec.env_id.removeprefix("robosuite/").removesuffix("-v1") if robosuite else spec.env_id
    return {"env_name": name, "type": _ROBOSUITE if robosuite else _GYM, "env_kwargs": {}}


def _write(demo: h5py.Group, episode: Episode, spec: Spec) -> None:
    steps = len(episode)
    demo.attrs["num_samples"] = steps
    demo.attrs["source"] = episode.source
    demo.attrs["terminated"], demo.attrs["final_observed"] = episode.terminated, episode.final_observed
    if episode.success is not None:
        demo.attrs["success"] = episode.success
    if episode.timestamps is not None:
        demo["timestamps"] = episode.timestamps
    demo["actions"], demo["rewards"] = episode.actions, episode.rewards
    demo["dones"] = (np.arange(steps) == steps - 1).astype(np.int64)
    start = 0
    for entry in spec.observation:
        part = slice(start, start + entry.size)
        demo[f"obs/{_key(entry)}"] = episode.observations[:-1, part]
        demo[f"next_obs/{_key(entry)}"] = episode.observations[1:, part]
        start += entry.size


def _key(entry: Entry) -> str:
    return entry.name.replace("/", ".")  # a slash would nest
