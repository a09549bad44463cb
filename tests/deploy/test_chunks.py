"""Policies that plan chunks of actions: played, refused, exported, and taken in from elsewhere."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.chunk import ChunkPlayer
from deploy.bundle.contract import METADATA_KEY, Contract
from deploy.bundle.export import export_policy
from deploy.bundle.policy import Policy
from deploy.commands import export as export_command
from deploy.commands import serve as serve_command
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.control.report import Ending
from deploy.safety.decision import Verdict
from deploy.safety.supervisor import Supervisor
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.data.session import ASKED, OBSERVATION, open_session
from robot_rl.errors import BundleError, ConfigError, DataError, ParityError
from robot_rl.spec import Entry, Spec

Bundle = tuple[Path, Contract]
SMALL = Spec((Entry("o", ("a",)),), (Entry("u", ("x",)),), 50.0, "joint_position")
CHUNK = 4


class Counts:
    """Plans obs, obs + 0.1, obs + 0.2, ... and counts how often it was asked."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.plans, self.rehearsals = contract, 0, 0

    def plan(self, obs: Any) -> Any:
        self.plans += 1
        return obs[:1] + 0.1 * np.arange(self.contract.chunk)[:, None]

    def warm_up(self) -> None:
        self.rehearsals += 1


def played(contract: Contract, seen: list[float], replan_every: int | None) -> list[float]:
    player = ChunkPlayer(Counts(contract), replan_every)
    return [round(float(player.act(np.array([obs], np.float32))[0]), 4) for obs in seen]


def test_a_plan_is_played_and_made_anew_after_as_many_actions_as_asked(bundle: Bundle) -> None:
    contract = replace(bundle[1], spec=SMALL, chunk=3)
    seen = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert played(contract, seen, None) == [0.0, 0.1, 0.2, 30.0, 30.1, 30.2, 60.0]
    assert played(contract, seen, 2) == [0.0, 0.1, 20.0, 20.1, 40.0, 40.1, 60.0]
    assert played(contract, seen, 1) == seen


def test_a_dropped_plan_is_made_anew_and_only_due_plans_are_rehearsed(bundle: Bundle) -> None:
    policy = Counts(replace(bundle[1], spec=SMALL, chunk=3))
    player = ChunkPlayer(policy)
    player.warm_up()
    assert player.act(np.array([1.0], np.float32))[0] == pytest.approx(1.0)
    player.warm_up()
    assert policy.rehearsals == 1
    player.drop()
    player.warm_up()
    assert player.act(np.array([5.0], np.float32))[0] == pytest.approx(5.0)
    assert (policy.plans, policy.rehearsals) == (2, 2)


@pytest.mark.parametrize("wrong", [0, 4])
def test_more_actions_than_planned_cannot_be_played(bundle: Bundle, wrong: int) -> None:
    with pytest.raises(ConfigError, match=rf"--replan-every is {wrong}, but policy 'reach' plans 3 actions.*1 to 3"):
        ChunkPlayer(Counts(replace(bundle[1], chunk=3)), wrong)


class Stays:
    """Plans to stay at the pose it saw: which plan is played can be told from the asked numbers."""

    def __init__(self, contract: Contract, *, nan_in_plan: int = -1, slow_plan: int = -1) -> None:
        self.contract = replace(contract, chunk=CHUNK)
        self.nan_in_plan, self.slow_plan = nan_in_plan, slow_plan
        self.plans = 0

    def plan(self, obs: Any) -> Any:
        self.plans += 1
        actions = np.tile(obs[:7], (CHUNK, 1))
        actions[:, 0] += 1e-3 * self.plans  # plan 1 was the warm-up
        if self.plans == self.nan_in_plan:
            actions[2, 3] = np.nan
        if self.plans == self.slow_plan:
            time.sleep(0.05)
        return actions

    def warm_up(self) -> None:
        pass


@pytest.fixture
def arm() -> Any:
    made = make_arm(load_arm("virtual"), episode_steps=10)
    made.connect()
    yield made
    made.close()


def test_each_episode_begins_with_a_plan_of_its_own(bundle: Bundle, arm: Any) -> None:
    policy = Stays(bundle[1])
    plan = ServePlan(episodes=2, paced=False)
    report = serve(ChunkPlayer(policy), arm, Supervisor(load_arm("virtual").limits()), plan)
    assert report.ticks == 20
    assert policy.plans == 1 + 2 * 3  # the first call warms up; 10 ticks take 4 + 4 + 2 actions
    with pytest.raises(ConfigError, match=r"--replan-every is 5, but policy 'reach' plans 4"):
        ChunkPlayer(policy, 5)


