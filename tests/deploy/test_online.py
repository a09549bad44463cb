"""Learning over the bridge with real processes: nothing lost, and the weights that act are those that were trained."""

import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from deploy.bridge.spool import SpoolOptions, open_spools
from deploy.bundle.policy import Policy
from deploy.commands.actor import ActorConfig
from deploy.commands.finetune import FinetuneCommand, _Crew, defaults_of_start, serve_actors
from deploy.online.actor import act
from deploy.online.lead import Lead
from deploy.online.learner import LearnerConfig
from deploy.online.weights import WeightExporter
from robot_rl.algorithms.awac import AWACConfig
from robot_rl.algorithms.iql import IQLConfig
from robot_rl.algorithms.latent_sac import LatentSACConfig
from robot_rl.algorithms.registry import AgentConfig, build_agent
from robot_rl.algorithms.sac import SACConfig
from robot_rl.algorithms.student import Student
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.checkpoint import TRAIN_CONFIG, load_agent, resolve
from robot_rl.collect import Collector
from robot_rl.config import to_mapping
from robot_rl.data.dataset import write_dataset
from robot_rl.data.stats import observation_stats
from robot_rl.data.transition import Rows
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import BundleError, ConfigError, ParityError
from robot_rl.latent.model import LatentModelConfig
from robot_rl.online_run import FinetuneConfig, OnlineRun
from robot_rl.pretrain import PretrainConfig, pretrain
from robot_rl.spec import Spec
from robot_rl.transfer.teacher import TeacherConfig, train_teacher
from tests.deploy.runs import transitions
from tests.learning.made import make_episodes, make_spec
from tests.transfer.conftest import write_sources

ENV = "Pendulum-v1"

CONFIGS: list[AgentConfig] = [
    AWACConfig(actor_hidden=(16, 16), critic_hidden=(16,), batch_size=8, dropout=0.2, squash_mean=True),
    IQLConfig(hidden=(16,), batch_size=8),
    SACConfig(hidden=(16, 16), batch_size=8, critics=2),
    TD3BCConfig(hidden=(16,), batch_size=8),
]


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda c: type(c).__name__)
def test_actors_get_the_trained_policy(cfg: AgentConfig) -> None:
    spec, episodes = make_spec(), make_episodes()
    agent = build_agent(cfg, spec, observation_stats(episodes))
    exporter = WeightExporter(agent, "made", "run")
    for parameter in agent.parameters():
        parameter.data.add_(
            0.05 * torch.randn_like(parameter)
        )  # as training does, also to what tracing saw as constant
    policy = Policy.from_bytes(exporter.model(7), "made")
    assert policy.contract.weight_version == 7
    agent.eval()
    rng = np.random.default_rng(0)
    for _ in range(20):
        obs, noise = rng.normal(3, 2, 5).astype("f4"), rng.normal(size=2).astype("f4")
        with torch.no_grad():
            drawn = agent.behaviour(torch.from_numpy(obs)[None], torch.from_numpy(noise)[None])[0].numpy()
            plain = agent.act(torch.from_numpy(obs)[None])[0].numpy()
        np.testing.assert_allclose(policy.explore(obs, noise), drawn, atol=1e-5)
        np.testing.assert_allclose(policy.act(obs), plain, atol=1e-5)


def test_a_policy_whose_numbers_are_not_in_the_graph_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.online import weights

    real = weights.to_onnx
    monkeypatch.setattr(weights, "to_onnx", lambda module, inputs, **_: real(module, inputs))  # folds constants
    agent = build_agent(CONFIGS[0], make_spec(), observation_stats(make_episodes()))
    with pytest.raises(ParityError, match=r"lacks actor\.log_std"):
        WeightExporter(agent, "made", "run")


def test_a_lead_is_ended_at_the_limit_and_begun_again_at_half_of_it() -> None:
    lead = Lead(100)
    assert [lead.too_long(ahead) for ahead in (0, 100, 101, 80, 51, 50, 80, 100, 2000)] == [
        False, False, True, True, True, False, False, False, True,
    ]  # fmt: skip
    assert not Lead(0).too_long(1e9)


# One actor's loop, without a learner


class FakeLink:
    """Says what the test wants said; takes what is published."""

    def __init__(self, policy: Policy, reasons: list[str]) -> None:
        self._policies, self._reasons = [policy], reasons
        self.published: list[np.ndarray] = []

    refusal = ""

    @property
    def stopped(self) -> bool:
        return len(self.published) == 12

    def take_policy(self) -> Policy | None:
        return self._policies.pop() if self._policies else None

    @property
    def hold(self) -> str:
        return self._reasons.pop(0) if self._reasons else ""

    def publish(self, obs: np.ndarray, *_: Any, **__: Any) -> int:
        self.published.append(obs.copy())
        return len(self.published)


def pendulum_policy() -> Policy:
    spec = env_spec(make_env(ENV))
    agent = build_agent(CONFIGS[3], spec, observation_stats(make_episodes(obs_dim=3)))
    return Policy.from_bytes(WeightExporter(agent, "made", "run").model(1), "made")


