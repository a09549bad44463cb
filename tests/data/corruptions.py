"""Every way in which we know logs and datasets to be spoilt: how to make one, and what must be said of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robot_rl.data.dataset import write_dataset
from robot_rl.data.episode import Episode
from tests.data.made import SPEC, d4rl_file, replace, robomimic_file
from tests.data.made_lerobot import v21, v30
from tests.data.made_rlds import episode as rlds_episode
from tests.data.made_rlds import rlds

Spoil = Callable[[Path], Path]  # makes the spoilt log in a folder; returns its path


@dataclass(frozen=True)
class Corruption:
    """One: `said` is a pattern in an error or a finding, `check` the finding's, "" where the reader refuses."""

    make: Spoil
    said: str
    check: str = ""
    episode: int | None = None


# --- datasets' contents --------------------------------------------------------------------------------------------


def smooth_episode(seed: int, steps: int = 80, **more: Any) -> Episode:
    """Joints that follow their targets with a step's delay, from a home pose."""
    rng = np.random.default_rng(seed)
    actions = np.stack([np.convolve(rng.normal(size=steps + 7), np.ones(8) / 8, "valid") for _ in range(2)], 1)
    actions = np.clip(actions, -0.9, 0.9)
    pos = np.zeros((steps + 1, 3))
    pos[0] = 0.3, -0.2, 1.0
    pos[0] += rng.normal(scale=0.01, size=3)
    for t in range(steps):
        pos[t + 1, :2] = pos[t, :2] + 0.7 * (actions[t] - pos[t, :2])
        pos[t + 1, 2] = pos[t, 2] + 0.05 * actions[t].sum()
    vel = np.vstack([np.zeros(3), np.diff(pos, axis=0) * 20])
    facts: dict[str, Any] = {
        "observations": np.hstack([pos, vel + rng.normal(scale=1e-3, size=vel.shape)]),
        "actions": actions,
        "rewards": rng.normal(size=steps),
        "success": True,
        "timestamps": np.arange(steps + 1) / 20.0,
        "source": f"made:{seed}",
    }
    return Episode(**(facts | more))


def dataset(change: Callable[[list[Episode]], list[Episode]], count: int = 8) -> Spoil:
    def make(folder: Path) -> Path:
        episodes = change([smooth_episode(i) for i in range(count)])
        return write_dataset(folder / "dataset", SPEC, episodes, origin="made").path

    return make


def one(name: str, where: Any, value: Any, index: int = 5) -> Callable[[list[Episode]], list[Episode]]:
    """Set a part of an array of one episode; `value` may be a function of what stands there."""

    def change(episodes: list[Episode]) -> list[Episode]:
        array = np.array(getattr(episodes[index], name))
        array[where] = value(array[where]) if callable(value) else value
        episodes[index] = changed(episodes[index], **{name: array})
        return episodes

    return change


def every(name: str, where: Any, value: Any, start: int = 0) -> Callable[[list[Episode]], list[Episode]]:
    def change(episodes: list[Episode]) -> list[Episode]:
        for index in range(start, len(episodes)):
            one(name, where, value, index)(episodes)
        return episodes

    return change


def shifted_actions(steps: int) -> Callable[[list[Episode]], list[Episode]]:
    return lambda episodes: [changed(e, actions=np.roll(e.actions, steps, axis=0)) for e in episodes]


def told(episode: Episode, later: int) -> Episode:
    """The last observation is the first action, that many steps later."""
    obs = np.array(episode.observations)
    obs[later : later + len(episode), -1] = episode.actions[: len(obs) - later, 0]
    return changed(episode, observations=obs)


def stored(change: Callable[[h5py.File], Any]) -> Spoil:
    """A whole dataset of which the HDF5 file is spoilt afterwards."""

    def make(folder: Path) -> Path:
        path = dataset(lambda e: e)(folder)
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            change(file)
        return path

    return make


