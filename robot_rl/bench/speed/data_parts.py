"""The parts of `bench data`. As a module it runs one of them and prints what it cost."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.registry import build_agent
from robot_rl.data.dataset import load_dataset, write_dataset
from robot_rl.data.doctor.diagnose import diagnose
from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import open_log
from robot_rl.data.replay import Replay
from robot_rl.data.stats import observation_stats
from robot_rl.spec import Spec, vector

EPISODE_STEPS = 1000
SMALL, LARGE = (17, 6), (100, 10)  # observation and action widths: HalfCheetah's, and a cell with many sensors
DRAWS, UPDATES, BATCH = 2000, 300, 256


class Cost(NamedTuple):
    """Seconds on the wall, and of the processor: the latter count where the machine is shared."""

    wall: float
    processor: float

    @staticmethod
    def now() -> Cost:
        """Both clocks."""
        return Cost(time.perf_counter(), time.process_time())

    @staticmethod
    def since(start: Cost) -> Cost:
        """What went by."""
        return Cost(time.perf_counter() - start.wall, time.process_time() - start.processor)


def make_small(folder: Path, transitions: int) -> dict[str, Path]:
    """The same state data as a dataset and as logs; part to what it reads."""
    write_dataset(folder / "dataset", _spec(*SMALL), _episodes(*SMALL, transitions), origin="bench")
    with h5py.File(folder / "robomimic.hdf5", "w") as file:
        for i, episode in enumerate(_episodes(*SMALL, transitions)):
            demo = file.create_group(f"data/demo_{i}")
            demo["actions"], demo["rewards"] = episode.actions, episode.rewards
            demo["obs/state"], demo["next_obs/state"] = episode.observations[:-1], episode.observations[1:]
    with h5py.File(folder / "d4rl.hdf5", "w") as file:
        whole = list(_episodes(*SMALL, transitions))
        file["observations"] = np.concatenate([e.observations[:-1] for e in whole])
        file["actions"] = np.concatenate([e.actions for e in whole])
        file["rewards"] = np.concatenate([e.rewards for e in whole])
        file["terminals"] = np.zeros(transitions, bool)
        file["timeouts"] = (np.arange(transitions) % EPISODE_STEPS) == EPISODE_STEPS - 1
    data = folder / "dataset"
    return {
        "read robomimic": folder / "robomimic.hdf5",
        "read d4rl": folder / "d4rl.hdf5",
        "write dataset": data,
        "load into replay": data,
        "sample from memory": data,
        "doctor": data,
    }


def make_large(folder: Path, gigabytes: float) -> Path:
    """A dataset whose transitions fill so many GB of a replay's rows."""
    width = 2 * LARGE[0] + LARGE[1] + 3
    steps = int(gigabytes * 1e9 / (4 * width)) // EPISODE_STEPS * EPISODE_STEPS
    return write_dataset(folder / "large", _spec(*LARGE), _episodes(*LARGE, steps), origin="bench").path


def _read(path: Path, _: float) -> tuple[int, Cost]:
    start = Cost.now()
    count = sum(len(e) for e in open_log(path, "auto", ReadOptions(env="none")).episodes)
    return count, Cost.since(start)


def _write(path: Path, _: float) -> tuple[int, Cost]:
    dataset = load_dataset(path)
    episodes = list(dataset)
    start = Cost.now()
    copy = write_dataset(path.with_name("copy"), dataset.spec, episodes, origin="bench")
    return copy.total_steps, Cost.since(start)


def _load(path: Path, memory_gb: float) -> tuple[int, Cost]:
    start = Cost.now()
    return len(_replay(path, memory_gb)), Cost.since(start)


def _sample(path: Path, memory_gb: float) -> tuple[int, Cost]:
    replay, generator = _replay(path, memory_gb), torch.Generator().manual_seed(0)
    start = Cost.now()
    for _ in range(DRAWS):
        replay.sample(BATCH, generator)
    return DRAWS * BATCH, Cost.since(start)


def _train(path: Path, memory_gb: float) -> tuple[int, Cost]:
    dataset, generator = load_dataset(path), torch.Generator().manual_seed(0)
    agent = build_agent(BCConfig(batch_size=BATCH), dataset.spec, observation_stats(dataset))
    replay = _replay(path, memory_gb)
    start = Cost.now()
    for _ in range(UPDATES):
        agent.update(replay.sample(BATCH, generator))
    return UPDATES * BATCH, Cost.since(start)


def _doctor(path: Path, _: float) -> tuple[int, Cost]:
    start = Cost.now()
    return diagnose(load_dataset(path)).steps, Cost.since(start)


PARTS: dict[str, Callable[[Path, float], tuple[int, Cost]]] = {
    "read robomimic": _read,
    "read d4rl": _read,
    "write dataset": _write,
    "load into replay": lambda path, _: _load(path, 10.0),
    "sample from memory": lambda path, _: _sample(path, 10.0),
    "doctor": _doctor,
    "large: load": _load,
    "large: sample": _sample,
    "large: train": _train,
}


def _replay(path: Path, memory_gb: float) -> Replay:
    dataset = load_dataset(path)
    return Replay.of(dataset.spec, dataset, beside=path, memory_gb=memory_gb)


def _spec(obs_dim: int, action_dim: int) -> Spec:
    one = (1.0,) * action_dim
    action = vector("action", action_dim, low=tuple(-x for x in one), high=one)
    return Spec((vector("observation", obs_dim),), (action,), rate_hz=20.0)


def _episodes(obs_dim: int, action_dim: int, transitions: int) -> Iterator[Episode]:
    """Noise in episodes of a thousand steps."""
    rng = np.random.default_rng(0)
    for index in range(transitions // EPISODE_STEPS):
        yield Episode(
            observations=rng.standard_normal((EPISODE_STEPS + 1, obs_dim), np.float32),
            actions=rng.uniform(-0.9, 0.9, (EPISODE_STEPS, action_dim)).astype(np.float32),
            rewards=rng.standard_normal(EPISODE_STEPS, np.float32),
            source=f"bench:{index}",
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    count, cost = PARTS[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3]))
    result = {
        "transitions": count,
        "seconds": cost.wall,
        "processor_seconds": cost.processor,
        "transitions_per_s": count / cost.wall,
        "transitions_per_processor_s": count / cost.processor,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # kB on Linux
    }
    sys.stdout.write(json.dumps(result) + "\n")
