"""What a dataset's metadata say against what its file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import h5py
import numpy as np

from robot_rl.data.dataset import Dataset, read_metadata
from robot_rl.data.doctor.finding import Finding

_AGAIN = "import the logs again"


def check_metadata(dataset: Dataset) -> Iterator[Finding]:
    """Contradictions between `metadata.json` and `main_data.hdf5`; the rows themselves are checked elsewhere."""
    yield from _spaces(dataset)
    yield from _rate(dataset)
    try:
        with h5py.File(dataset.path / "data" / "main_data.hdf5", "r") as file:
            yield from _groups(dataset, file)
    except OSError as error:
        what = f"main_data.hdf5 cannot be read as HDF5 ({error})"
        yield Finding(severity="error", check="unreadable", what=what, remedy=_AGAIN)


def _groups(dataset: Dataset, file: h5py.File) -> Iterator[Finding]:
    stored = sum(str(name).startswith("episode_") for name in file)
    if stored != dataset.total_episodes:
        what = f"the metadata count {dataset.total_episodes} episodes, the file holds {stored}"
        yield Finding(severity="error", check="counts", what=what, remedy=_AGAIN)
    for index in range(dataset.total_episodes):
        group = cast("Any", file.get(f"episode_{index}"))
        if group is None or "actions" not in group:
            continue  # found as unreadable
        told = int(group.attrs.get("total_steps", len(group["actions"])))
        if told != len(group["actions"]):
            what = f"states {told} steps and holds {len(group['actions'])} actions"
            yield Finding(severity="error", check="counts", what=what, remedy=_AGAIN, episode=index)
        ends = [(name, np.flatnonzero(group[name][:-1])) for name in ("terminations", "truncations") if name in group]
        for name, rows in ends:
            if len(rows):
                what = (
                    f"'{name}' marks an end at row {rows[0]}, though {len(group['actions']) - 1 - rows[0]} rows follow"
                )
                yield Finding(severity="error", check="ends", what=what, remedy=_AGAIN, episode=index)


def _spaces(dataset: Dataset) -> Iterator[Finding]:
    raw = read_metadata(dataset.path)
    for key, width in (("observation_space", dataset.spec.obs_dim), ("action_space", dataset.spec.action_dim)):
        space = raw.get(key)
        try:
            shape = (json.loads(space) if isinstance(space, str) else space or {}).get("shape")
        except (ValueError, AttributeError):
            shape = None
        if shape is not None and list(shape) != [width]:
            what = f"'{key}' has shape {list(shape)}, the spec names {width} numbers"
            yield Finding(severity="error", check="schema", what=what, remedy=_AGAIN)


def _rate(dataset: Dataset) -> Iterator[Finding]:
    if not np.isfinite(dataset.spec.rate_hz) or dataset.spec.rate_hz < 0:
        what = f"the spec's rate is {dataset.spec.rate_hz} Hz"
        yield Finding(severity="error", check="rate", what=what, remedy="import with the environment's rate")
    low, high = dataset.spec.action_low, dataset.spec.action_high
    bad = np.flatnonzero(~(low < high))
    if len(bad):
        name = dataset.spec.action_names[bad[0]]
        what = f"bounds of {name} are {low[bad[0]]:g} to {high[bad[0]]:g}: nothing lies between"
        yield Finding(
            severity="error", check="bounds", what=what, remedy="give the controller's bounds and import again"
        )
