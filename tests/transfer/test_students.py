"""From the logs of two tasks to a student of a third: every part on and off, reproducible, resumable."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.algorithms.dreamer import Dreamer, DreamerConfig
from robot_rl.algorithms.latent_sac import LatentSAC, LatentSACConfig
from robot_rl.algorithms.registry import AgentConfig
from robot_rl.algorithms.sac import SACConfig
from robot_rl.checkpoint import load_agent, load_policy
from robot_rl.config import from_mapping, to_mapping
from robot_rl.data.dataset import write_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.sequences import Sequences
from robot_rl.data.stats import observation_stats
from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.errors import CheckpointError, ConfigError, SpecMismatch
from robot_rl.evaluate import act_with
from robot_rl.finetune import finetune
from robot_rl.latent.model import LatentModelConfig, symlog
from robot_rl.nets.actor import ResidualActor
from robot_rl.online_run import FinetuneConfig, OnlineRun
from robot_rl.run import read_metrics
from robot_rl.transfer.action_replay import GUIDE
from robot_rl.transfer.guide import Guide, TransferConfig
from robot_rl.transfer.lesson import with_teacher
from robot_rl.transfer.plots import weights_over
from robot_rl.transfer.store import load_teacher
from robot_rl.transfer.teacher import TeacherConfig, train_teacher
from tests.learning.made import make_episodes, make_spec

ENV = "Pendulum-v1"
MODEL = LatentModelConfig(deter=12, stoch=4, hidden=12, embed=12, layers=(16,))
TAKEN = TransferConfig(replay_hidden=(16,))
SAC = LatentSACConfig(hidden=(16,), batch_size=16, sequences=3, length=5, model=MODEL, transfer=TAKEN)
DREAMER = DreamerConfig(hidden=(16,), sequences=3, length=5, horizon=3, model=MODEL, transfer=TAKEN)


def teach(sources, out: Path, **options) -> TeacherConfig:
    return TeacherConfig(
        sources=sources,
        out=out,
        **{
            "model": MODEL,
            "steps": 6,
            "sequences": 4,
            "length": 5,
            "checkpoint_every": 3,
            "log_every": 3,
            "device": "cpu",
        }
        | options,
    )


@pytest.fixture(scope="module")
def teacher(sources, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    train_teacher(teach(sources, out), quiet=True)
    return out


def study(agent: AgentConfig, out: Path, teacher: Path | None, **options) -> FinetuneConfig:
    return FinetuneConfig(
        algorithm="dreamer" if isinstance(agent, DreamerConfig) else "latent-sac",
        out=out,
        agent=agent,
        transfer=teacher,
        env=ENV,
        **{
            "episode_steps": 10,
            "steps": 30,
            "warmup": 10,
            "utd": 0.2,
            "eval_every": 30,
            "eval_episodes": 1,
            "checkpoint_every": 10,
            "log_every": 10,
            "device": "cpu",
        }
        | options,
    )


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    agent, _ = load_agent(run)
    return agent.state_dict() | agent.training_state()


def assert_same(one: Path, two: Path) -> None:
    a, b = weights_of(one), weights_of(two)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("cfg", [SAC, DREAMER], ids=["latent-sac", "dreamer"])
@pytest.mark.parametrize(
    "parts",
    [
        None,
        {},
        {"similarity": "uniform"},
        {"similarity": "predicted"},
        {"action_replay": False},
        {"distill": False},
        {"residual": True, "rehearsal": 3},
        {"residual": True, "rehearsal": 3, "trials": 1, "replay_sees": "observation"},
        {"distill": False, "action_replay": False, "initialise": True},
    ],
    ids=["alone", "all", "uniform", "predicted", "distillation", "replay", "residual", "tried", "joint"],
)
def test_every_arm_learns_and_acts(cfg, parts, teacher, tmp_path):
    if parts is not None:
        cfg = replace(cfg, transfer=replace(TAKEN, **parts))
    finetune(study(cfg, tmp_path / "run", None if parts is None else teacher), quiet=True)
    rows = read_metrics(tmp_path / "run")
    assert all(np.isfinite(v) for row in rows for v in row.values())
    learned = {name for row in rows for name in row}
    taught = parts is not None and (parts.get("distill", True) or parts.get("action_replay", True))
    assert ("transfer/w up" in learned) == taught
    assert ("transfer/replay" in learned) == (taught and parts.get("action_replay", True))
    assert (tmp_path / "run/similarity.png").is_file() == taught
    act = act_with(load_policy(tmp_path / "run").module)
    act.begin_episode()
    obs = np.array([1.0, 0.0, 0.5], np.float32)
    first, second = act(obs), act(obs)
    assert first.shape == (1,)
    assert not np.array_equal(first, second)  # it remembers the first
    act.begin_episode()
    assert np.array_equal(act(obs), first)


def test_dreams_begin_where_the_task_goes_on(monkeypatch):
    spec = make_spec()
    agent = Dreamer(DREAMER, spec, observation_stats(make_episodes(2)))
    begun: list[int] = []
    dream = Dreamer._dream
    monkeypatch.setattr(
        Dreamer, "_dream", lambda self, state, theirs: begun.append(len(state)) or dream(self, state, theirs)
    )
    steps = torch.ones(2, 3)
    mask, valid = steps.clone(), steps.clone()
    mask[1, 0] = 0  # ends in its last state
    mask[0, 1], valid[1, 1] = 0, 0  # ends in the one before; what follows is filled up
    seen = Sequences(torch.zeros(3, 3, spec.obs_dim), torch.zeros(2, 3, spec.action_dim), steps, mask, valid)
    agent.improve(seen, torch.zeros(3, 3, agent.model.width), None)
    assert begun == [9 - 2 - 1]  # two states in which a task ended, one that is not there


def test_weights_over_an_episode_are_a_distribution_at_each_step(teacher, tmp_path):
    finetune(study(SAC, tmp_path / "run", teacher), quiet=True)
    student = load_agent(tmp_path / "run")[0]
    obs = np.random.default_rng(0).normal(size=(8, 3))
    weights = weights_over(student, Episode(observations=obs, actions=np.zeros((7, 1)), rewards=np.zeros(7)))
    assert weights.shape == (8, 2)
    assert torch.allclose(weights.sum(1), torch.ones(8))
    assert float(weights.std(0).max()) > 0.0


def test_a_residual_actor_begins_with_the_action_proposed():
    torch.manual_seed(0)
    actor = ResidualActor(5, 2, (8,))
    with torch.no_grad():
        actor.net[-1].weight.zero_()
        actor.net[-1].bias.zero_()
    seen = torch.randn(7, 5)
    assert torch.allclose(actor(seen), torch.tanh(seen[:, -2:]))
    generator = torch.Generator().manual_seed(0)
    assert torch.allclose(actor.sample(seen, generator)[2], torch.tanh(seen[:, -2:]))
    assert torch.allclose(actor.explore(seen, torch.zeros(7, 2)), torch.tanh(seen[:, -2:]))


TRIED = replace(TAKEN, residual=True, rehearsal=3, trials=2, replay_sees="observation")


def student_on_trial(teacher: Path) -> LatentSAC:
    taught = load_teacher(teacher)
    cfg = with_teacher(replace(SAC, first_std=0.2, bc_weight=0.5, transfer=TRIED), taught)
    return LatentSAC(cfg, taught.spec, taught.stats)


def an_episode(agent: LatentSAC, version: int, return_: float, *, whole: bool = True, helped: bool = False) -> Rows:
    rows = np.zeros(3, transition_dtype(agent.spec.obs_dim, agent.spec.action_dim))
    rows["policy_version"], rows["reward"], rows["starts"][0] = version, return_ / 3, whole
    rows["truncated"][-1], rows["intervention"][1] = 1, helped
    return rows


def test_an_actor_without_a_source_explores_as_without_a_teacher(teacher):
    agent = student_on_trial(teacher)
    seen = torch.randn(4, agent.shown_dim)
    assert torch.allclose(agent._acting_net._moments(seen)[1].exp(), torch.tensor(0.2))
    for _ in range(2):
        for earned in (1.0, 2.0, 3.0):
            agent.witness(an_episode(agent, agent.version, earned))
    assert not agent.guide.trials.running
    assert torch.allclose(agent._acting_net._moments(seen)[1].exp(), torch.tensor(1.0))


def test_an_episode_counts_for_the_source_whose_policy_acted_in_all_of_it(teacher):
    agent = student_on_trial(teacher)
    trials = agent.guide.trials
    agent.witness(an_episode(agent, 0, 6.0))
    assert (agent.version, trials.turns, trials.earned[0, 0].item()) == (1, 1, 6.0)
    agent.witness(an_episode(agent, 0, 7.0))  # an actor that had not got the new policy yet
    mixed = an_episode(agent, 1, 7.0)
    mixed["policy_version"][0] = 0  # and one that got it on the way
    agent.witness(mixed)
    agent.witness(an_episode(agent, 1, 7.0, helped=True))  # a person took over
    agent.witness(an_episode(agent, 1, 7.0, whole=False))  # it began before a restart
    assert (agent.version, trials.turns) == (1, 1)
    for part in np.split(an_episode(agent, 1, 9.0), [1]):  # rows come as they come
        agent.witness(part)
    assert (agent.version, trials.turns, trials.earned[1, 0].item()) == (2, 2, 9.0)
    agent.updates = 5
    agent.witness(an_episode(agent, 2, 3.0))  # of this turn, though there were updates since
    assert (agent.version, trials.turns) == (8, 3)
    agent.witness(an_episode(agent, 7, 3.0))
    assert trials.turns == 3


def test_a_source_on_trial_acts_whatever_the_weights_say():
    torch.manual_seed(0)
    guide = Guide(replace(TRIED, sources=("one", "two"), teacher=MODEL), 3, 1, 6)
    theirs, own, obs, z = torch.randn(5, 2, 16), torch.randn(5, 6), torch.randn(5, 3), torch.zeros(5, 8)
    for which, trying in ((guide.trials.acting, True), (guide.trials.kept, False)):
        for number in range(2):
            which.copy_(torch.eye(3)[number])
            expected = guide.replay.guide(obs, guide.onehots[number].expand(5, 2), z)
            assert torch.allclose(guide.hint(theirs, own, obs, z, trying=trying)[:, :GUIDE], expected)
        which.copy_(torch.eye(3)[2])
        assert not guide.hint(theirs, own, obs, z, trying=trying).any()
        which.zero_()
        best = guide.similarity.weights(theirs, own).argmax(-1)
        expected = guide.replay.guide(obs, guide.onehots[best], z)
        assert torch.allclose(guide.hint(theirs, own, obs, z, trying=trying)[:, :GUIDE], expected)


def test_while_sources_are_tried_the_best_so_far_is_judged(teacher):
    agent = student_on_trial(teacher)
    policy, behaviour = agent.policy, agent.behaviour  # made before the trials go on
    obs, memory, noise = torch.randn(4, 3), torch.zeros(4, policy.state_dim), torch.zeros(4, 1)
    for earned in (2.0, 5.0):
        agent.witness(an_episode(agent, agent.version, earned))
    trials = agent.guide.trials
    assert (int(trials.acting.argmax()), int(trials.kept.argmax())) == (2, 1)
    judged, acted = policy(obs, memory)[0], behaviour(obs, memory, noise)[0]
    assert not torch.allclose(judged, acted)
    trials.acting.copy_(trials.kept)
    assert torch.allclose(judged, behaviour(obs, memory, noise)[0])


def test_a_teachers_error_is_that_of_what_it_expected():
    """Step by step, by the parts that imagine, against the pass over whole sequences."""
    torch.manual_seed(0)
    guide = Guide(replace(TAKEN, similarity="predicted", sources=("one", "two"), teacher=MODEL), 3, 1, 6)
    obs, action, reward = torch.randn(4, 2, 3), torch.randn(3, 2, 1), torch.randn(3, 2)
    seen = Sequences(obs=obs, action=action, reward=reward, mask=torch.ones(3, 2), valid=torch.ones(3, 2))
    states, error = guide.watch(seen)
    assert torch.equal(states, guide.features(obs, action))
    assert error.shape == (4, 2, 2)
    for step in range(1, 4):
        expected = guide.expect(states[step - 1], action[step - 1], torch.zeros(2, 2, MODEL.stoch))
        missed = 0.5 * (guide.teacher.decoder(expected) - obs[step].unsqueeze(1)).square().sum(-1)
        told = guide.teacher.reward(states[step]).squeeze(-1)
        missed += 0.5 * (told - symlog(reward[step - 1]).unsqueeze(1)).square()
        assert torch.allclose(error[step], missed, atol=1e-5)
    assert guide.watch(seen)[1] is not None
    assert Guide(replace(guide.cfg, similarity="learned"), 3, 1, 6).watch(seen)[1] is None


def test_trials_are_episodes_of_the_run_and_outlive_an_interruption(teacher, tmp_path):
    tried = replace(SAC, transfer=TRIED)
    finetune(study(tried, tmp_path / "whole", teacher, steps=80, warmup=70), quiet=True)
    agent, _ = load_agent(tmp_path / "whole")
    assert agent.guide.trials.tried.tolist() == [2, 2, 2]
    rewards = ReplayLog(tmp_path / "whole/transitions", agent.spec).read(0, 60)["reward"].reshape(2, 3, 10)
    assert torch.allclose(agent.guide.trials.earned, torch.from_numpy(rewards.sum(2).T.copy()), rtol=1e-5)
    finetune(study(tried, tmp_path / "parts", teacher, steps=20, warmup=70), quiet=True)
    finetune(study(tried, tmp_path / "parts", teacher, steps=80, warmup=70, resume=True), quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_episodes_of_sources_on_trial_say_nothing_of_how_the_policy_explores(teacher, tmp_path, caplog):
    for parts, words in ((TRIED, 0), (TAKEN, 1)):
        run = OnlineRun(study(replace(SAC, transfer=parts), tmp_path / f"run{words}", teacher))
        run.learner.agent.guide.trials.tried[0] = float(parts.trials)
        run.results = {"eval/success": 1.0}
        for _ in range(8):
            run.recent.add(0.0, False)
            run.write_metrics({})
        run.close()
        assert len(caplog.messages) == words


@pytest.mark.parametrize("cfg", [SAC, DREAMER], ids=["latent-sac", "dreamer"])
def test_killed_and_resumed_equals_uninterrupted(cfg, teacher, tmp_path):
    finetune(study(cfg, tmp_path / "whole", teacher), quiet=True)
    finetune(study(cfg, tmp_path / "parts", teacher, steps=20), quiet=True)
    finetune(study(cfg, tmp_path / "parts", teacher, resume=True), quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_teacher_resumed_equals_one_trained_at_once(sources, teacher, tmp_path):
    train_teacher(teach(sources, tmp_path / "run", steps=3), quiet=True)
    assert not (tmp_path / "gone").exists()
    with pytest.raises(CheckpointError, match="already holds a run at update 3"):
        train_teacher(teach(sources, tmp_path / "run"), quiet=True)
    train_teacher(teach(sources, tmp_path / "run", resume=True), quiet=True)
    one, two = load_teacher(teacher).model.state_dict(), load_teacher(tmp_path / "run").model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    figures = train_teacher(teach(sources, tmp_path / "run", resume=True), quiet=True)  # at its end already
    assert {"held_out/observation", "model/observation", "held_out/reward", "model/reward"} <= figures.keys()
    with pytest.raises(CheckpointError, match=r"has had 6 updates, and --steps is 3"):
        train_teacher(teach(sources, tmp_path / "run", steps=3, resume=True), quiet=True)
    other = teach(sources, tmp_path / "run", resume=True, holdout=0.5)
    with pytest.raises(CheckpointError, match=r"--holdout is 0\.5 here"):
        train_teacher(other, quiet=True)


def test_steps_of_a_teacher_that_was_trained_on_are_refused(sources, tmp_path):
    train_teacher(teach(sources, tmp_path / "run"), quiet=True)
    kept = (tmp_path / "run" / "source_steps.safetensors").read_bytes()
    train_teacher(teach(sources, tmp_path / "run", steps=8, resume=True), quiet=True)
    assert len(load_teacher(tmp_path / "run").source_steps().action) == 160
    (tmp_path / "run" / "source_steps.safetensors").write_bytes(kept)  # as after a kill between the two
    with pytest.raises(CheckpointError, match=r"written after 6 updates, the teacher here has had 8.*--resume"):
        load_teacher(tmp_path / "run").source_steps()


def test_a_student_goes_on_with_its_teacher_and_its_kind_alone(sources, teacher, tmp_path):
    begun = tmp_path / "begun"
    finetune(study(SAC, begun, teacher), quiet=True)
    taught = load_agent(begun)[0].cfg
    with pytest.raises(ConfigError, match=r"begun was taught by a teacher: give its --transfer RUN"):
        finetune(study(taught, tmp_path / "on", None, start=begun), quiet=True)
    train_teacher(teach(sources, tmp_path / "other", holdout=0.5), quiet=True)
    with pytest.raises(ConfigError, match=r"scales observations by the means and deviations of other logs"):
        finetune(study(SAC, tmp_path / "on", tmp_path / "other", start=begun), quiet=True)
    plain = FinetuneConfig(algorithm="sac", out=tmp_path / "on", agent=SACConfig(hidden=(8,)), env=ENV, start=begun)
    with pytest.raises(ConfigError, match=r"acts on the state of its world model, which sac has not"):
        finetune(plain, quiet=True)
    assert not (tmp_path / "on" / "checkpoints").exists()


def test_the_sources_steps_are_all_of_them_in_order(sources, teacher):
    steps = load_teacher(teacher).source_steps()
    assert steps.source.tolist() == [0] * 80 + [1] * 80
    assert steps.state.shape == (160, 16)
    assert float(steps.action.abs().max()) <= 1.0


def test_a_student_does_not_change_its_teacher_and_its_checkpoint_needs_no_other_file(teacher, tmp_path):
    finetune(study(SAC, tmp_path / "run", teacher), quiet=True)
    taught = load_agent(tmp_path / "run")[0].guide.teacher.state_dict()
    own = load_teacher(teacher).model.state_dict()
    assert all(torch.equal(taught[name], own[name]) for name in own)


def test_a_student_is_not_resumed_with_another_teacher_or_none(sources, teacher, tmp_path):
    finetune(study(SAC, tmp_path / "run", teacher, steps=20), quiet=True)
    train_teacher(teach(sources, tmp_path / "other", seed=1), quiet=True)
    with pytest.raises(CheckpointError, match="taught by another teacher, of up, down"):
        finetune(study(SAC, tmp_path / "run", tmp_path / "other", resume=True), quiet=True)
    with pytest.raises(ConfigError, match="run was taught by a teacher: give its --transfer RUN"):
        finetune(study(SAC, tmp_path / "run", None, resume=True), quiet=True)
    finetune(study(SAC, tmp_path / "run", teacher, resume=True), quiet=True)


def test_a_student_that_begins_with_the_teachers_model_predicts_as_it_does_without_a_task(teacher, tmp_path):
    cfg = replace(SAC, transfer=replace(TAKEN, initialise=True))
    finetune(study(cfg, tmp_path / "run", teacher, warmup=30), quiet=True)  # no update
    own, theirs = load_agent(tmp_path / "run")[0].model, load_teacher(teacher).model
    obs, action = torch.randn(4, 2, 3), torch.randn(3, 2, 1)
    mine = own.observe(obs, action, None, None).state
    assert torch.allclose(mine, theirs.observe(obs, action, torch.zeros(2, 2), None).state, atol=1e-6)


def test_what_does_not_fit_is_refused_in_words(sources, teacher, tmp_path):
    blind = replace(study(SAC, tmp_path / "a", teacher), algorithm="sac", agent=SACConfig())
    with pytest.raises(ConfigError, match="use latent-sac or dreamer"):
        finetune(blind, quiet=True)
    with pytest.raises(ConfigError, match=r"--agent.ema is 0.9, .* Leave it at 0"):
        LatentSACConfig(ema=0.9)
    with pytest.raises(ConfigError, match=r"trials 1 lets .*rehearsal of some 2,000 updates; they are off and 0"):
        TransferConfig(trials=1)
    with pytest.raises(ConfigError, match="at least 2 tasks"):
        train_teacher(teach(sources[:1], tmp_path / "b"), quiet=True)
    other = write_dataset(tmp_path / "other", make_spec(), make_episodes(), origin="made").path
    with pytest.raises(ConfigError, match=r"Two sources are called twin: .*--names"):
        train_teacher(teach(sources, tmp_path / "b", names=("twin",) * len(sources)), quiet=True)
    with pytest.raises(SpecMismatch, match="sees all its sources through the same observations"):
        train_teacher(teach((sources[0], other), tmp_path / "c"), quiet=True)
    finetune(study(SAC, tmp_path / "d", None, steps=10), quiet=True)
    with pytest.raises(CheckpointError, match="not a teacher"):
        load_teacher(tmp_path / "d")
    odd = replace(SAC, model=replace(MODEL, deter=8), transfer=replace(TAKEN, initialise=True))
    with pytest.raises(CheckpointError, match=r"The teacher's rssm\..* is \(36, 24\), the student's \(24, 20\)"):
        finetune(study(odd, tmp_path / "e", teacher), quiet=True)
    assert not any((tmp_path / name).exists() for name in "abce")


@pytest.mark.parametrize("cfg", [SAC, DREAMER])
def test_options_survive_the_way_through_a_file(cfg):
    assert from_mapping(type(cfg), to_mapping(cfg), "test") == cfg


def test_a_run_copied_with_its_links_followed_goes_on(tmp_path):
    finetune(study(SAC, tmp_path / "whole", None), quiet=True)
    finetune(study(SAC, tmp_path / "parts", None, steps=20), quiet=True)
    shutil.copytree(tmp_path / "parts", tmp_path / "copy")  # follows links: checkpoints/last is a folder then
    assert not (tmp_path / "copy/checkpoints/last").is_symlink()
    finetune(study(SAC, tmp_path / "copy", None, resume=True), quiet=True)
    assert (tmp_path / "copy/checkpoints/last").is_symlink()
    assert_same(tmp_path / "whole", tmp_path / "copy")
