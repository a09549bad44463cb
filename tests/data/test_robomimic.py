"""robomimic files: right reading, and every malformation refused in words."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.robomimic.reader import read_robomimic, require_our_controller
from robot_rl.errors import DataError, RobotRLError, SpecMismatch
from robot_rl.spec import Spec, vector
from tests.data.made import replace, robomimic_file


def read(path: Path, **options: object) -> list:
    return list(read_robomimic(path, ReadOptions(env="none", **options)).episodes)


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    episodes = read(robomimic_file(tmp_path / "x.hdf5", demos=12))
    assert [e.source for e in episodes] == [f"x.hdf5:demo_{i}" for i in range(12)]  # not 0, 1, 10, 11, 2
    assert [len(e) for e in episodes] == [5 + i for i in range(12)]


def test_observations_join_up_and_the_end_is_a_truncation(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "x.hdf5")
    episode = read(path)[1]
    with h5py.File(path) as file:
        demo = file["data/demo_1"]
        assert np.allclose(episode.observations[:-1], demo["obs/state"])
        assert np.allclose(episode.observations[-1], demo["next_obs/state"][-1])
    assert (episode.terminated, episode.truncated, episode.final_observed) == (False, True, True)


def test_a_repeated_last_observation_counts_as_unknown(tmp_path: Path) -> None:
    def repeat(file: h5py.File) -> None:
        file["data/demo_0/next_obs/state"][-1] = file["data/demo_0/obs/state"][-1]

    assert [e.final_observed for e in read(robomimic_file(tmp_path / "x.hdf5", repeat))] == [False, True, True]


def test_filters_choose_demonstrations(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "x.hdf5", lambda f: f.create_dataset("mask/train", data=[b"demo_2", b"demo_0"]))
    assert [e.source for e in read(path, filter="train")] == ["x.hdf5:demo_0", "x.hdf5:demo_2"]
    with pytest.raises(DataError, match=r"no filter 'valid' in 'mask'; there are: train"):
        read(path, filter="valid")


def test_keys_in_another_order_than_the_layouts_are_refused(tmp_path: Path) -> None:
    spec = Spec((vector("state", 4), vector("gripper", 1)), (vector("action", 2, low=(-1.0,) * 2, high=(1.0,) * 2),))

    def add(file: h5py.File) -> None:
        file["data"].attrs["robot_rl"] = json.dumps({"spec": spec.to_dict()})
        for i in range(3):
            for which in ("obs", "next_obs"):
                file[f"data/demo_{i}/{which}/gripper"] = np.full((5 + i, 1), 7.0)

    path = robomimic_file(tmp_path / "x.hdf5", add)
    with pytest.raises(SpecMismatch, match=r"--obs-keys is gripper state, but the layout .* is state gripper"):
        read_robomimic(path, ReadOptions(obs_keys=("gripper", "state")))
    assert read_robomimic(path, ReadOptions(obs_keys=("state", "gripper"))).spec == spec


def test_keys_make_the_vector_in_the_order_asked(tmp_path: Path) -> None:
    def add(file: h5py.File) -> None:
        for i in range(3):
            for which in ("obs", "next_obs"):
                file[f"data/demo_{i}/{which}/gripper"] = np.full((5 + i, 1), 7.0)

    log = read_robomimic(
        robomimic_file(tmp_path / "x.hdf5", add), ReadOptions(env="none", obs_keys=("gripper", "state"))
    )
    assert [e.name for e in log.spec.observation] == ["gripper", "state"]
    assert next(log.episodes).observations[0, 0] == 7.0


def test_an_environment_that_cannot_be_made_is_noted(tmp_path: Path) -> None:
    log = read_robomimic(robomimic_file(tmp_path / "x.hdf5"), ReadOptions())
    assert any("'NoSuchTask' cannot be made here" in note for note in log.notes)


def set_attr(path: str, key: str, value: object) -> Callable[[h5py.File], object]:
    return lambda file: file[path].attrs.__setitem__(key, value)


def nan_in(file: h5py.File) -> None:
    file["data/demo_1/actions"][2, 0] = np.nan


def broken_next(file: h5py.File) -> None:
    file["data/demo_0/next_obs/state"][1] += 1.0


MALFORMED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no data group": (lambda f: f.__delitem__("data"), "neither group 'data'"),
    "no demos": (lambda f: [f["data"].__delitem__(k) for k in list(f["data"])], "no 'demo_N'"),
    "no actions": (lambda f: f["data/demo_0"].__delitem__("actions"), "'data/demo_0/actions' is missing"),
    "no obs": (lambda f: f["data/demo_1"].__delitem__("obs"), "group 'data/demo_1/obs' is missing"),
    "text actions": (lambda f: replace(f, "data/demo_0/actions", [b"left"] * 5), "not numbers"),
    "flat actions": (lambda f: replace(f, "data/demo_0/actions", np.zeros(5)), "expected 2 dimensions"),
    "short obs": (lambda f: replace(f, "data/demo_0/obs/state", np.zeros((4, 4))), "has 4 rows, its actions have 5"),
    "nan": (nan_in, "'data/demo_1/actions' holds NaN or infinity, first in row 2"),
    "num_samples": (set_attr("data/demo_0", "num_samples", 9), "states num_samples 9 but has 5 actions"),
    "next_obs": (broken_next, "next_obs of row 1 is not obs of row 2"),
    "env_args": (set_attr("data", "env_args", "{not json"), "attribute 'env_args' of '/data' is not JSON"),
    "data is an array": (lambda f: (f.__delitem__("data"), f.__setitem__("data", [1])), "is an array, not a group"),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_files_are_refused_and_nothing_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = MALFORMED[name]
    path = robomimic_file(tmp_path / "bad.hdf5", change)
    out = tmp_path / "out" / "dataset"
    assert main(["data", "import", str(path), "--out", str(out), "--env", "none"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said.replace(" bad", "bad"), said
    assert "bad.hdf5" in said.replace(" ", "")
    assert not out.parent.exists() or not list(out.parent.iterdir())


@pytest.mark.parametrize(
    "name", ["no actions", "no obs", "text actions", "flat actions", "short obs", "nan", "num_samples", "next_obs"]
)
def test_damaged_demonstrations_are_left_out_where_that_is_asked_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = MALFORMED[name]
    path = robomimic_file(tmp_path / "bad.hdf5", change)
    command = ["data", "import", str(path), "--out", str(tmp_path / "d"), "--env", "none", "--skip-damaged", "--json"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["episodes"] == 2
    (why,) = [note for note in said["notes"] if note.startswith("left out: ")]
    assert words in why
    kept = {episode.source for episode in load_dataset(tmp_path / "d")}
    assert kept < {f"bad.hdf5:demo_{i}" for i in range(3)}


@pytest.mark.parametrize("content", [b"", b"time,x,y\n0,1,2\n", None])
def test_files_that_are_not_hdf5_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bad.hdf5"
    if content is None:  # cut short
        whole = robomimic_file(tmp_path / "whole.hdf5").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(content)
    with pytest.raises(RobotRLError, match="cannot be read as HDF5"):
        read(path)


def test_controllers_of_another_kind_or_scale_are_refused(tmp_path: Path) -> None:
    require_our_controller({"type": "OSC_POSE", "output_max": [0.05] * 3 + [0.5] * 3}, tmp_path)
    arm = {"type": "OSC_POSE", "output_max": [0.05] * 3 + [0.5] * 3, "input_type": "delta"}  # as robosuite 1.5 has it
    for parts in ({"right": arm}, {"arms": {"right": arm, "left": arm}}):
        require_our_controller({"type": "BASIC", "body_parts": parts}, tmp_path)
    for parts in ({"left": arm}, {"arms": []}):
        with pytest.raises(SpecMismatch, match="for controller 'BASIC'"):
            require_our_controller({"type": "BASIC", "body_parts": parts}, tmp_path)
    absolute = {"type": "BASIC", "body_parts": {"right": arm | {"input_type": "absolute"}}}
    with pytest.raises(SpecMismatch, match="absolute poses for controller 'OSC_POSE'"):
        require_our_controller(absolute, tmp_path)
    with pytest.raises(SpecMismatch, match="JOINT_POSITION"):
        require_our_controller({"type": "JOINT_POSITION"}, tmp_path)
    with pytest.raises(SpecMismatch, match=r"0\.1, 0\.1, 0\.1"):
        require_our_controller({"output_max": [0.1] * 6}, tmp_path)


def test_actions_beyond_the_bounds_are_clipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = robomimic_file(tmp_path / "x.hdf5", lambda f: f["data/demo_0/actions"].__setitem__((0, 0), 1.5))
    words = ["data", "import", str(path), "--out", str(tmp_path / "d"), "--env", "none", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert any(
        note.startswith("1 of 36 action entries (2.8%) lay beyond the bounds, by up to 0.5") for note in said["notes"]
    )
    assert any("clipping spoils them; name the environment with --env" in note for note in said["notes"])
    assert load_dataset(tmp_path / "d").episode(0).actions[0, 0] == 1.0
    assert main([*words[:3], "--out", str(tmp_path / "e"), "--env", "none", "--actions", "refuse"]) == 2
    assert "action 0 of row 0 is 1.5, bounds" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "e").exists()


def test_a_log_of_pictures_alone_is_refused_in_words(tmp_path: Path) -> None:
    def pictures(file: h5py.File) -> None:
        for demo in file["data"].values():
            for which in ("obs", "next_obs"):
                del demo[which]
                demo[f"{which}/wrist"] = np.zeros((len(demo["actions"]), 8, 8, 3), np.uint8)

    with pytest.raises(DataError, match=r"there are: wrist \(5, 8, 8, 3\)\. Policies here see states, not pictures"):
        read(robomimic_file(tmp_path / "x.hdf5", pictures))


def test_mending_a_log_says_which_demonstrations_it_could_not_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = robomimic_file(
        tmp_path / "x.hdf5", lambda f: f["data/demo_1/obs/state"].__setitem__((2, 1), np.nan), demos=4
    )
    main(["data", "doctor", str(path), "--env", "none", "--fix", "--out", str(tmp_path / "d"), "--json"])
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert "left out 1 episodes that cannot be read: 1" in changes
    assert "left out 2 episodes that stand behind one that cannot be read: 2, 3" in changes
    assert len(load_dataset(tmp_path / "d")) == 1