def test_a_nan_inside_a_plan_holds_its_tick_and_the_next_plans_anew(bundle: Bundle, arm: Any) -> None:
    policy = Stays(bundle[1], nan_in_plan=2)
    made: list[int] = []
    verdicts: list[Verdict] = []

    def note(*heard: Any) -> None:
        made.append(policy.plans)
        verdicts.append(heard[2].verdict)

    plan = ServePlan(episodes=1, paced=False)
    supervisor = Supervisor(load_arm("virtual").limits())
    report = serve(ChunkPlayer(policy), arm, supervisor, plan, on_tick=note)
    assert report.ending is Ending.EPISODES
    assert [v is Verdict.HELD for v in verdicts] == [i == 2 for i in range(10)]
    assert made == [2, 2, 2, 3, 3, 3, 3, 4, 4, 4]  # the plan with the NaN loses its last action


def test_a_plan_that_takes_too_long_misses_deadlines_and_is_played_all_the_same(bundle: Bundle, arm: Any) -> None:
    policy = Stays(bundle[1], slow_plan=3)
    made: list[int] = []
    limits = replace(load_arm("virtual").limits(), overrun="hold")
    report = serve(
        ChunkPlayer(policy),
        arm,
        Supervisor(limits),
        ServePlan(episodes=1),
        on_tick=lambda *_: made.append(policy.plans),
    )
    assert report.missed >= 2  # 50 ms at 50 Hz
    assert report.reasons["deadline missed"] >= 1
    assert made == [2] * 4 + [3] * 4 + [4] * 2  # held for a tick, not planned anew for ever


def test_an_armed_again_arm_is_not_driven_by_the_plan_from_before(bundle: Bundle, arm: Any) -> None:
    from deploy.operator.station import Station

    arm.close()
    arm = make_arm(load_arm("virtual"), episode_steps=1000)
    arm.connect()
    station, policy, made = Station(), Stays(bundle[1]), list[int]()

    def act(*heard: Any) -> None:
        made.append(policy.plans)
        if len(made) == 2:
            station.press("key")
        if len(made) == 63:
            station.ask_to_arm()

    plan = ServePlan(duration_s=70 / 50, paced=False, wait_for_arm=True)
    serve(ChunkPlayer(policy), arm, Supervisor(load_arm("virtual").limits()), plan, station=station, on_tick=act)
    arm.close()
    armed = made[63]
    assert made[62] <= armed - 1  # a plan of its own, whatever was left of the one before
    assert made[63:67] == [armed] * 4


def test_commands_between_actions_do_not_use_the_plan_up(bundle: Bundle) -> None:
    import msgspec

    fast = msgspec.structs.replace(load_arm("virtual"), command_rate_hz=250.0)
    arm: Any = make_arm(fast, episode_steps=8)
    arm.connect()
    policy = Stays(bundle[1])
    plan = ServePlan(episodes=1, paced=False, commands_per_step=5, interpolation="linear")
    report = serve(ChunkPlayer(policy, 2), arm, Supervisor(fast.limits()), plan)
    arm.close()
    assert (report.ticks, policy.plans) == (40, 1 + 4)


def test_a_slow_policy_is_not_rehearsed_before_each_deadline(bundle: Bundle, arm: Any) -> None:
    calls: list[float] = []

    class Slow(Stays):
        def warm_up(self) -> None:
            calls.append(time.monotonic())
            time.sleep(0.005)

    report = serve(
        ChunkPlayer(Slow(bundle[1]), 1), arm, Supervisor(load_arm("virtual").limits()), ServePlan(episodes=1)
    )
    assert len(calls) == 3  # measured before the first tick
    assert report.ticks == 10


class Plans(nn.Module):
    """A small relative of ACT: queries, one an action of the chunk, look at the observation; its scaling is inside."""

    def __init__(self, spec: Spec, chunk: int) -> None:
        super().__init__()
        self.observe = nn.Linear(spec.obs_dim, 32)
        self.queries = nn.Parameter(torch.randn(chunk, 32))
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.out = nn.Linear(32, spec.action_dim)
        low, high = torch.from_numpy(spec.action_low), torch.from_numpy(spec.action_high)
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        seen = self.observe(obs)[:, None]  # (B, 1, 32)
        queries = self.queries.expand(obs.shape[0], -1, -1) + seen
        tokens, _ = self.attend(queries, torch.cat([seen, queries], 1), torch.cat([seen, queries], 1))
        return self.centre + 0.1 * self.reach * torch.tanh(self.out(tokens))  # (B, H, A)


@pytest.fixture(scope="module")
def planner(reach_spec: Spec) -> nn.Module:
    torch.manual_seed(0)
    return Plans(reach_spec, CHUNK).eval()


