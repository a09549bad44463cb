"""Datasets on disk: Minari's HDF5 layout, with our spec and per-episode facts in its metadata.

`DIR/data/{metadata.json, main_data.hdf5}` is what `minari.MinariDataset(DIR/data)` opens. A dataset is
written to a temporary sibling and renamed, so a crash leaves either all of it or nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import h5py
import numpy as np
from minari import __version__ as minari_version
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from numpy.typing import NDArray

from robot_rl.data.durable import require_new
from robot_rl.data.episode import Episode
from robot_rl.data.pictures.cameras import CameraRef, refs_from_json, refs_to_json
from robot_rl.errors import DataError
from robot_rl.spec import Spec

METADATA_KEY = "robot_rl"
CAMERAS_KEY = "cameras"  # attribute of an episode that has pictures
FORMAT_VERSION = 1
_AT_ONCE = 32  # episodes written in one go: Minari opens its file anew each time
_RESERVE = 2**24  # bytes kept free, also for what HDF5 writes beside the arrays (18 kB an episode)


@dataclass(frozen=True)
class Dataset:
    """A dataset folder opened for reading.

    Args:
        path: The folder given to `data import --out`.
        spec: What its observations and actions mean.
        notes: What the importer did that a user should know.
        origin: File or recipe it was made from.
        total_episodes: Number of episodes.
        total_steps: Number of control steps over all episodes.
    """

    path: Path
    spec: Spec
    notes: tuple[str, ...]
    origin: str
    total_episodes: int
    total_steps: int

    def __len__(self) -> int:
        return self.total_episodes

    def __iter__(self) -> Iterator[Episode]:
        """Read episodes one by one, in order."""
        with _opened(self.path / "data" / "main_data.hdf5") as file:
            for index in range(self.total_episodes):
                yield _read_episode(file, index, self.path)

    def camera_refs(self) -> Iterator[tuple[CameraRef, ...]]:
        """Where each episode's pictures are, without reading its numbers."""
        with _opened(self.path / "data" / "main_data.hdf5") as file:
            for index in range(self.total_episodes):
                group = cast("Any", file.get(f"episode_{index}"))
                text = "[]" if group is None else group.attrs.get(CAMERAS_KEY, "[]")
                yield refs_from_json(str(text))

    def read(self, indices: Iterable[int]) -> Iterator[Episode]:
        """Read some episodes one by one, in the order given."""
        with _opened(self.path / "data" / "main_data.hdf5") as file:
            for index in indices:
                yield _read_episode(file, index, self.path)

    def successes(self) -> tuple[bool | None, ...]:
        """The success label of every episode, without reading its rows."""
        with _opened(self.path / "data" / "main_data.hdf5") as file:
            groups = (cast("Any", file.get(f"episode_{i}")) for i in range(self.total_episodes))
            labels = [-1 if g is None else int(g.attrs.get("success", -1)) for g in groups]
        return tuple(None if label < 0 else bool(label) for label in labels)

    def episode(self, index: int) -> Episode:
        """Read episode `index`."""
        with _opened(self.path / "data" / "main_data.hdf5") as file:
            return _read_episode(file, index, self.path)


