"""Policies with a memory: exported with proof over sequences, run, served, sent to actors, refused in words."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bridge.loader import PolicyLoader
from deploy.bridge.messages import Weights
from deploy.bundle.chunk import ChunkPlayer
from deploy.bundle.contract import CERTIFICATE_FILE, METADATA_KEY, MODEL_FILE, Contract
from deploy.bundle.export import export_policy
from deploy.bundle.policy import Policy, RememberingPolicy
from deploy.commands import export as export_command
from deploy.commands import serve as serve_command
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.online.actor import act
from deploy.online.weights import WeightExporter
from deploy.operator.station import Station
from deploy.safety.decision import Verdict
from deploy.safety.supervisor import Supervisor
from deploy.server.server import PolicyServer
from robot_rl.algorithms.latent_sac import LatentSACConfig
from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.student import Student
from robot_rl.checkpoint import TrainedPolicy, save_checkpoint
from robot_rl.collect import Collector
from robot_rl.data.dataset import write_dataset
from robot_rl.data.stats import observation_stats
from robot_rl.data.transition import transition_dtype
from robot_rl.errors import BundleError, ConfigError, ParityError
from robot_rl.evaluate import RecurrentAct
from robot_rl.latent.model import LatentModelConfig
from robot_rl.memory import Remembering
from robot_rl.nets.recurrent import RecurrentBehaviour, RecurrentPolicy
from robot_rl.spec import Spec
from robot_rl.transfer.guide import TransferConfig
from tests.learning.made import make_episodes, make_spec

Bundle = tuple[Path, Contract]
HIDDEN = 6


class Mind(nn.Module):
    """A GRU that sees the observation and what was executed; a decoder that does not act, as world models have one."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.cell = nn.GRUCell(spec.obs_dim + spec.action_dim, HIDDEN)
        self.out = nn.Linear(HIDDEN, spec.action_dim)
        self.decoder = nn.Linear(HIDDEN, spec.obs_dim)
        self.register_buffer("low", torch.from_numpy(spec.action_low))
        self.register_buffer("high", torch.from_numpy(spec.action_high))

    def forward(self, obs: torch.Tensor, state: torch.Tensor, push: Any = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.cell(torch.cat([obs, state[:, HIDDEN:]], 1), state[:, :HIDDEN])
        centre, reach = (self.low + self.high) / 2, (self.high - self.low) / 2
        action = centre + 0.3 * reach * torch.tanh(self.out(hidden) + push)
        return action, torch.cat([hidden, action], 1)


class Remembers(RecurrentPolicy):
    def __init__(self, mind: Mind) -> None:
        super().__init__(HIDDEN + len(mind.low))
        self.mind = mind

    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mind(obs, state)


class RemembersNoisily(RecurrentBehaviour):
    def __init__(self, mind: Mind) -> None:
        super().__init__(HIDDEN + len(mind.low))
        self.mind = mind

    def forward(self, obs: torch.Tensor, state: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mind(obs, state, 0.2 * noise)


@pytest.fixture(scope="module")
def module(reach_spec: Spec) -> Remembers:
    torch.manual_seed(0)
    return Remembers(Mind(reach_spec)).eval()


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory, trained: TrainedPolicy, module: Remembers) -> Bundle:
    folder, rng = tmp_path_factory.mktemp("memory") / "bundle", np.random.default_rng(3)
    episodes = [rng.normal(size=(steps, trained.spec.obs_dim)).astype(np.float32) for steps in (30, 12)]
    return folder, export_policy(replace(trained, module=module), folder, episodes)


def observations(spec: Spec, count: int, seed: int = 5) -> Any:
    return np.random.default_rng(seed).normal(size=(count, spec.obs_dim)).astype(np.float32)


# Export


def test_the_certificate_covers_sequences_and_the_contract_the_memory(remembering: Bundle) -> None:
    folder, contract = remembering
    parity = contract.parity
    assert contract.state_dim == HIDDEN + 7
    assert (parity.sequences, parity.samples_recorded, parity.samples_random) == (2 + 4, 42, 800)
    assert parity.batch_sizes == (1, 2, 4)
    assert 0 < parity.max_abs <= parity.tolerance < 2e-4
    assert 0 < parity.max_abs_memory <= parity.tolerance_memory
    assert Policy.load(folder).contract == contract
    ends = onnx.load(folder / MODEL_FILE).graph
    assert [e.name for e in (*ends.input, *ends.output)] == ["obs", "state", "action", "next_state"]


class Altered(Remembers):
    """Differs between eager and traced: what is traced takes `share` of the memory."""

    share = 0.0

    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mind(obs, state * self.share if torch.compiler.is_compiling() else state)


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_a_graph_that_ignores_or_alters_its_memory_is_caught(
    tmp_path: Path, trained: TrainedPolicy, module: Remembers, share: float
) -> None:
    altered = Altered(module.mind)
    altered.share = share
    with pytest.raises(ParityError, match=r"differs from PyTorch by .* in actions and .* in the memory over recorded"):
        export_policy(replace(trained, module=altered), tmp_path / "out", [])
    assert list(tmp_path.iterdir()) == []


class Nameless(Remembers):
    """Keeps its action in another place than the end."""

    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        action, after = self.mind(obs, state)
        return action, after.flip(1)


class Shrinks(Remembers):
    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        action, after = self.mind(obs, state)
        return action, after[:, 1:]


def test_modules_that_break_the_agreement_are_not_exported(
    tmp_path: Path, trained: TrainedPolicy, module: Remembers
) -> None:
    with pytest.raises(ConfigError, match="last 7 numbers of the policy's memory are not the action"):
        export_policy(replace(trained, module=Nameless(module.mind)), tmp_path / "out", [])
    with pytest.raises(ConfigError, match=r"memory of 13 numbers and returns \(2, 7\) and \(2, 12\).*\(2, 13\)"):
        export_policy(replace(trained, module=Shrinks(module.mind)), tmp_path / "out", [])


def test_a_run_with_a_world_model_is_exported_by_its_command_and_sent_to_actors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, episodes = make_spec(), make_episodes()
    data = write_dataset(tmp_path / "data", spec, episodes, origin="made").path
    sizes = LatentModelConfig(deter=12, stoch=4, hidden=12, embed=12, layers=(16,))
    taught = TransferConfig(replay_hidden=(16,), sources=("up", "down"), teacher=sizes)
    cfg = LatentSACConfig(hidden=(16,), model=sizes, transfer=taught)
    agent = build_agent(cfg, spec, observation_stats(episodes))
    run = tmp_path / "run"
    save_checkpoint(run, agent, algorithm="latent-sac", agent_config=cfg, train_config={"data": str(data)}, progress={})
    assert export_command.main([str(run), "--out", str(tmp_path / "bundle"), "--samples", "70", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["state_dim"] == agent.policy.state_dim == 1 + 16 + 2 * 16 + 2
    assert (facts["parity"]["sequences"], facts["parity"]["samples_recorded"]) == (3 + 4, 70)
    follow(Policy.load(tmp_path / "bundle"), RecurrentAct(agent.policy.eval()), spec)

    exporter = WeightExporter(agent, "latent-sac", "run")
    for parameter in agent.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    sent = Policy.from_bytes(exporter.model(7), "made")
    noisy = RecurrentAct(agent.behaviour.eval())
    for obs, noise in zip(observations(spec, 20), np.random.default_rng(0).normal(size=(20, 2)), strict=True):
        drawn = noise.astype(np.float32)
        np.testing.assert_allclose(sent.explore(obs, drawn), noisy(obs, drawn), atol=1e-4)


def test_a_turn_of_the_trials_reaches_the_actors() -> None:
    spec, sizes = make_spec(), LatentModelConfig(deter=12, stoch=4, hidden=12, embed=12, layers=(16,))
    tried = TransferConfig(
        replay_hidden=(16,), sources=("up", "down"), teacher=sizes, residual=True, rehearsal=1, trials=1
    )
    agent = build_agent(
        LatentSACConfig(hidden=(16,), model=sizes, transfer=tried), spec, observation_stats(make_episodes())
    )
    assert isinstance(agent, Student)
    assert agent.guide is not None
    exporter, seen = WeightExporter(agent, "latent-sac", "run"), observations(spec, 5)
    acted = list[np.ndarray]()
    for turn in range(4):  # up, down, none, and what was kept to
        sent, here = Policy.from_bytes(exporter.model(agent.version), "made"), RecurrentAct(agent.behaviour.eval())
        noise = np.zeros(2, np.float32)
        acted.append(np.stack([sent.explore(obs, noise).copy() for obs in seen]))
        np.testing.assert_allclose(acted[-1], [here(obs, noise).copy() for obs in seen], atol=1e-4)
        agent.guide.trials.note([1.0, 3.0, 2.0, 0.0][turn])
    assert not np.allclose(acted[0], acted[1])
    assert not np.allclose(acted[1], acted[2])
    np.testing.assert_array_equal(acted[3], acted[1])


# Running


def follow(policy: Policy, torch_act: RecurrentAct, spec: Spec, atol: float = 2e-5) -> None:
    """Both through two episodes, some of whose actions were not executed."""
    assert isinstance(policy, Remembering)
    for episode in range(2):
        policy.begin_episode()
        torch_act.begin_episode()
        for step, obs in enumerate(observations(spec, 25, episode)):
            policy.warm_up()
            expected = torch_act(obs)
            np.testing.assert_allclose(policy.act(obs), expected, atol=atol)
            if step % 3 == 0:
                policy.executed(expected / 2)
                torch_act.executed(expected / 2)


def test_it_remembers_what_pytorch_remembers(remembering: Bundle, module: Remembers, reach_spec: Spec) -> None:
    policy = Policy.load(remembering[0])
    follow(policy, RecurrentAct(module), reach_spec)
    assert not policy.explores


def test_a_rehearsal_changes_neither_memory_nor_action(remembering: Bundle, reach_spec: Spec) -> None:
    rehearsed, plain = Policy.load(remembering[0]), Policy.load(remembering[0])
    for obs in observations(reach_spec, 5):
        action = rehearsed.act(obs)
        np.testing.assert_array_equal(action, plain.act(obs))
        kept = action.copy()
        for _ in range(3):
            rehearsed.warm_up()
        np.testing.assert_array_equal(action, kept)


def test_the_same_observation_is_not_the_same_situation(remembering: Bundle, reach_spec: Spec) -> None:
    policy = Policy.load(remembering[0])
    obs = observations(reach_spec, 1)[0]
    first, second = policy.act(obs).copy(), policy.act(obs).copy()
    assert np.abs(first - second).max() > 1e-3


def test_a_nan_is_not_remembered(remembering: Bundle, reach_spec: Spec) -> None:
    policy, sheltered = Policy.load(remembering[0]), Policy.load(remembering[0])
    for step, obs in enumerate(observations(reach_spec, 6)):
        if step == 3:
            assert np.isnan(policy.act(np.full_like(obs, np.nan))).all()
        np.testing.assert_array_equal(policy.act(obs), sheltered.act(obs))


def test_a_newer_policy_goes_on_in_the_running_episode(remembering: Bundle, bundle: Bundle, reach_spec: Spec) -> None:
    former, newer, fresh = (Policy.load(remembering[0]) for _ in range(3))
    assert isinstance(newer, RememberingPolicy)
    seen = observations(reach_spec, 4)
    for obs in seen[:3]:
        former.act(obs)
    newer.take_over(former)
    expected = former.act(seen[3]).copy()
    np.testing.assert_array_equal(newer.act(seen[3]), expected)
    newer.take_over(Policy.load(bundle[0]))  # which has none
    np.testing.assert_array_equal(newer.act(seen[3]), fresh.act(seen[3]))


# Contract


def test_bundles_from_before_memories_still_load(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(bundle[0], folder)
    raw = json.loads(bundle[1].to_json())
    del raw["state_dim"]
    for key in ("sequences", "max_abs_memory", "tolerance_memory"):
        del raw["parity"][key]
    model = onnx.load(folder / MODEL_FILE)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(raw)})
    content = model.SerializeToString()
    (folder / MODEL_FILE).write_bytes(content)
    certificate = {"sha256": hashlib.sha256(content).hexdigest(), "contract": raw}
    (folder / CERTIFICATE_FILE).write_text(json.dumps(certificate))
    policy = Policy.load(folder)
    assert raw["format_version"] == 1
    assert policy.contract == bundle[1]
    assert not isinstance(policy, Remembering)


def test_contracts_with_a_memory_have_a_version_of_their_own(remembering: Bundle) -> None:
    assert json.loads(remembering[1].to_json())["format_version"] == 2
    for change in ({"state_dim": 6}, {"chunk": 4}):
        with pytest.raises(BundleError, match=r"state_dim is (6 and chunk 1|13 and chunk 4); a memory holds the 7"):
            Contract.from_json(replace(remembering[1], **change).to_json(), "here")
    worse = replace(remembering[1].parity, max_abs_memory=1.0)
    with pytest.raises(BundleError, match=r"says 1\.00e\+00 of the memory, above its tolerance"):
        Contract.from_json(replace(remembering[1], parity=worse).to_json(), "here")


def test_a_contract_that_contradicts_its_graph_is_refused(remembering: Bundle, bundle: Bundle) -> None:
    for (folder, contract), width, message in (
        (remembering, 0, r"'state'.*contract says 'obs', float32, 20 numbers\."),
        (remembering, 9, r"'state'.*contract says 'obs', float32, 20 numbers and 'state', float32, 9 numbers\."),
        (bundle, 13, r"contract says 'obs', float32, 20 numbers and 'state', float32, 13 numbers\."),
    ):
        model = onnx.load(folder / MODEL_FILE)
        helper.set_model_props(model, {METADATA_KEY: replace(contract, state_dim=width).to_json()})
        with pytest.raises(BundleError, match=message):
            Policy.from_bytes(model.SerializeToString(), "here")


def test_what_has_no_memory_of_its_own_refuses_it(remembering: Bundle) -> None:
    policy = Policy.load(remembering[0])
    with pytest.raises(BundleError, match=r"remembers its episode.*robot-rl serve BUNDLE --arm NAME"):
        policy.act_many(np.zeros((2, 20), np.float32))
    with pytest.raises(BundleError, match=r"remembers its episode.*robot-rl serve BUNDLE --arm NAME"):
        PolicyServer(policy, "tcp://127.0.0.1:*")
    with pytest.raises(ConfigError, match=r"--replan-every plays plans, but policy 'reach' has a memory"):
        ChunkPlayer(policy, 1)


# The control loop


def test_served_it_knows_what_was_executed_and_forgets_between_episodes(remembering: Bundle, module: Remembers) -> None:
    arm: Any = make_arm(load_arm("virtual"), episode_steps=25)
    arm.connect()
    expected, verdicts, ignorant = RecurrentAct(module), list[Verdict](), list[float]()
    deaf = RecurrentAct(module)

    def follow_tick(state: Any, asked: Any, decision: Any) -> None:
        if len(verdicts) % 25 == 0:
            expected.begin_episode()
            deaf.begin_episode()
        np.testing.assert_allclose(asked, expected(state.obs), atol=5e-5)
        ignorant.append(float(np.abs(asked - deaf(state.obs)).max()))
        expected.executed(decision.command)
        verdicts.append(decision.verdict)

    policy = Policy.load(remembering[0])
    plan = ServePlan(episodes=2, paced=False)
    report = serve(policy, arm, Supervisor(load_arm("virtual").limits()), plan, on_tick=follow_tick)
    arm.close()
    assert (report.ticks, report.episodes) == (50, 2)
    assert Verdict.LIMITED in verdicts  # so that something else was executed than asked
    assert max(ignorant) > 1e-3


def test_the_command_serves_it(remembering: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(remembering[0]), "--arm", "virtual", "--episodes", "2", "--episode-steps", "10", "--free-run"]
    assert serve_command.main([*words, "--no-record", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ticks"] == 20


class Notes:
    """Holds still, and notes what it is told."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.heard = contract, list[str]()
        self.told: list[Any] = []

    def act(self, obs: Any) -> Any:
        self.heard.append("act")
        return np.array(obs[:7]) + 0.01

    def warm_up(self) -> None:
        pass

    def begin_episode(self) -> None:
        self.heard.append("begin")

    def executed(self, action: Any) -> None:
        self.heard.append("executed")
        self.told.append(action.copy())


def test_arming_again_begins_anew(remembering: Bundle) -> None:
    arm: Any = make_arm(load_arm("virtual"), episode_steps=1000)
    arm.connect()
    station, policy, ticks = Station(), Notes(remembering[1]), 0

    def step(*_: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2:
            station.press("key")
        if ticks == 63:
            station.ask_to_arm()

    plan = ServePlan(duration_s=70 / 50, paced=False, wait_for_arm=True)
    serve(policy, arm, Supervisor(load_arm("virtual").limits()), plan, station=station, on_tick=step)
    arm.close()
    heard = [word for word in policy.heard if word != "executed"]
    assert heard[:3] == ["act", "begin", "act"]  # the first call only warms up
    assert [i for i, word in enumerate(heard) if word == "begin"] == [1, 2 + 63]


def test_of_several_commands_for_an_action_the_last_one_is_remembered(remembering: Bundle) -> None:
    fast = msgspec.structs.replace(load_arm("virtual"), command_rate_hz=250.0)
    arm: Any = make_arm(fast, episode_steps=4)
    arm.connect()
    policy, commands = Notes(remembering[1]), list[Any]()
    plan = ServePlan(episodes=1, paced=False, commands_per_step=5, interpolation="linear")
    note = lambda *heard: commands.append(heard[2].command.copy())  # noqa: E731
    serve(policy, arm, Supervisor(fast.limits()), plan, on_tick=note)
    arm.close()
    assert policy.heard == ["act", "begin", *(["act"] + ["executed"] * 5) * 4]
    np.testing.assert_array_equal(policy.told, np.array(commands, np.float32))


# Actors


class Line(gym.Env[Any, Any]):
    """Five steps; the arm executes half of what it is asked."""

    observation_space = gym.spaces.Box(-1, 1, (5,), np.float32)
    action_space = gym.spaces.Box(-2, 4, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.rng = np.random.default_rng(seed)
        self.steps = 0
        return self.rng.normal(size=5).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        seen = self.rng.normal(size=5).astype(np.float32)
        return seen, 0.0, self.steps == 5, False, {"executed_action": action / 2}


def exploring_agent() -> Any:
    """What an exporter asks of an agent."""
    torch.manual_seed(1)
    spec = make_spec()
    return SimpleNamespace(
        spec=spec, stats=observation_stats(make_episodes()), behaviour=RemembersNoisily(Mind(spec)).eval()
    )


class Learner:
    """Hands out a policy, and after seven steps a newer one that goes on in its episode."""

    refusal, hold = "", ""

    def __init__(self, first: Policy, newer: RememberingPolicy) -> None:
        self._first, self._newer = first, newer
        self.published: list[Any] = []
        self._given = 0

    @property
    def stopped(self) -> bool:
        return len(self.published) == 15

    def take_policy(self) -> Policy | None:
        if self._given == 0:
            self._given = 1
            return self._first
        if self._given == 1 and len(self.published) == 7:
            self._given = 2
            self._newer.take_over(self._first)
            return self._newer
        return None

    def publish(self, obs: Any, action: Any, *_: Any, **__: Any) -> int:
        self.published.append(action.copy())
        return len(self.published)


def test_an_actor_remembers_as_the_learner_would_across_versions_and_episodes() -> None:
    agent = exploring_agent()
    exporter = WeightExporter(agent, "made", "run")
    first, newer = (Policy.from_bytes(exporter.model(version), "made") for version in (1, 2))
    assert isinstance(newer, RememberingPolicy)
    link: Any = Learner(first, newer)
    act(link, Collector(Line(), agent.spec, seed=0), stop=threading.Event())
    alone, collector = RecurrentAct(agent.behaviour), Collector(Line(), agent.spec, seed=0)
    expected = [collector.step(alone, 0)[0]["action"][0].copy() for _ in range(15)]
    np.testing.assert_allclose(link.published, expected, atol=1e-5)


def test_a_policy_from_the_learner_arrives_with_an_empty_memory() -> None:
    agent = exploring_agent()
    model = WeightExporter(agent, "made", "run").model(3)
    loader = PolicyLoader(agent.spec)
    digest = hashlib.sha256(model).hexdigest()
    said = {"session": b"s" * 16, "sequence": 1, "sha256": digest, "spec_digest": agent.spec.digest}
    loader.offer(Weights(version=3, model=model, **said))
    waited = threading.Event()
    for _ in range(600):
        if loader.loaded_version or loader.rejected:
            break
        waited.wait(0.05)
    policy = loader.take(None)
    loader.close()
    assert policy is not None, loader.trouble
    obs = observations(agent.spec, 1)[0]
    np.testing.assert_array_equal(policy.act(obs), Policy.from_bytes(model, "made").act(obs))


def test_a_run_s_own_episodes_are_told_apart(tmp_path: Path, trained: TrainedPolicy, module: Remembers) -> None:
    from robot_rl.data.replay_log import ReplayLog

    spec = trained.spec
    rows = np.zeros(9, transition_dtype(spec.obs_dim, spec.action_dim))
    rows["obs"] = np.arange(9)[:, None]
    rows["next_obs"] = rows["obs"] + 1
    rows["terminated"][3] = 1
    rows["next_obs"][6] = 100.0  # another actor's goes on elsewhere
    log = ReplayLog(tmp_path / "transitions", spec)
    log.append(bytes(16), 0, rows)
    log.close()
    lived = replace(trained, run=tmp_path, module=module)
    episodes = export_command.recorded_observations(lived, None, 100)
    assert [each[:, 0].tolist() for each in episodes] == [[0, 1, 2, 3], [4, 5, 6], [7, 8]]
    some = export_command.recorded_observations(lived, None, 4)
    assert [each[:, 0].tolist() for each in some] == [[0, 1, 2, 3]]