@pytest.fixture(scope="module")
def chunked(tmp_path_factory: pytest.TempPathFactory, trained: TrainedPolicy, planner: nn.Module) -> Bundle:
    out = tmp_path_factory.mktemp("chunked") / "bundle"
    return out, export_policy(replace(trained, module=planner), out, [])


def test_a_module_that_plans_is_exported_with_its_chunk_in_the_contract(
    chunked: Bundle, planner: nn.Module, reach_spec: Spec
) -> None:
    assert chunked[1].chunk == CHUNK
    policy = Policy.load(chunked[0])
    assert policy.contract == chunked[1]
    obs = np.random.default_rng(0).normal(size=(1, reach_spec.obs_dim)).astype(np.float32)
    with torch.inference_mode():
        expected = planner(torch.from_numpy(obs))[0].numpy()
    np.testing.assert_allclose(policy.plan(obs[0]), expected, atol=1e-5)
    with pytest.raises(BundleError, match="'reach' plans 4 actions for one observation"):
        policy.act(obs[0])


def test_a_policy_of_single_actions_plans_one(bundle: Bundle) -> None:
    policy = Policy.load(bundle[0])
    obs = np.zeros(bundle[1].spec.obs_dim, np.float32)
    assert policy.plan(obs).shape == (1, 7)
    np.testing.assert_array_equal(policy.plan(obs)[0], policy.act(obs))


class Shaped(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, :1].reshape(-1, *(1 for _ in self.shape)).expand(-1, *self.shape)


@pytest.mark.parametrize("shape", [(8,), (1, 7), (4, 8), (2, 2, 7)])
def test_other_shapes_are_not_exported(tmp_path: Path, trained: TrainedPolicy, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"must be \(7,\), one action, or \(H, 7\)"):
        export_policy(replace(trained, module=Shaped(shape)), tmp_path / "out", [])


def relabelled(folder: Path, contract: Contract) -> bytes:
    model = onnx.load(folder / "policy.onnx")
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model.SerializeToString()


def test_a_contract_that_contradicts_its_graph_is_refused(bundle: Bundle, chunked: Bundle) -> None:
    longer = relabelled(chunked[0], replace(chunked[1], chunk=16))
    with pytest.raises(BundleError, match=r"\(4, 7\).*contract says 'action', float32, 16 x 7 numbers \(a chunk of 16"):
        Policy.from_bytes(longer, "here")
    single = relabelled(chunked[0], replace(chunked[1], chunk=1))
    with pytest.raises(BundleError, match=r"\(4, 7\).*contract says 'action', float32, 7 numbers"):
        Policy.from_bytes(single, "here")
    planned = relabelled(bundle[0], replace(bundle[1], chunk=4))
    with pytest.raises(BundleError, match=r"\(7,\).*4 x 7 numbers"):
        Policy.from_bytes(planned, "here")
    for wrong in (0, -3):
        with pytest.raises(BundleError, match=f"chunk is {wrong}"):
            Contract.from_json(replace(chunked[1], chunk=wrong).to_json(), "here")


def test_contracts_from_before_chunks_are_single_actions(bundle: Bundle) -> None:
    raw = json.loads(bundle[1].to_json())
    del raw["chunk"]
    assert Contract.from_json(json.dumps(raw), "here").chunk == 1


