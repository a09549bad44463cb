"""Isaac Lab's variant of robomimic's file, written as its recorder writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import detect, open_log
from robot_rl.data.formats.robomimic.reader import read_robomimic
from robot_rl.errors import DataError

STEPS = (6, 4)


def isaac_file(path: Path, change: Callable[[h5py.File], object] = lambda f: None, obs: str = "group") -> Path:
    """Two demonstrations; joint positions count steps: 0 at reset, t + 1 after step t."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(STEPS)
        args = {"env_name": "Isaac-Stack-Cube-Franka-IK-Rel-v0", "type": 2}
        data.attrs["env_args"] = json.dumps(args | {"sim_args": {"dt": 0.01, "decimation": 5, "num_envs": 1}})
        for number, steps in enumerate(STEPS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["success"], demo.attrs["seed"] = steps, number == 0, 7
            t = np.arange(steps, dtype=np.float32)[:, None]
            put(demo, "actions", np.hstack([t, -3 * t]))
            put(demo, "processed_actions", np.zeros((steps, 9), np.float32))
            put(demo, "initial_state/articulation/robot/joint_position", np.zeros((1, 2), np.float32))
            put(demo, "initial_state/rigid_object/cube_1/root_pose", np.zeros((1, 7), np.float32))
            put(demo, "states/articulation/robot/joint_position", np.repeat(t + 1, 2, 1))
            put(demo, "states/rigid_object/cube_1/root_pose", np.zeros((steps, 7), np.float32))
            if obs == "group":
                put(demo, "obs/joint_pos", np.repeat(t, 2, 1))
                put(demo, "obs/eef_pos", np.repeat(t + 0.5, 3, 1))
                put(demo, "obs/datagen_info/object_pose/cube_1", np.zeros((steps, 4, 4), np.float32))
                put(demo, "obs/table_cam", np.zeros((steps, 4, 5, 3), np.uint8))
            elif obs == "flat":
                put(demo, "obs", np.repeat(t, 5, 1))
        change(file)
    return path


def put(group: h5py.Group, key: str, values: Any) -> None:
    group.create_dataset(key, data=values, compression="gzip")


def test_demonstrations_without_rewards_and_next_obs(tmp_path: Path) -> None:
    path = isaac_file(tmp_path / "x.hdf5")
    assert detect(path) == "robomimic"
    log = open_log(path, "auto", ReadOptions())
    episodes = list(log.episodes)
    assert [e.name for e in log.spec.observation] == ["eef_pos", "joint_pos"]
    assert log.spec.rate_hz == 20.0  # a decimation of 5 at 0.01 s
    assert [(len(e), e.success, e.final_observed) for e in episodes] == [(6, True, False), (4, False, False)]
    assert episodes[0].observations[:, 3].tolist() == [0, 1, 2, 3, 4, 5, 5]
    assert (log.spec.action_low.tolist(), log.spec.action_high.tolist()) == ([0.0, -15.0], [5.0, 0.0])
    assert [c.name for c in episodes[1].cameras] == ["table_cam"]
    said = " ".join(log.notes)
    assert "2 of 2 demonstrations have no 'rewards'" in said
    assert "'Isaac-Stack-Cube-Franka-IK-Rel-v0' cannot be made here" in said
    assert "not part of the observation: datagen_info/object_pose/cube_1" in said


def test_observations_in_one_array(tmp_path: Path) -> None:
    log = read_robomimic(isaac_file(tmp_path / "x.hdf5", obs="flat"), ReadOptions())
    assert [(e.name, e.size) for e in log.spec.observation] == [("obs", 5)]
    assert next(log.episodes).observations.shape == (7, 5)


def test_without_observations_the_states_are_taken_and_the_last_one_is_known(tmp_path: Path) -> None:
    path = isaac_file(tmp_path / "x.hdf5", obs="none")
    assert detect(path) == "robomimic"
    log = read_robomimic(path, ReadOptions())
    episode = next(log.episodes)
    assert [e.name for e in log.spec.observation] == [
        "articulation/robot/joint_position",
        "rigid_object/cube_1/root_pose",
    ]
    assert episode.observations[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert episode.final_observed
    chosen = read_robomimic(path, ReadOptions(obs_keys=("articulation/robot/joint_position",)))
    assert chosen.spec.obs_dim == 2


MALFORMED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "total": (
        lambda f: f["data"].attrs.__setitem__("total", 99),
        "'total' of 'data' is 99, the demonstrations hold 10",
    ),
    "no actions": (lambda f: f["data/demo_1"].__delitem__("actions"), "'data/demo_1/actions' is missing"),
    "success": (lambda f: f["data/demo_0"].attrs.__setitem__("success", "yes"), "expected true or false"),
    "short obs": (
        lambda f: (
            f.__delitem__("data/demo_1/obs/eef_pos"),
            f.__setitem__("data/demo_1/obs/eef_pos", np.zeros((3, 3))),
        ),
        "has 3 rows, its actions have 4",
    ),
    "no obs": (lambda f: f.__delitem__("data/demo_1/obs"), "group 'data/demo_1/obs' is missing"),
    "only pictures": (
        lambda f: [f.__delitem__(f"data/demo_0/obs/{k}") for k in ("joint_pos", "eef_pos")],
        "no two-dimensional observation",
    ),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_files_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = MALFORMED[name]
    path = isaac_file(tmp_path / "x.hdf5", change)
    assert main(["data", "import", str(path), "--out", str(tmp_path / "d")]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    if name == "total":
        log = read_robomimic(path, ReadOptions(trust_rows=True))
        assert any("is 99" in n for n in log.notes)


def test_unknown_observation_keys_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no two-dimensional observation colour in '/data/demo_0/obs'; there are: .*joint"
    ):
        read_robomimic(isaac_file(tmp_path / "x.hdf5"), ReadOptions(obs_keys=("colour",)))
