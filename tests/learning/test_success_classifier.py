"""A success classifier: which frames it sees, what its probabilities mean, and the reward it becomes."""

import json
from pathlib import Path

import numpy as np
import pytest

from robot_rl.calibration import Reliability, fit_temperature
from robot_rl.commands.success_classifier import main
from robot_rl.data.dataset import Dataset, write_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.reward import relabel, reward_fn
from robot_rl.data.success_net import SuccessNet, load_success_net, save_success_net, sigmoid
from robot_rl.errors import ConfigError, DataError, SpecMismatch
from robot_rl.success_classifier import ClassifierConfig, frames_of, thirds
from tests.learning.made import make_spec


def episode(success: bool | None, steps: int = 40, seed: int = 0) -> Episode:
    """The first number climbs to 1 where it succeeds, and to half of that where it fails."""
    obs = np.random.default_rng(seed).normal(size=(steps + 1, 5)).astype(np.float32)
    obs[:, 0] = np.linspace(0, 1.0 if success else 0.5, steps + 1)
    return Episode(observations=obs, actions=np.zeros((steps, 2)), rewards=np.zeros(steps), success=success)


@pytest.fixture
def labelled(tmp_path: Path) -> Dataset:
    episodes = [episode(i % 3 != 0, seed=i) for i in range(30)]
    return write_dataset(tmp_path / "data", make_spec(), episodes, origin="made")


def config(tmp_path: Path, **more: int) -> ClassifierConfig:
    return ClassifierConfig(data=tmp_path, out=tmp_path / "out", **more)


def test_frames_at_success_are_the_last_ones_and_a_margin_belongs_to_neither(tmp_path: Path) -> None:
    frames = frames_of([episode(True), episode(False)], config(tmp_path, success_frames=4, margin=6))
    assert frames.success.tolist() == [False] * 31 + [True] * 4 + [False] * 41
    assert frames.obs[31:35, 0].min() > 0.9
    assert frames.obs[:31, 0].max() <= 0.75


def test_episodes_are_divided_by_label_and_never_shared(tmp_path: Path) -> None:
    episodes = [episode(i < 10, seed=i) for i in range(15)] + [episode(None)]
    parts = thirds(episodes, config(tmp_path))
    assert [(len(p), sum(bool(e.success) for e in p)) for p in parts] == [(9, 6), (3, 2), (3, 2)]
    assert len({id(e) for part in parts for e in part}) == 15
    with pytest.raises(DataError, match="2 episodes labelled as successful of 4"):
        thirds(episodes[8:12], config(tmp_path))


def test_logs_without_a_frame_of_no_success_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no frame without success.*--success-frames 40 and --margin 10 together"):
        frames_of([episode(True), episode(True)], config(tmp_path, success_frames=40, margin=10))


def test_expected_calibration_error_by_hand() -> None:
    said = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.25])
    found = Reliability.of(said, np.array([True, True, True, False, False, True]))
    assert found.count.tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0, 4]
    assert found.error == pytest.approx((4 * 0.20 + 1 * 0.15 + 1 * 0.75) / 6)
    assert Reliability.of(np.ones(3), np.ones(3, bool)).error == 0.0


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3.0, size=40_000)
    success = rng.random(len(logits)) < sigmoid(logits / true)
    assert fit_temperature(logits, success) == pytest.approx(true, rel=0.06)


def test_a_network_by_hand(tmp_path: Path) -> None:
    first = np.array([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], np.float32), np.zeros(2, np.float32)
    second = np.array([[2.0, -4.0]], np.float32), np.array([-1.0], np.float32)
    net = SuccessNet(
        layers=(first, second), mean=np.full(5, 1, np.float32), std=np.full(5, 2, np.float32), temperature=2.0
    )
    obs = np.zeros((2, 5), np.float32)
    obs[:, 0] = 5.0, -3.0  # normalised 2 and -2
    np.testing.assert_allclose(net.logits(obs), [3.0, -9.0])
    np.testing.assert_allclose(net.probability(obs), [1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(4.5))])
    save_success_net(net, make_spec(), tmp_path / "run", {})
    again = load_success_net(tmp_path / "run", make_spec())
    np.testing.assert_array_equal(again.probability(obs), net.probability(obs))
    reward = reward_fn(f"classifier:{tmp_path / 'run'}", None, make_spec())
    assert reward is not None
    assert reward(obs).tolist() == [0.0, -1.0]
    with pytest.raises(SpecMismatch, match="success classifier"):
        load_success_net(tmp_path / "run", make_spec(obs_dim=6))
    (tmp_path / "run" / "classifier.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match="damaged"):
        load_success_net(tmp_path / "run", make_spec())


def test_trained_by_the_command_it_becomes_a_reward(
    labelled: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["--data", str(labelled.path), "--out", str(run), "--steps", "400", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accuracy"] > 0.95
    assert said["expected_calibration_error"] < 0.05
    assert (run / "reliability.png").is_file()
    reward = reward_fn(f"classifier:{run}", None, labelled.spec)
    assert reward is not None
    won, lost = relabel([episode(True, seed=77), episode(False, seed=78)], reward)
    assert won.rewards[-4:].tolist() == [0.0] * 4
    assert won.rewards[:20].tolist() == [-1.0] * 20
    assert lost.rewards.sum() == -40
    with pytest.raises(ConfigError, match="exists already"):
        main(["--data", str(labelled.path), "--out", str(run)])


def test_rules_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'goals'; there are logged, goal, progress and classifier:RUN"):
        reward_fn("goals", None)
    with pytest.raises(ConfigError, match="--env"):
        reward_fn("classifier:x", None)
    with pytest.raises(DataError, match="No success classifier"):
        reward_fn(f"classifier:{tmp_path}", None, make_spec())