def foreign(folder: Path, planner: nn.Module, spec: Spec, *, free_batch: bool = True) -> tuple[Path, Path]:
    """The policy as another program would write it: its own names, and pairs beside it."""
    file, pairs = folder / "act.onnx", folder / "act.npz"
    shapes = ({0: torch.export.Dim("b", min=1)},) if free_batch else None
    torch.onnx.export(
        planner,
        (torch.zeros(2 if free_batch else 1, spec.obs_dim),),
        file,
        input_names=["observation.state"],
        output_names=["actions"],
        dynamic_shapes=shapes,
        opset_version=18,
        dynamo=True,
        verbose=False,
        external_data=False,
    )
    obs = np.random.default_rng(1).normal(size=(50, spec.obs_dim)).astype(np.float32)
    with torch.inference_mode():
        np.savez(pairs, obs=obs, action=planner(torch.from_numpy(obs)).numpy())
    return file, pairs


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, which another program runs here
def test_a_policy_trained_elsewhere_is_put_into_a_bundle_and_served(
    tmp_path: Path, planner: nn.Module, reach_spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    file, pairs = foreign(tmp_path, planner, reach_spec)
    out = tmp_path / "bundle"
    words = ["--onnx", str(file), "--pairs", str(pairs), "--arm", "virtual", "--out", str(out)]
    assert export_command.main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a chunk of 4 for one observation" in said
    assert "trained elsewhere" in said
    contract = Policy.load(out).contract
    assert (contract.chunk, contract.run, contract.stats_digest) == (CHUNK, "act", "")
    assert (contract.parity.samples_recorded, contract.parity.batch_sizes) == (50, (1, 50))
    serving = [str(out), "--arm", "virtual", "--episode-steps", "9", "--free-run", "--json"]
    assert serve_command.main([*serving, "--replan-every", "3", "--record", str(tmp_path / "sessions")]) == 0
    assert json.loads(capsys.readouterr().out)["ticks"] == 9
    session = open_session(next((tmp_path / "sessions").iterdir()))
    counts = [t for t, _ in session.messages() if t in (OBSERVATION, ASKED)]
    assert counts.count(OBSERVATION) == counts.count(ASKED) == 9  # every step is a transition
    with pytest.raises(ConfigError, match="plans 4 actions for one observation; --listen answers with one"):
        serve_command.main([str(out), "--listen", "tcp://127.0.0.1:0"])
    with pytest.raises(ConfigError, match="--replan-every is 9"):
        serve_command.main([*serving, "--replan-every", "9", "--no-record"])


@pytest.mark.filterwarnings("ignore")
def test_pairs_of_other_weights_leave_nothing_behind(tmp_path: Path, planner: nn.Module, reach_spec: Spec) -> None:
    file, pairs = foreign(tmp_path, planner, reach_spec)
    with np.load(pairs) as raw:
        obs, action = raw["obs"], raw["action"].copy()
    action[7, 2, 1] += 0.01
    np.savez(pairs, obs=obs, action=action)
    words = ["--onnx", str(file), "--pairs", str(pairs), "--arm", "virtual", "--out", str(tmp_path / "b")]
    with pytest.raises(ParityError, match=r"differs by 0\.01 from the actions in the pairs"):
        export_command.main(words)
    np.savez(pairs, obs=obs, action=action[:, 0])
    with pytest.raises(ConfigError, match=r"returns \(4, 7\) for one observation, the pairs hold \(7,\)"):
        export_command.main(words)
    np.savez(pairs, obs=obs[:3], action=action)
    with pytest.raises(DataError, match=r"obs has shape \(3, 20\), action \(50, 4, 7\)"):
        export_command.main(words)
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob(".b*"))


def graph_of(inputs: list[tuple[str, list[Any]]], outputs: list[tuple[str, list[Any]]]) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", [inputs[0][0]], [name]) for name, _ in outputs]
    ends = [[value(name, TensorProto.FLOAT, shape) for name, shape in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([("image", ["b", 20]), ("state", ["b", 20])], [("a", ["b", 20])], "inputs? image.*state.*Join observations"),
        ([("o", [1, 20])], [("a", [1, 20])], "free batch size.*dynamic batch axis"),
        ([("o", ["b", 19])], [("a", ["b", 19])], r"shape \(19,\), the spec has 20 numbers: joint_pos \(7\)"),
        ([("o", ["b", 20])], [("a", ["b", 20])], r"returns \(20,\) for one observation; it must be \(7,\)"),
    ],
)
def test_graphs_that_are_no_policy_for_the_arm_are_refused(
    tmp_path: Path, inputs: Any, outputs: Any, message: str
) -> None:
    (tmp_path / "x.onnx").write_bytes(graph_of(inputs, outputs).SerializeToString())
    np.savez(tmp_path / "x.npz", obs=np.zeros((1, 20)), action=np.zeros((1, 7)))
    words = ["--onnx", str(tmp_path / "x.onnx"), "--pairs", str(tmp_path / "x.npz"), "--arm", "virtual"]
    with pytest.raises(ConfigError, match=message):
        export_command.main([*words, "--out", str(tmp_path / "b")])


def test_words_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "b")]
    with pytest.raises(ConfigError, match="either a run folder, or --onnx"):
        export_command.main(out)
    with pytest.raises(ConfigError, match=r"--onnx needs --pairs FILE\.npz"):
        export_command.main(["--onnx", "x.onnx", "--arm", "virtual", *out])
    with pytest.raises(ConfigError, match="--pairs and --arm are for --onnx"):
        export_command.main(["run", "--arm", "virtual", *out])
    (tmp_path / "x.npz").write_bytes(b"PK no")
    words = ["--pairs", str(tmp_path / "x.npz"), "--arm", "virtual", *out]
    with pytest.raises(DataError, match=r"holds no pairs.*numpy\.savez"):
        export_command.main(["--onnx", "x.onnx", *words])
    np.savez(tmp_path / "x.npz", obs=np.zeros((1, 20)), action=np.zeros((1, 7)))
    with pytest.raises(BundleError, match=r"x\.onnx is not an ONNX file"):
        export_command.main(["--onnx", str(tmp_path / "x.onnx"), *words])
