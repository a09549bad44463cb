from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from mcap.reader import make_reader

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.commands import replay
from deploy.commands import serve as serve_command
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.recorder import Recorder, session_file
from deploy.recorder.explain import explain
from deploy.safety.decision import Decision, Finding, Reason, Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.cli import main
from robot_rl.data.dataset import load_dataset
from robot_rl.data.formats.log import ReadOptions
from robot_rl.data.formats.registry import open_log
from robot_rl.data.session import ASKED, DECISION, EPISODE, EXECUTED, OBSERVATION, POLICY, TIMING, join, open_session
from robot_rl.errors import ConfigError, DataError, RecorderError
from robot_rl.spec import Spec

Bundle = tuple[Path, Contract]
TIMES = np.array([1e6, 0.9e6, 1.1e6, 1.2e6, 1.3e6, 1.4e6, np.nan])


def decision(command: np.ndarray) -> Decision:
    finding = Finding(Reason.VELOCITY, "joint3", 2.9, 2.1)
    return Decision(command, Verdict.LIMITED, (finding,))


def write(path: Path, spec: Spec, contract: Contract, ticks: int = 8) -> list[tuple[np.ndarray, ...]]:
    """A session of two episodes; returns what was handed over."""
    rng = np.random.default_rng(0)
    rows: list[tuple[np.ndarray, ...]] = []
    with Recorder(path, spec, contract) as recorder:
        for k in range(ticks):
            if k in (0, ticks // 2):
                recorder.begin(k and 1, k, seed=5 + k)
            obs = rng.normal(size=spec.obs_dim).astype(np.float32)
            asked = rng.normal(size=spec.action_dim).astype(np.float32)
            rows.append((obs, asked, asked.astype(np.float64) / 2))
            recorder.tick(k, obs, asked, decision(rows[-1][2]), TIMES + 2e7 * k)
            recorder.reward(k, float(k))
            if k in (ticks // 2 - 1, ticks - 1):
                recorder.end(k, obs + 1, terminated=k == ticks - 1, success=True)
            recorder.flush()
    return rows


def contents(path: Path, topic: str) -> list[dict[str, Any]]:
    return [message for seen, message in open_session(path).messages() if seen == topic]


def test_what_was_handed_over_is_what_is_read(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    rows = write(tmp_path / "s.mcap", reach_spec, bundle[1])
    session = open_session(tmp_path / "s.mcap")
    assert session.spec == reach_spec
    assert Contract.from_json(session.info["contract"], "session") == bundle[1]
    assert session.is_whole()
    for column, (topic, entries) in enumerate(
        ((OBSERVATION, reach_spec.observation), (ASKED, reach_spec.action), (EXECUTED, reach_spec.action))
    ):
        read = [join(entries, m) for m in contents(session.path, topic)]
        np.testing.assert_array_equal(np.array(read), np.array([row[column] for row in rows], np.float64))
    first = contents(session.path, DECISION)[0]
    assert first["verdict"] == "limited"
    assert first["findings"] == [{"reason": "joint velocity limit", "where": "joint3", "asked": 2.9, "limit": 2.1}]
    timing = contents(session.path, TIMING)[1]
    assert timing["start_s"] == pytest.approx(0.021)
    assert (timing["late_us"], timing["read_us"]) == pytest.approx((100.0, 100.0))


def test_other_readers_see_schemas_summary_and_metadata(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    write(tmp_path / "s.mcap", reach_spec, bundle[1])
    with (tmp_path / "s.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == 1 + 8 * 6 + 4
    topics = {c.topic: c for c in summary.channels.values()}
    assert topics[OBSERVATION].message_encoding == "json"
    schema = json.loads(summary.schemas[topics[OBSERVATION].schema_id].data)
    assert "joint1" in schema["properties"]["joint_pos"]["description"]


def record_ends(data: bytes) -> list[int]:
    """Where each record of an MCAP file ends: an opcode, a length in 8 bytes, and so many bytes."""
    at, ends = 8, [8]
    while at < len(data) - 8:
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
        ends.append(at)
    return ends


def test_cut_anywhere_it_opens_up_to_the_last_whole_message(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    write(tmp_path / "s.mcap", reach_spec, bundle[1], ticks=4)
    data = (tmp_path / "s.mcap").read_bytes()
    whole = list(open_session(tmp_path / "s.mcap").messages())
    messages = np.array(
        [end for start, end in zip(record_ends(data), record_ends(data)[1:], strict=False) if data[start] == 5]
    )
    start = int(messages[0])
    cut = tmp_path / "cut.mcap"
    for size in np.random.default_rng(1).integers(start, len(data), 1000):
        cut.write_bytes(data[:size])
        expected = int((messages <= size).sum())
        assert list(open_session(cut).messages()) == whole[:expected]
        assert not open_session(cut).is_whole()


def test_a_tail_of_zeros_is_the_end(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    write(tmp_path / "s.mcap", reach_spec, bundle[1], ticks=4)
    data = (tmp_path / "s.mcap").read_bytes()
    whole = list(open_session(tmp_path / "s.mcap").messages())
    ends = record_ends(data)
    messages = [end for start, end in pairwise(ends) if data[start] == 5]
    lost = tmp_path / "lost.mcap"  # as long as it was, but the last blocks never reached the disk
    for kept in (messages[5], messages[5] - 10, messages[5] + 40):
        lost.write_bytes(data[:kept].ljust(len(data), b"\0"))
        expected = sum(end <= kept for end in messages)
        assert list(open_session(lost).messages()) == whole[:expected]
        assert not open_session(lost).is_whole()


def test_before_its_first_message_a_cut_file_is_refused_in_words(
    tmp_path: Path, reach_spec: Spec, bundle: Bundle
) -> None:
    write(tmp_path / "s.mcap", reach_spec, bundle[1], ticks=4)
    data = (tmp_path / "s.mcap").read_bytes()
    for size in (0, 5, 20, 200):
        (tmp_path / "cut.mcap").write_bytes(data[:size])
        with pytest.raises(DataError, match="not a session recorded by `robot-rl serve`, or was cut"):
            open_session(tmp_path / "cut.mcap")


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from deploy.bundle.policy import Policy
from deploy.recorder import Recorder
from deploy.safety.decision import Decision, Verdict
policy = Policy.load(Path(sys.argv[1]))
spec = policy.contract.spec
obs, command = np.zeros(spec.obs_dim, np.float32), np.zeros(spec.action_dim)
recorder = Recorder(Path(sys.argv[2]), spec, policy.contract)
recorder.begin(0, 0)
for k in range(10**6):
    recorder.tick(k, obs, command, Decision(command, Verdict.PASSED, ()), np.full(6, k * 1e6))
    recorder.flush()
    time.sleep(0.002)
    print(k, flush=True)
"""


def test_kill_9_loses_at_most_what_was_queued(tmp_path: Path, bundle: Bundle) -> None:
    words = [sys.executable, "-c", KILLED, str(bundle[0]), str(tmp_path / "s.mcap")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 60:
                os.kill(child.pid, signal.SIGKILL)
                break
    ticks = [m["tick"] for m in contents(tmp_path / "s.mcap", TIMING)]
    assert ticks == list(range(len(ticks)))
    assert len(ticks) >= 55


def test_a_full_queue_is_an_error_or_waits(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    recorder = Recorder(tmp_path / "a.mcap", reach_spec, bundle[1], queue_limit=3)
    recorder.reward(0, 0.0)  # never flushed: nobody writes
    recorder.reward(1, 0.0)
    with pytest.raises(RecorderError, match=r"3 messages wait to be written.*--no-record"):
        recorder.reward(2, 0.0)
    recorder.close()
    with Recorder(tmp_path / "b.mcap", reach_spec, bundle[1], queue_limit=3, wait=True) as patient:
        for k in range(50):
            patient.reward(k, 0.0)
    assert len([t for t, _ in open_session(tmp_path / "b.mcap").messages()]) == 51


def test_a_failing_disk_ends_the_session_in_words(
    tmp_path: Path, reach_spec: Spec, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "s.mcap", reach_spec, bundle[1])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder._channels, "put", full)
    recorder.reward(0, 0.0)
    recorder.flush()
    for _ in range(500):
        if recorder._error is not None:
            break
        time.sleep(0.01)
    with pytest.raises(RecorderError, match="No space left on device"):
        recorder.reward(1, 0.0)
    with pytest.raises(RecorderError):
        recorder.close()


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from deploy.bundle.policy import Policy
from deploy.recorder import Recorder
policy = Policy.load(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails as on a full disk
recorder = Recorder(Path(sys.argv[2]), policy.contract.spec, policy.contract)
resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[2]).stat().st_size + 100, resource.RLIM_INFINITY))
for k in range(100):
    recorder.reward(k, 0.0)
try:
    recorder.close()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_is_full_when_the_session_closes_is_said_in_words(tmp_path: Path, bundle: Bundle) -> None:
    words = [sys.executable, "-c", FULL, str(bundle[0]), str(tmp_path / "s.mcap")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("RecorderError")
    assert "Free the disk" in done.stdout
    assert len(contents(tmp_path / "s.mcap", POLICY)) <= 1  # what fitted can be read


def test_an_existing_file_is_not_overwritten(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    (tmp_path / "s.mcap").write_text("mine")
    with pytest.raises(RecorderError, match="Cannot record to"):
        Recorder(tmp_path / "s.mcap", reach_spec, bundle[1])
    file = session_file(tmp_path, "arm", "run")
    file.touch()
    assert session_file(tmp_path, "arm", "run") != file


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """Two episodes of the virtual arm."""
    path = tmp_path_factory.mktemp("session") / "s.mcap"
    config = load_arm("virtual")
    arm = make_arm(config, episode_steps=20, seed=3)
    arm.connect()
    policy = Policy.load(bundle[0])
    with Recorder(path, arm.spec, policy.contract, arm=config.to_yaml(), wait=True) as recorder:
        serve(policy, arm, Supervisor(config.limits()), ServePlan(episodes=2, paced=False), log=recorder)
    arm.close()
    return path


def test_a_session_imports_as_the_episodes_that_were_served(session: Path, tmp_path: Path) -> None:
    assert main(["data", "import", str(session), "--out", str(tmp_path / "d"), "--json"]) == 0
    dataset = load_dataset(tmp_path / "d")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 40)
    episode = dataset.episode(0)
    assert episode.observations.shape == (21, 20)
    executed = [join(dataset.spec.action, m) for m in contents(session, EXECUTED)]
    np.testing.assert_allclose(episode.actions, executed[:20], rtol=1e-6)
    final = contents(session, EPISODE)[1]["final"]
    np.testing.assert_array_equal(episode.observations[-1], join(dataset.spec.observation, final))
    assert (episode.rewards < 0).all()
    assert episode.truncated
    assert episode.success is False
    assert episode.timestamps is not None


def test_rewards_of_the_commands_of_a_step_add_up(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    with Recorder(tmp_path / "s.mcap", reach_spec, bundle[1]) as recorder:
        recorder.begin(0, 0, seed=0)
        for k in range(6):  # two commands a policy step
            obs = np.full(reach_spec.obs_dim, k, np.float32)
            command = np.full(reach_spec.action_dim, k, np.float64)
            recorder.tick(
                k, obs if k % 2 == 0 else None, command.astype(np.float32), decision(command), TIMES + 2e7 * k
            )
            recorder.reward(k, 10.0**k)
        recorder.end(5, np.zeros(reach_spec.obs_dim, np.float32), terminated=True, success=True)
    (episode,) = open_log(tmp_path / "s.mcap", "auto", ReadOptions()).episodes
    assert episode.rewards.tolist() == [11, 1_100, 110_000]
    assert episode.actions[:, 0].tolist() == [1, 3, 5]  # the last command of a step


def test_a_cut_session_imports_up_to_its_last_whole_step(session: Path, tmp_path: Path) -> None:
    data = session.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: int(len(data) * 0.7)])
    log = open_log(tmp_path / "cut.mcap", "auto", ReadOptions())
    episodes = list(log.episodes)
    assert len(episodes) == log.count == 2
    assert len(episodes[0]) == 20
    assert 0 < len(episodes[1]) < 20
    assert "the file was cut" in log.notes[-1]
    full = list(open_log(session, "mcap", ReadOptions()).episodes)[1]
    steps = len(episodes[1])
    np.testing.assert_array_equal(episodes[1].observations, full.observations[: steps + 1])
    np.testing.assert_array_equal(episodes[1].rewards, full.rewards[:steps])


def test_another_environment_is_refused(session: Path) -> None:
    with pytest.raises(DataError, match=r"recorded in 'VirtualArm-v1', not in 'Hopper-v5'"):
        open_log(session, "auto", ReadOptions(env="Hopper-v5"))


def test_each_change_is_explained_with_its_numbers(tmp_path: Path, reach_spec: Spec, bundle: Bundle) -> None:
    write(tmp_path / "s.mcap", reach_spec, bundle[1])
    (stretch,) = explain(open_session(tmp_path / "s.mcap"))
    assert str(stretch) == (
        "ticks 0 to 7 (0.00 s), limited: joint3 asked up to 2.9 rad/s, limit 2.1 (joint velocity limit)"
    )


@pytest.mark.parametrize(("wall", "asked"), [("0.9", [0.85, 0.88, 0.8]), ("-0.9", [-0.85, -0.88, -0.8])])
def test_of_commands_in_front_of_a_wall_the_nearest_is_told(
    tmp_path: Path, reach_spec: Spec, bundle: Bundle, wall: str, asked: list[float]
) -> None:
    box = "tool: {workspace_low_m: [-0.9, -0.9, 0.0], workspace_high_m: [0.9, 0.9, 1.2]}"
    with Recorder(tmp_path / "s.mcap", reach_spec, bundle[1], arm=box) as recorder:
        recorder.begin(0, 0, seed=0)
        for k, at in enumerate(asked):
            found = (Finding(Reason.WORKSPACE, "y", at, float(wall)),)
            still = np.zeros(reach_spec.action_dim)
            held = Decision(still, Verdict.LIMITED, found)
            recorder.tick(k, np.zeros(reach_spec.obs_dim, np.float32), still.astype(np.float32), held, TIMES + 2e7 * k)
    (stretch,) = explain(open_session(tmp_path / "s.mcap"))
    assert f"y asked up to {asked[1]} m, wall at {wall} (workspace box)" in str(stretch)


def test_replay_tells_of_several_sessions(session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(session), str(session), "--explain-only", "--json"]
    assert replay.main(words) == 0
    assert [told["ticks"] for told in json.loads(capsys.readouterr().out)["sessions"]] == [40, 40]
    with pytest.raises(ConfigError, match="is of one session; 2 are given"):
        replay.main([*words[:2], "--film", str(tmp_path / "film.gif")])
    with pytest.raises(ConfigError, match="it got none"):
        replay.main([])


def test_replay_plays_the_same_observations_back(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(session), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["playback"] == {"env": "VirtualArm-v1", "episodes": 2, "steps": 40, "worst_difference": 0.0}
    assert (answer["ticks"], answer["whole"]) == (40, True)
    assert replay.main([str(session)]) == 0
    assert "40 ticks" in capsys.readouterr().out


class Still:
    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def act(self, obs: np.ndarray) -> np.ndarray:
        return obs[:7] + np.float32(0.1)

    def warm_up(self) -> None:
        pass


@pytest.mark.parametrize("ticks", [6, 7, 12])
def test_a_session_that_ended_between_two_policy_steps_plays_back(bundle: Bundle, tmp_path: Path, ticks: int) -> None:
    config = msgspec.structs.replace(load_arm("virtual"), command_rate_hz=250.0)
    arm = make_arm(config, seed=3)
    arm.connect()
    plan = ServePlan(duration_s=ticks / 250, paced=False, commands_per_step=5)
    with Recorder(tmp_path / "s.mcap", arm.spec, bundle[1], arm=config.to_yaml(), wait=True) as recorder:
        serve(Still(bundle[1]), arm, Supervisor(config.limits()), plan, log=recorder)
    arm.close()
    played = replay.play_back(open_session(tmp_path / "s.mcap"))
    assert played == {"env": "VirtualArm-v1", "episodes": 1, "steps": ticks, "worst_difference": 0.0}


def test_playing_back_looks_at_what_followed_the_last_command(session: Path) -> None:
    whole = open_session(session)
    told = list(whole.messages())
    for topic, message in told:
        if topic == EPISODE and "final" in message:
            message["final"]["joint_pos"][0] += 0.25
    altered: Any = SimpleNamespace(path=session, spec=whole.spec, info=whole.info, messages=lambda: iter(told))
    played = replay.play_back(altered)
    assert played is not None
    assert played["worst_difference"] == pytest.approx(0.25, abs=1e-6)


def test_serve_records_by_default_where_it_is_told(bundle: Bundle, tmp_path: Path) -> None:
    words = [str(bundle[0]), "--arm", "virtual", "--episode-steps", "5", "--free-run", "--json"]
    assert serve_command.main([*words, "--record", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*_virtual_reach.mcap")
    assert len(contents(file, OBSERVATION)) == 5