def test_an_actor_stands_still_while_there_is_a_reason() -> None:
    env = make_env(ENV, max_episode_steps=5)
    link, said = FakeLink(pendulum_policy(), ["pause", "pause", "", "", "the policy is 9 s old"]), []
    report = act(link, Collector(env, env_spec(env), seed=0), stop=threading.Event(), on_hold=said.append)
    assert said == ["pause", "", "the policy is 9 s old", ""]
    assert (report.interactions, report.episodes, report.ending) == (12, 2, "the learner ended the run")
    assert report.held_s == pytest.approx(0.03)


def test_a_served_policy_cannot_explore() -> None:
    policy = pendulum_policy()
    policy.explores = False
    with pytest.raises(BundleError, match="without exploration"):
        policy.explore(np.zeros(3, "f4"), np.zeros(1, "f4"))


def test_actors_step_where_the_policy_was_trained_also_without_evaluations(tmp_path: Path) -> None:
    cfg, stop, seen = TD3BCConfig(hidden=(16,), batch_size=8), threading.Event(), list[str]()
    common: dict[str, Any] = {"algorithm": "td3-bc", "agent": cfg, "eval_episodes": 0, "device": "cpu"}
    begun = OnlineRun(FinetuneConfig(out=tmp_path / "begun", env=ENV, **common))
    begun.save()
    begun.close()
    config = LearnerConfig(
        out=tmp_path / "run", start=tmp_path / "begun", offline_share=0.0, bind="tcp://127.0.0.1:*", **common
    )

    def started(_address: str, spec: Spec) -> Callable[[], None]:
        seen.append(spec.env_id)
        stop.set()
        return lambda: None

    serve_actors(config, stop, quiet=True, started=started)
    assert seen == [ENV]


def test_fewer_actors_than_have_transitions_left_are_refused(tmp_path: Path) -> None:
    config = FinetuneCommand(algorithm="td3-bc", agent=TD3BCConfig(), out=tmp_path / "run", env=ENV, actors=2)
    spec = env_spec(make_env(ENV))
    spool = open_spools(tmp_path / "run/actors/2", spec, SpoolOptions())[-1]
    row = np.zeros(1, spool.dtype)
    for _ in range(3):
        spool.append(row.tobytes())
    spool.close()
    with pytest.raises(ConfigError, match=r"actors/2 holds 3 transitions .* --actors 2 .* Resume with --actors 3"):
        _Crew(config, threading.Event()).start("tcp://127.0.0.1:9", spec)
    spool = open_spools(tmp_path / "run/actors/2", spec, SpoolOptions())[0]
    assert spool.backlog == 3  # looking took nothing away
    spool.acknowledge(3)
    spool.close()
    _Crew(config, threading.Event())._require_all_spools(tmp_path / "run/actors", spec)


def test_a_run_ends_with_the_last_of_its_actors(tmp_path: Path) -> None:
    stop = threading.Event()
    config = FinetuneCommand(algorithm="td3-bc", agent=TD3BCConfig(), out=tmp_path / "run", env=ENV, actors=2)
    crew = _Crew(config, stop)
    crew._processes = [subprocess.Popen(["true"]), subprocess.Popen(["sleep", "60"])]
    crew._processes[0].wait()
    crew.check()
    assert not stop.is_set()
    crew._processes[1].send_signal(signal.SIGINT)  # whom an operator ended
    crew._processes[1].wait()
    crew._processes[1].returncode = 130
    crew.check()
    assert stop.is_set()


# Real processes


