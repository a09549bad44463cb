"""The real files in ../shared/data, where they are."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import open_log
from tests.data.made import SHARED

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no real logs at ../shared/data")


@pytest.mark.parametrize(
    ("file", "env", "episodes", "steps", "successes"),
    [
        ("adroit_door_human/adroit_door_human_robomimic.hdf5", "", 20, 5445, 4),
        ("adroit_door_human/adroit_door_human_d4rl.hdf5", "AdroitHandDoor-v1", 20, 5445, 4),
        ("adroit_pen_awac/adroit_pen_awac_robomimic.hdf5", "", 20, 3980, 20),
        ("adroit_pen_awac/adroit_pen_awac_d4rl.hdf5", "AdroitHandPen-v1", 20, 3980, 20),
        ("robosuite_lift_human/low_dim_robomimic.hdf5", "", 4, 1950, 4),
        ("robosuite_lift_human/demo.hdf5", "", 4, 1950, 4),
    ],
)
def test_counts_equal_the_files_own(
    file: str, env: str, episodes: int, steps: int, successes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "import", str(SHARED / file), "--out", str(tmp_path / "d"), "--json"]
    assert main(words + (["--env", env] if env else [])) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["episodes"], said["steps"], said["successes"]) == (episodes, steps, successes)
    dataset = load_dataset(tmp_path / "d")
    assert (len(dataset), dataset.total_steps) == (episodes, steps)
    assert all(e.truncated and not e.terminated for e in dataset)


@pytest.mark.parametrize("task", ["adroit_pen_awac", "adroit_door_human"])
def test_both_forms_of_a_log_agree(task: str) -> None:
    env = {"adroit_pen_awac": "AdroitHandPen-v1", "adroit_door_human": "AdroitHandDoor-v1"}[task]
    one = open_log(SHARED / task / f"{task}_d4rl.hdf5", "auto", ReadOptions(env=env))
    two = open_log(SHARED / task / f"{task}_robomimic.hdf5", "auto", ReadOptions())
    assert one.spec == two.spec
    for a, b in zip(one.episodes, two.episodes, strict=True):
        assert np.allclose(a.observations[:-1], b.observations[:-1], atol=1e-6)
        assert np.allclose(np.clip(a.actions, -1, 1), np.clip(b.actions, -1, 1), atol=1e-6)


def test_states_set_in_the_simulator_show_what_robomimic_extracted() -> None:
    raw = open_log(SHARED / "robosuite_lift_human/demo.hdf5", "auto", ReadOptions())
    low = open_log(SHARED / "robosuite_lift_human/low_dim_robomimic.hdf5", "auto", ReadOptions())
    for a, b in zip(raw.episodes, low.episodes, strict=True):
        assert np.abs(a.observations[:-1] - b.observations[:-1]).max() < 1e-3
        assert np.array_equal(a.rewards, b.rewards)
        assert np.array_equal(a.actions, b.actions)


def test_door_demonstrations_leave_the_bounds_in_5_5_percent_of_entries() -> None:
    with h5py.File(SHARED / "adroit_door_human/adroit_door_human_d4rl.hdf5") as file:
        share = float((np.abs(file["actions"][()]) > 1).mean())
    assert share == pytest.approx(0.0553, abs=1e-3)


@pytest.mark.parametrize("name", ["Ant", "HalfCheetah", "Hopper", "Walker2d"])
def test_expert_rollouts_come_with_their_returns(name: str) -> None:
    file = SHARED / f"cs285_expert/expert_data_{name}-v4.npz"
    log = open_log(file, "auto", ReadOptions())
    episodes = list(log.episodes)
    with np.load(file, allow_pickle=False) as raw:
        rewards = [float(raw[f"ep{i}/reward"].sum()) for i in (0, 1)]
        assert np.array_equal(episodes[1].observations[-1], raw["ep1/next_observation"][-1].astype(np.float32))
    assert [e.return_ for e in episodes] == pytest.approx(rewards, rel=1e-5)
    assert [(len(e), e.truncated, e.final_observed) for e in episodes] == [(1000, True, True)] * 2