def load_dataset(path: Path) -> Dataset:
    """Open a dataset folder written by `write_dataset`.

    Raises:
        DataError: If the folder is missing, is not a dataset of ours, or its counts disagree.
    """
    raw = read_metadata(path)
    ours = raw.get(METADATA_KEY)
    if not isinstance(ours, dict):
        raise DataError(
            f"{path} is a Minari dataset without a spec. Run `robot-rl data import {path} --out DIR` first."
        )
    ours = cast("dict[str, Any]", ours)
    if ours.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has dataset version {ours.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}. Import the logs again."
        )
    try:
        return Dataset(
            path=path,
            spec=Spec.from_dict(ours["spec"]),
            notes=tuple(ours["notes"]),
            origin=str(ours["origin"]),
            total_episodes=int(raw["total_episodes"]),
            total_steps=int(raw["total_steps"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: metadata.json lacks or spoils {error}. Import the logs again.") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Minari's `metadata.json` of a dataset folder.

    Raises:
        DataError: If the folder or the file is missing, or it is not JSON.
    """
    file = path / "data" / "metadata.json"
    if not path.is_dir():
        raise DataError(f"No dataset at {path}: no such folder. Make one with `robot-rl data import`.")
    if not file.is_file():
        raise DataError(f"{path} is not a dataset: {file} is missing. Give the folder that was --out.")
    try:
        raw = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}). Import the logs again.") from error
    if not isinstance(raw, dict):
        raise DataError(f"{file} holds {type(raw).__name__}, not an object. Import the logs again.")
    return cast("dict[str, Any]", raw)


def write_dataset(
    out: Path,
    spec: Spec,
    episodes: Iterable[Episode],
    *,
    origin: str,
    notes: Sequence[str] | Callable[[], Sequence[str]] = (),
) -> Dataset:
    """Write `episodes` to the folder `out`, all or nothing.

    Where the disk fills up it stops before: HDF5 ends the process when it cannot close a file.

    Args:
        out: Folder to create; it must not exist.
        spec: Meaning of the numbers; every episode must have its sizes.
        episodes: Episodes in order; consumed one by one.
        origin: File or recipe they come from.
        notes: What the user should know about the conversion; a function is asked once all episodes are written.

    Raises:
        DataError: If `out` exists, there is no episode, one disagrees with `spec`, or the disk is full.
    """
    require_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.absolute().with_name(f".{out.name}.tmp-{os.getpid()}")  # Minari joins relative paths twice
    try:
        work.mkdir()
        count = _fill(work / "data", spec, episodes, origin, notes)
        if count == 0:
            raise DataError(f"{origin}: no episodes to write.")
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_dataset(out)


def _fill(
    data: Path,
    spec: Spec,
    episodes: Iterable[Episode],
    origin: str,
    notes: Sequence[str] | Callable[[], Sequence[str]],
) -> int:
    _require_room(data.parent, ())
    storage = MinariStorage.new(
        data,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (spec.obs_dim,), np.float32),
        action_space=gym.spaces.Box(spec.action_low, spec.action_high, dtype=np.float32),
    )
    count = 0
    source = iter(episodes)
    while batch := list(islice(source, _AT_ONCE)):
        for episode in batch:
            _check_sizes(episode, spec)
        _require_room(data.parent, batch)
        storage.update_episodes([_to_buffer(episode) for episode in batch])
        storage.update_episode_metadata([_facts(e) for e in batch], range(count, count + len(batch)))
        count += len(batch)
    notes = notes() if callable(notes) else notes
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(origin).stem).strip("-").lower() or "dataset"
    ours = {"format_version": FORMAT_VERSION, "spec": spec.to_dict(), "origin": origin, "notes": list(notes)}
    storage.update_metadata({"dataset_id": f"robot-rl/{name}-v0", "minari_version": minari_version, METADATA_KEY: ours})
    return count


def _require_room(work: Path, batch: Sequence[Episode]) -> None:
    needed = _RESERVE + sum(
        a.nbytes for e in batch for a in (e.observations, e.actions, e.rewards, e.timestamps) if a is not None
    )
    free = shutil.disk_usage(work).free
    if free < needed:
        raise DataError(
            f"{work.parent} has {free / 1e6:.1f} MB left, writing on needs {needed / 1e6:.1f} MB. Make room there, or "
            f"choose another --out."
        )


def _check_sizes(episode: Episode, spec: Spec) -> None:
    got = episode.observations.shape[1], episode.actions.shape[1]
    if got != (spec.obs_dim, spec.action_dim):
        raise DataError(
            f"{episode.source or 'episode'}: observations are {got[0]} wide and actions {got[1]}, but the spec "
            f"has {spec.obs_dim} and {spec.action_dim}. Name the right environment with --env."
        )


def _to_buffer(episode: Episode) -> EpisodeBuffer:
    ends = np.zeros((2, len(episode)), dtype=bool)
    ends[:, -1] = episode.terminated, episode.truncated
    infos = None if episode.timestamps is None else {"timestamp": episode.timestamps}
    arrays: dict[str, Any] = {  # Minari's annotations ask for lists of rows; it writes arrays as well, and faster
        "observations": episode.observations,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "terminations": ends[0],
        "truncations": ends[1],
    }
    return EpisodeBuffer(**arrays, infos=infos)


def _facts(episode: Episode) -> dict[str, Any]:
    success = -1 if episode.success is None else int(episode.success)
    facts = {"source": episode.source, "success": success, "final_observed": episode.final_observed}
    return facts | ({CAMERAS_KEY: refs_to_json(episode.cameras)} if episode.cameras else {})


def _opened(file: Path) -> h5py.File:
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise DataError(f"{file} cannot be read as HDF5 ({error}). Import the logs again.") from error


def _read_episode(file: h5py.File, index: int, path: Path) -> Episode:
    key = f"episode_{index}"
    try:
        group = cast("Any", file[key])
        facts = group.attrs
        success = int(facts["success"])
        return Episode(
            observations=_array(group, "observations", np.float32),
            actions=_array(group, "actions", np.float32),
            rewards=_array(group, "rewards", np.float32),
            terminated=bool(_array(group, "terminations", np.bool_)[-1]),
            truncated=bool(_array(group, "truncations", np.bool_)[-1]),
            success=None if success < 0 else bool(success),
            final_observed=bool(facts["final_observed"]),
            timestamps=_array(group["infos"], "timestamp", np.float64) if "infos" in group else None,
            source=str(facts["source"]),
            cameras=refs_from_json(str(facts[CAMERAS_KEY])) if CAMERAS_KEY in facts else (),
        )
    except (KeyError, IndexError, OSError, TypeError) as error:
        raise DataError(f"{path}: {key} is incomplete ({error}). Import the logs again.") from error


def _array(group: Any, name: str, kind: type[np.generic]) -> NDArray[Any]:
    """A whole array. By h5py's low-level calls, which take a quarter of the time where episodes are short."""
    stored: Any = h5py.h5d.open(group.id, name.encode())
    array = np.empty(stored.shape, kind)
    try:
        stored.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    except (OSError, TypeError) as error:
        raise OSError(f"{name} is not a numeric array, or damaged: {error}") from error
    return array