def robot_rl(*words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "robot_rl.cli", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def learner_words(out: Path, steps: int) -> list[object]:
    return [
        "td3-bc", "--env", ENV, "--out", out, "--steps", steps, "--warmup", 50, "--episode-steps", 20,
        "--agent.hidden", 16, "--agent.batch-size", 8, "--eval-every", 100_000, "--eval-episodes", 1,
        "--checkpoint-every", 100, "--log-every", 100, "--publish-every", 0.05, "--device", "cpu",
    ]  # fmt: skip


def assert_one_stream(rows: Rows) -> None:
    """Every observation but an episode's first is the one that the transition before it led to."""
    inside = (rows["truncated"][:-1] == 0) & (rows["terminated"][:-1] == 0)
    same = (rows["next_obs"][:-1] == rows["obs"][1:]).all(1)
    assert same[inside].all()
    assert len(np.unique(rows["obs"], axis=0)) == len(rows)


def test_one_command_fine_tunes_with_actors(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = robot_rl("finetune", *learner_words(out, 400))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    rows = transitions(out)
    assert len(rows) >= 400
    assert_one_stream(rows)
    assert (np.diff(rows["policy_version"].astype(int)) >= 0).all()
    progress = load_agent(out)[1]
    assert int(progress["interactions"]) == 400
    assert load_agent(out)[0].updates == 350  # as many as asked, though the simulator is faster
    assert (out / "learning_curve.png").is_file()


def test_a_killed_learner_resumes_with_every_transition(tmp_path: Path) -> None:
    out, spool, address = tmp_path / "run", tmp_path / "spool", free_address()
    collecting = robot_rl(
        "actor", "--env", ENV, "--spool", spool, "--connect", address, "--episode-steps", 20, "--max-policy-age", 0
    )
    try:
        first = robot_rl("learner", *learner_words(out, 4000), "--bind", address)
        wait_for(lambda: (out / "checkpoints" / "last").exists() and steps_logged(out) >= 300, first)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        second = robot_rl("learner", *learner_words(out, 4000), "--bind", address, "--resume")
        said, _ = second.communicate(timeout=120)
        assert second.returncode == 0, said
        last_words, _ = collecting.communicate(timeout=30)
        assert "the learner ended the run" in last_words.replace("\n", " ")
    finally:
        collecting.kill()
    rows = transitions(out)
    assert len(rows) >= 4000
    assert_one_stream(rows)
    assert int(load_agent(out)[1]["interactions"]) == 4000


def test_no_actor_outlives_the_command_that_started_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["finetune", *learner_words(out, 4000), "--actors", 2]
    first = robot_rl(*words)
    wait_for(lambda: steps_logged(out) >= 300, first)
    assert len(actors_of(out)) == 2
    first.send_signal(signal.SIGKILL)
    first.communicate()
    deadline = time.monotonic() + 30
    while actors_of(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not actors_of(out)
    second = robot_rl(*words, "--resume")
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert int(load_agent(out)[1]["interactions"]) == 4000


def actors_of(out: Path) -> list[str]:
    """Process ids of the actors that a command started for a run."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile
            continue
        if b"actor" in words and any(word.startswith(str(out).encode()) for word in words):
            found.append(folder.name)
    return found


def steps_logged(out: Path) -> int:
    file = out / "metrics.jsonl"
    rows = file.read_text().splitlines() if file.is_file() else []
    return max((json.loads(row)["step"] for row in rows), default=0)


def wait_for(condition: Any, process: "subprocess.Popen[str]", timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def test_sources_are_tried_by_an_actor(tmp_path: Path) -> None:
    sizes = LatentModelConfig(deter=8, stoch=4, hidden=8, embed=8, layers=(8,))
    teacher = TeacherConfig(
        sources=write_sources(tmp_path / "logs", ENV, steps=20),
        out=tmp_path / "teacher", model=sizes, steps=2, sequences=2, length=4, device="cpu",
    )  # fmt: skip
    train_teacher(teacher, quiet=True)
    tried = {"residual": True, "rehearsal": 2, "trials": 2, "replay_hidden": [8]}
    small = {"hidden": [8], "sequences": 2, "length": 4, "batch_size": 8, "model": to_mapping(sizes)}
    (tmp_path / "options.yaml").write_text(yaml.safe_dump({"agent": small | {"transfer": tried}}))
    out = tmp_path / "run"
    process = robot_rl(
        "finetune", "latent-sac", "--transfer", teacher.out, "--env", ENV, "--out", out,
        "--steps", 4000, "--warmup", 3950, "--episode-steps", 20, "--eval-every", 100_000, "--eval-episodes", 1,
        "--utd", 0.2, "--device", "cpu", "--publish-every", 60, "--config", tmp_path / "options.yaml",
    )  # fmt: skip
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    agent = load_agent(out)[0]
    assert isinstance(agent, Student)
    assert agent.guide is not None
    trials = agent.guide.trials
    assert trials.turns == 6  # though weights are published once a minute
    rows = transitions(out)[:3940].reshape(-1, 20)  # before the first update a version is a turn
    versions, returns = rows["policy_version"], rows["reward"].astype(float).sum(1)
    assert rows["truncated"][:, -1].all()
    for turn in range(6):
        number, episode = turn % 3, turn // 3
        first = returns[(versions == turn).all(1)][0]
        assert float(trials.earned[number, episode]) == pytest.approx(first, rel=1e-5)


def test_several_actors_of_a_learner_that_remembers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--actors 2: latent-sac learns from pieces of episodes.*Use one\."):
        FinetuneCommand(algorithm="latent-sac", out=tmp_path / "run", agent=LatentSACConfig(), actors=2)


def test_what_was_pretrained_by_another_reward_goes_on_with_it(tmp_path: Path) -> None:
    agent = TD3BCConfig(hidden=(8,), batch_size=4, alpha=1.5)
    data = write_dataset(tmp_path / "data", make_spec(), make_episodes(), origin="made")
    settings = PretrainConfig(
        algorithm="td3-bc", data=data.path, out=tmp_path / "run", agent=agent, steps=1, env="none", device="cpu"
    )
    pretrain(settings, quiet=True)
    file = resolve(tmp_path / "run") / TRAIN_CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | {"reward": "goal"}))
    assert defaults_of_start(["td3-bc", "--start", str(tmp_path / "run")]) == {"agent": agent, "reward": "goal"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_policy_age": math.nan}, "--max-policy-age is nan s"),
        ({"sync_ms": math.nan}, "--sync-ms is nan ms"),
        ({"sync_ms": -1.0}, "--sync-ms is -1 ms"),
        ({"spool_mib": 0}, "--spool-mib is 0 MiB"),
    ],
)
def test_an_actor_refuses_times_and_sizes_that_are_none(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        ActorConfig(env="Pendulum-v1", spool=tmp_path, **wrong)