def metadata(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def make(folder: Path) -> Path:
        path = dataset(lambda e: e)(folder)
        file = path / "data" / "metadata.json"
        raw = json.loads(file.read_text())
        change(raw)
        file.write_text(json.dumps(raw))
        return path

    return make


CONTENTS: dict[str, Corruption] = {
    "nan observation": Corruption(
        dataset(one("observations", (7, 4), np.nan)), r"1 NaN or infinite.*joint_vel/1 in row 7", "not finite", 5
    ),
    "infinite action": Corruption(
        dataset(one("actions", (9, 1), np.inf)), r"actions hold 1 NaN or infinite.*targets/b in row 9", "not finite", 5
    ),
    "nan reward": Corruption(dataset(one("rewards", 3, np.nan)), r"rewards hold 1 NaN.*row 3", "not finite", 5),
    "actions in another scale": Corruption(
        dataset(one("actions", slice(None), lambda a: 100 * a)),
        r"out of bounds.*bounds -1 to 1",
        "actions out of bounds",
        5,
    ),
    "frozen clock": Corruption(
        dataset(one("timestamps", 30, lambda t: t - 0.05)),
        r"stands still or runs back 1 times, first by 0.0000 s",
        "clock",
        5,
    ),
    "clock runs back": Corruption(
        dataset(one("timestamps", slice(40, None), lambda t: t - 100)),
        r"runs back 1 times, first by -99.9500 s",
        "clock",
        5,
    ),
    "time gap": Corruption(
        dataset(one("timestamps", slice(40, None), lambda t: t + 2)),
        r"1 time gaps, the first of 2.0500 s at row 39",
        "time gaps",
        5,
    ),
    "another rate": Corruption(
        dataset(one("timestamps", slice(None), lambda t: t * 20 / 30)),
        r"rows come at 30.00 Hz, the spec says 20",
        "rate",
        5,
    ),
    "standstill": Corruption(
        dataset(lambda e: [*e[:5], _standing(e[5]), *e[6:]]), r"nothing moves for \d+ steps from row 20", "idle", 5
    ),
    "frozen sensor": Corruption(
        dataset(one("observations", (slice(20, 55), slice(0, 3)), lambda a: a[0])),
        r"joint_pos stands still to the last bit for 34 steps from row 20",
        "frozen sensor",
        5,
    ),
    "glitch": Corruption(
        dataset(one("observations", (50, 1), 400.0)), r"joint_pos/1 jumps by 4\d\d at row (49|50)", "jumps", 5
    ),
    "dead dimension": Corruption(
        dataset(every("observations", (slice(None), 2), 0.5)),
        r"1 of 6 observation dimensions never change: joint_pos/2",
        "zero variance",
    ),
    "dead action": Corruption(
        dataset(every("actions", (slice(None), 0), 0.1)),
        r"1 of 2 action dimensions never change: targets/a",
        "zero variance",
    ),
    "lost sensor": Corruption(
        dataset(one("observations", (slice(None), slice(3, 6)), 0.0)),
        r"joint_vel never changes in this episode",
        "dead sensor",
        5,
    ),
    "saturated actions": Corruption(
        dataset(every("actions", (slice(0, 40), 1), 1.0)),
        r"1 action dimensions sit at a bound.*targets/b 50%",
        "saturated actions",
    ),
    "duplicated episode": Corruption(
        dataset(lambda e: [*e, changed(e[2], source="again")]),
        r"same observations and actions as episode 2",
        "duplicates",
        8,
    ),
    "one name, two contents": Corruption(
        dataset(lambda e: [*e, changed(e[2], rewards=e[2].rewards, actions=e[3].actions)]),
        r"comes from 'made:2', as episode 2 does, but differs",
        "same source",
        8,
    ),
    "cut episode": Corruption(
        dataset(lambda e: [*e, smooth_episode(99, 4)]), r"4 steps; the median is 80", "short episodes", 8
    ),
    "no success": Corruption(
        dataset(lambda e: [changed(x, success=False) for x in e]),
        r"none of 8 episodes is labelled successful",
        "success",
    ),
    "no labels": Corruption(
        dataset(lambda e: [changed(x, success=None) for x in e]), r"no episode has a success label", "success"
    ),
    "late recording": Corruption(
        dataset(shifted_actions(-5), count=12), r"only [56]\.\d steps \(0.\d+ s\) later", "lag"
    ),
    "actions after the fact": Corruption(
        dataset(shifted_actions(3), count=12), r"actions come [12]\.\d steps.*after", "lag"
    ),
    "new calibration": Corruption(
        dataset(every("observations", (slice(None), 1), lambda a: a + 0.15, start=4)),
        r"shifts at episode 4 and stays so: joint_pos/1 \+0.1[45]",
        "calibration drift",
    ),
    "creeping calibration": Corruption(
        dataset(
            lambda e: [
                one("observations", (slice(None), 2), lambda a, i=i: a + 0.04 * i, i)(e)[i] for i in range(len(e))
            ],
            12,
        ),
        r"joint_pos/2 at the start of episodes drifts steadily, by \+0.4",
        "calibration drift",
    ),
    "swapped columns": Corruption(
        dataset(lambda e: one("observations", (slice(None), [0, 2]), lambda a: a[:, ::-1])(_lifted(e))),
        r"joint_pos/0 and joint_pos/2 look swapped",
        "swapped columns",
        5,
    ),
    "degrees": Corruption(
        dataset(one("observations", (slice(None), slice(0, 3)), np.rad2deg)),
        r"joint_pos is 5\d.*degrees among radians",
        "units",
        5,
    ),
    "millimetres": Corruption(
        dataset(one("observations", (slice(None), slice(0, 3)), lambda a: 1000 * a)),
        r"millimetres among metres",
        "units",
        5,
    ),
}


def _lifted(episodes: list[Episode]) -> list[Episode]:
    """The third joint far from the others, so that a swap shows."""
    return every("observations", (slice(None), 2), lambda a: a + 30)(episodes)


def _standing(episode: Episode) -> Episode:
    obs, actions = np.array(episode.observations), np.array(episode.actions)
    obs[20:60], actions[20:60] = obs[20], actions[20]
    return changed(episode, observations=obs, actions=actions)


# --- datasets' files and metadata ----------------------------------------------------------------------------------

STORED: dict[str, Corruption] = {
    "actions missing": Corruption(
        stored(lambda f: f.__delitem__("episode_1/actions")), r"episode_1 is incomplete", "unreadable", 1
    ),
    "episode missing": Corruption(
        stored(lambda f: f.__delitem__("episode_3")), r"count 8 episodes, the file holds 7", "counts"
    ),
    "rows lost": Corruption(
        stored(lambda f: replace(f, "episode_2/rewards", f["episode_2/rewards"][:-3])),
        r"81 observations, 80 actions and 77 rewards",
        "unreadable",
        2,
    ),
    "another width": Corruption(
        stored(lambda f: replace(f, "episode_2/observations", f["episode_2/observations"][:, :5])),
        r"has 5 observations and 2 actions, the spec 6",
        "schema",
        2,
    ),
    "both ends": Corruption(
        stored(lambda f: replace(f, "episode_4/terminations", np.eye(1, 80, 79, dtype=bool)[0])),
        r"both terminated and truncated",
        "unreadable",
        4,
    ),
    "no end": Corruption(
        stored(lambda f: replace(f, "episode_4/truncations", np.zeros(80, bool))),
        r"neither terminated nor truncated",
        "ends",
        4,
    ),
    "an end inside": Corruption(
        stored(lambda f: f["episode_4/truncations"].__setitem__(10, True)),
        r"'truncations' marks an end at row 10, though 69 rows follow",
        "ends",
        4,
    ),
    "stated steps": Corruption(
        stored(lambda f: f["episode_6"].attrs.__setitem__("total_steps", 90)),
        r"states 90 steps and holds 80 actions",
        "counts",
        6,
    ),
    "action in the observation": Corruption(
        dataset(lambda episodes: [told(e, 0) for e in episodes]),
        r"1 observation dimensions are the action of the same step",
        "action in observation",
    ),
    "last action in the observation": Corruption(
        dataset(lambda episodes: [told(e, 1) for e in episodes]),
        r"1 observation dimensions are the action before",
        "action in observation",
    ),
    "text for numbers": Corruption(
        stored(lambda f: replace(f, "episode_2/rewards", [b"a"] * 80)),
        r"rewards is not a numeric array",
        "unreadable",
        2,
    ),
    "total steps": Corruption(
        metadata(lambda m: m.__setitem__("total_steps", 641)), r"count 641 steps, the episodes hold 640", "counts"
    ),
    "total episodes": Corruption(
        metadata(lambda m: m.__setitem__("total_episodes", 7)), r"count 7 episodes, the file holds 8", "counts"
    ),
    "spec of another robot": Corruption(
        metadata(lambda m: m["robot_rl"]["spec"]["observation"].pop()),
        r"'observation_space' has shape \[6\], the spec names 3",
        "schema",
    ),
    "bounds that cross": Corruption(
        metadata(lambda m: m["robot_rl"]["spec"]["action"][0].__setitem__("low", [2.0, -1.0])),
        r"bounds of targets/a are 2 to 1",
        "bounds",
    ),
    "no spec": Corruption(metadata(lambda m: m["robot_rl"].pop("spec")), r"'spec'"),
    "no episodes stated": Corruption(metadata(lambda m: m.pop("total_episodes")), r"'total_episodes'"),
    "file cut": Corruption(
        lambda folder: _cut(dataset(lambda e: e)(folder), "main_data.hdf5"), r"cannot be read as HDF5", "unreadable"
    ),
    "metadata cut": Corruption(
        lambda folder: _cut(dataset(lambda e: e)(folder), "metadata.json"), r"cannot be read as JSON"
    ),
}


def _cut(path: Path, name: str) -> Path:
    file = path / "data" / name
    file.write_bytes(file.read_bytes()[:100])
    return path


# --- logs of other programs ----------------------------------------------------------------------------------------


def robomimic(change: Callable[[h5py.File], Any]) -> Spoil:
    return lambda folder: robomimic_file(folder / "log.hdf5", change, demos=6)


def masks(**parts: list[bytes]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for name, demos in parts.items():
            file[f"mask/{name}"] = demos

    return change


def copied(file: h5py.File) -> None:
    del file["data/demo_5"]
    file.copy("data/demo_0", "data/demo_5")
    masks(train=[b"demo_0", b"demo_1"], valid=[b"demo_5"])(file)


def d4rl(change: Callable[[h5py.File], Any]) -> Spoil:
    return lambda folder: d4rl_file(folder / "log.hdf5", change)


def raw_robosuite(change: Callable[[h5py.File], Any]) -> Spoil:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "log.hdf5", "w") as file:
            data = file.create_group("data")
            data.attrs["env"], data.attrs["env_info"] = "Lift", json.dumps({"controller_configs": {"type": "OSC_POSE"}})
            data["demo_1/states"], data["demo_1/actions"] = np.zeros((5, 32)), np.zeros((5, 7))
            change(file)
        return folder / "log.hdf5"

    return make


def minari(change: Callable[[Path], Any]) -> Spoil:
    """A Minari folder of somebody else: without our metadata."""

    def make(folder: Path) -> Path:
        path = metadata(lambda m: m.pop("robot_rl"))(folder)
        change(path / "data")
        return path

    return make


def in_hdf5(change: Callable[[h5py.File], Any]) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        with h5py.File(data / "main_data.hdf5", "a") as file:
            change(file)

    return spoil


def in_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        raw = json.loads((data / "metadata.json").read_text())
        change(raw)
        (data / "metadata.json").write_text(json.dumps(raw))

    return spoil


def repeated(parts: dict[Any, Any]) -> None:
    """Episode 3 once more what episode 0 was."""
    parts[3] = {**parts[0], "episode_index": np.full(12, 3), "index": np.arange(36, 48)}
    parts["listing"][3] |= {"length": 12, "tasks": ["pick"]}


LOGS: dict[str, Corruption] = {
    "robomimic: split leak": Corruption(
        robomimic(masks(train=[b"demo_0", b"demo_1"], valid=[b"demo_1"])),
        r"'train' and 'valid' share 1 episodes, first episode 1",
        "split leak",
    ),
    "robomimic: leak by copy": Corruption(
        robomimic(copied), r"episode 5 of 'valid' repeats episode 0 of 'train'", "split leak"
    ),
    "robomimic: split of nobody": Corruption(
        robomimic(masks(train=[b"demo_0"], valid=[b"demo_77"])),
        r"split 'valid' names episode 6, but there are 6",
        "splits",
    ),
    "robomimic: named twice": Corruption(
        robomimic(masks(train=[b"demo_0", b"demo_0"])), r"split 'train' names an episode twice", "splits"
    ),
    "lerobot: split leak": Corruption(
        lambda folder: v21(folder / "log", change_info=lambda i: i.update(splits={"train": "0:4", "val": "3:4"})),
        r"'train' and 'val' share 1 episodes, first episode 3",
        "split leak",
    ),
    "lerobot: leak by copy": Corruption(
        lambda folder: v21(folder / "log", repeated, lambda i: i.update(total_frames=48)),
        r"episode 3 of 'val' repeats episode 0 of 'train'",
        "split leak",
    ),
    "lerobot: split of nobody": Corruption(
        lambda folder: v30(folder / "log", change_info=lambda i: i.update(splits={"train": "0:40"})),
        r"split 'train' names episode 4, but there are 4",
        "splits",
    ),
    "rlds: leak by copy": Corruption(
        lambda folder: rlds(
            folder / "log", {"train": [rlds_episode(0, 5), rlds_episode(1, 6)], "val": [rlds_episode(1, 6)]}
        ),
        r"episode 2 of 'val' repeats episode 1 of 'train'",
        "split leak",
    ),
    "robomimic: mixed schemas": Corruption(
        robomimic(lambda f: f["data/demo_3"].move("obs/state", "obs/joints")),
        r"'data/demo_3/obs/state' is missing",
        "unreadable",
        3,
    ),
    "robomimic: another width": Corruption(
        robomimic(lambda f: [replace(f, f"data/demo_3/{k}/state", np.zeros((8, 3))) for k in ("obs", "next_obs")]),
        r"has 3 observations and 2 actions, the spec 4 and 2",
        "schema",
        3,
    ),
    "robomimic: num_samples": Corruption(
        robomimic(lambda f: f["data/demo_2"].attrs.__setitem__("num_samples", 3)),
        r"num_samples 3 but has 7 actions",
        "unreadable",
        2,
    ),
    "robomimic: no data": Corruption(robomimic(lambda f: f.__delitem__("data")), r"neither group 'data'", "unreadable"),
    "robomimic: mask is an array": Corruption(
        robomimic(lambda f: f.__setitem__("mask", [1, 2])), r"'mask' is an array, not a group", "unreadable"
    ),
    "d4rl: lengths": Corruption(
        d4rl(lambda f: replace(f, "rewards", np.zeros(9))), r"'rewards' has 9 rows", "unreadable"
    ),
    "d4rl: nan": Corruption(
        d4rl(lambda f: f["actions"].__setitem__((4, 0), np.nan)), r"'actions' holds NaN.*row 4", "unreadable"
    ),
    "d4rl: no terminals": Corruption(
        d4rl(lambda f: f.__delitem__("terminals")), r"'terminals' is missing", "unreadable"
    ),
    "d4rl: text": Corruption(d4rl(lambda f: replace(f, "observations", [b"x"] * 10)), r"not numbers", "unreadable"),
    "robosuite: states cut": Corruption(
        raw_robosuite(lambda f: replace(f, "data/demo_1/states", np.zeros((4, 32)))),
        r"has 4 rows, its actions have 5",
        "unreadable",
        0,
    ),
    "robosuite: no actions": Corruption(
        raw_robosuite(lambda f: f.__delitem__("data/demo_1/actions")),
        r"'data/demo_1/actions' is missing",
        "unreadable",
        0,
    ),
    "robosuite: env_info": Corruption(
        raw_robosuite(lambda f: f["data"].attrs.__setitem__("env_info", "{")),
        r"'env_info' of '/data' is not JSON",
        "unreadable",
    ),
    "robosuite: another controller": Corruption(
        raw_robosuite(
            lambda f: f["data"].attrs.__setitem__("env_info", json.dumps({"controller_configs": {"type": "IK"}}))
        ),
        r"controller 'IK'",
        "unreadable",
    ),
    "minari: nan": Corruption(
        minari(in_hdf5(lambda f: f["episode_2/observations"].__setitem__((0, 0), np.nan))),
        r"episode 2 holds NaN",
        "unreadable",
        2,
    ),
    "minari: array missing": Corruption(
        minari(in_hdf5(lambda f: f.__delitem__("episode_2/rewards"))), r"episode 2 cannot be read", "unreadable", 2
    ),
    "minari: space": Corruption(
        minari(in_json(lambda m: m.__setitem__("observation_space", "[]"))), r"cannot be read as a Minari", "unreadable"
    ),
    "minari: file gone": Corruption(
        minari(lambda d: (d / "main_data.hdf5").unlink()), r"cannot be read as a Minari", "unreadable"
    ),
    "hdf5 cut short": Corruption(
        lambda folder: _halved(robomimic_file(folder / "log.hdf5")), r"cannot be read as HDF5|not HDF5", "unreadable"
    ),
    "mcap: garbage": Corruption(
        lambda folder: _written(folder / "x.mcap", b"\x00" * 64), r"cannot be read as MCAP", "unreadable"
    ),
    "mcap: empty": Corruption(lambda folder: _written(folder / "x.mcap", b""), r"cannot be read as MCAP", "unreadable"),
    "session: damaged metadata": Corruption(
        lambda folder: _session(folder, {"format_version": "1", "spec": "{"}), r"own metadata is damaged", "unreadable"
    ),
    "session: another version": Corruption(
        lambda folder: _session(folder, {"format_version": "9", "spec": "{}"}),
        r"session version 9, this program reads 1",
        "unreadable",
    ),
    "session: no steps": Corruption(
        lambda folder: _session(folder, {"format_version": "1", "spec": json.dumps(SPEC.to_dict())}),
        r"holds no whole step",
        "unreadable",
    ),
}


def _halved(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _session(folder: Path, info: dict[str, str]) -> Path:
    from mcap.writer import Writer

    with (folder / "x.mcap").open("wb") as stream:
        writer = Writer(stream, use_chunking=False)
        writer.start()
        writer.add_metadata("robot_rl.session", info)
        writer.finish()
    return folder / "x.mcap"


CORRUPTIONS = CONTENTS | STORED | LOGS
