"""Fine-tuning in turns: reproducible, resumable, and on the schedule that was asked for."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from robot_rl.algorithms.awac import AWACConfig
from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.registry import AgentConfig, build_agent
from robot_rl.algorithms.sac import SACConfig
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.checkpoint import load_agent, load_policy
from robot_rl.cli import main
from robot_rl.collect import Collector
from robot_rl.data.dataset import Dataset, write_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Replay
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.row_table import RowTable
from robot_rl.data.stats import observation_stats
from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import CheckpointError, ConfigError, DataError
from robot_rl.finetune import finetune
from robot_rl.online import OnlineConfig, OnlineLearner
from robot_rl.online_run import FinetuneConfig, OnlineRun
from robot_rl.pretrain import PretrainConfig, pretrain
from robot_rl.recent_episodes import RecentEpisodes
from robot_rl.run import read_metrics
from tests.learning.made import make_episodes, make_spec

ENV = "Pendulum-v1"
SMALL: dict[str, AgentConfig] = {
    "awac": AWACConfig(actor_hidden=(16,), critic_hidden=(16,), batch_size=8, dropout=0.1),
    "td3-bc": TD3BCConfig(hidden=(16,), batch_size=8),
    "sac": SACConfig(hidden=(16,), batch_size=8, critics=3),
}


@pytest.fixture
def logs(tmp_path: Path) -> Dataset:
    """Random actions in Pendulum."""
    env = make_env(ENV, max_episode_steps=20)
    spec, rng = env_spec(env), np.random.default_rng(0)
    episodes: list[Episode] = []
    for seed in range(4):
        obs, actions, rewards = [env.reset(seed=seed)[0]], [], []
        for _ in range(20):
            action = rng.uniform(-2, 2, 1).astype(np.float32)
            after, reward, *_ = env.step(action)
            obs.append(after)
            actions.append(action)
            rewards.append(reward)
        episodes.append(Episode(observations=np.stack(obs), actions=np.stack(actions), rewards=np.array(rewards)))
    return write_dataset(tmp_path / "logs", spec, episodes, origin="made")


def config(name: str, out: Path, data: Path | None, steps: int = 60, **more: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {
        "algorithm": name, "out": out, "agent": SMALL[name], "data": data, "env": ENV, "episode_steps": 15,
        "steps": steps, "warmup": 20, "eval_every": 30, "eval_episodes": 2, "checkpoint_every": 15, "log_every": 10,
        "device": "cpu", "seed": 3,
    }  # fmt: skip
    return FinetuneConfig(**(settings | more))


def test_exploring_too_widely_is_told_once_there_are_episodes() -> None:
    recent = RecentEpisodes()
    for episode in range(4):
        recent.add(0.0, False)
        assert recent.too_wide({"eval/success": 1.0}) is None, episode
    recent.add(1.0, True)
    told = recent.too_wide({"eval/success": 1.0})
    assert told is not None
    assert "100% of episodes by itself and in 20% while it explores" in told
    assert recent.too_wide({"eval/success": 0.4}) is None  # it fails by itself as well
    assert recent.too_wide({"eval/return": 3.0}) is None  # nobody tells success
    for _ in range(5):
        recent.add(1.0, True)
    assert recent.too_wide({"eval/success": 1.0}) is None


def test_a_run_says_that_its_policy_explores_too_widely(
    logs: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = OnlineRun(config("sac", tmp_path / "run", logs.path))
    run.results = {"eval/success": 1.0}
    for _ in range(8):
        run.recent.add(0.0, False)
        run.write_metrics({})
    run.close()
    assert len(caplog.messages) == 1
    assert "explore less" in caplog.messages[0]


def assert_same_run(one: Path, two: Path) -> None:
    first, _ = load_agent(one)
    second, _ = load_agent(two)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    assert read_metrics(one) == read_metrics(two)
    logs = [ReplayLog(run / "transitions", first.spec) for run in (one, two)]
    rows = [log.read() for log in logs]
    for log in logs:
        log.close()
    assert rows[0].tobytes() == rows[1].tobytes()


def test_logged_steps_of_other_tasks_count_as_told(logs: Dataset, tmp_path: Path) -> None:
    run = OnlineRun(config("sac", tmp_path / "run", logs.path, logged_reward=-7.0))
    seen = run.learner.agent.draw(run.learner._offline, torch.Generator().manual_seed(0))
    run.close()
    assert seen.reward.unique().tolist() == [-7.0]
    with pytest.raises(ConfigError, match=r"leave out --reward"):
        config("sac", tmp_path / "other", logs.path, logged_reward=0.0, reward="goal")


@pytest.mark.parametrize("name", list(SMALL))
def test_resuming_equals_never_having_stopped(name: str, logs: Dataset, tmp_path: Path) -> None:
    finetune(config(name, tmp_path / "straight", logs.path), quiet=True)
    finetune(config(name, tmp_path / "halves", logs.path, steps=30), quiet=True)
    # As if killed later: transitions that no checkpoint knows are in the log.
    agent, _ = load_agent(tmp_path / "halves")
    log = ReplayLog(tmp_path / "halves" / "transitions", agent.spec)
    log.append(bytes(16), 0, np.zeros(7, log.dtype))
    log.close()
    torch.manual_seed(99)
    finetune(config(name, tmp_path / "halves", logs.path, resume=True), quiet=True)
    assert_same_run(tmp_path / "straight", tmp_path / "halves")


def test_a_run_killed_in_its_first_steps_keeps_the_evaluation_it_began_with(
    logs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Any:
        raise RuntimeError("killed")

    monkeypatch.setattr(Collector, "step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        finetune(config("sac", tmp_path / "run", logs.path), quiet=True)
    monkeypatch.undo()
    finetune(config("sac", tmp_path / "run", logs.path, resume=True), quiet=True)
    finetune(config("sac", tmp_path / "straight", logs.path), quiet=True)
    assert read_metrics(tmp_path / "run") == read_metrics(tmp_path / "straight")
    assert read_metrics(tmp_path / "run")[0]["step"] == 0


def test_a_run_cut_in_its_first_evaluation_makes_up_for_it(
    logs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: OnlineRun) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(OnlineRun, "evaluate", cut)
    with pytest.raises(KeyboardInterrupt):
        finetune(config("sac", tmp_path / "run", logs.path), quiet=True)
    monkeypatch.undo()
    finetune(config("sac", tmp_path / "run", logs.path, resume=True), quiet=True)
    finetune(config("sac", tmp_path / "straight", logs.path), quiet=True)
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_a_run_is_not_resumed_as_another_one(logs: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    finetune(config("sac", out, logs.path, steps=25), quiet=True)
    before = load_agent(out)[0].cfg
    changes: list[tuple[str, dict[str, Any], str]] = [
        ("awac", {}, r"--algorithm is awac here, sac in the run"),
        (
            "sac",
            {"agent": replace(SMALL["sac"], hidden=(8,))},
            r"--agent.hidden is .8. here, .16.* in the run(.|\n)*--resume",
        ),
        ("sac", {"agent": replace(SMALL["sac"], lr=0.5)}, r"--agent.lr is 0.5 here, 0.0\d* in the run"),
        ("sac", {"reward": "goal"}, r"--reward is goal here, logged in the run"),
        ("sac", {"env": ""}, rf"--env is not given here, {ENV} in the run"),
        ("sac", {"seed": 4}, r"--seed is 4 here, 3 in the run"),
    ]
    for name, changed, words in changes:
        with pytest.raises(CheckpointError, match=words):
            finetune(config(name, out, logs.path, steps=40, resume=True, **changed), quiet=True)
    with pytest.raises(CheckpointError, match=r"has had 25 interactions, and --steps is 20(.|\n)*more than 25"):
        finetune(config("sac", out, logs.path, steps=20, resume=True), quiet=True)
    assert load_agent(out)[0].cfg == before


def test_offline_runs_and_online_runs_are_not_resumed_as_each_other(logs: Dataset, tmp_path: Path) -> None:
    online, offline = tmp_path / "online", tmp_path / "offline"
    finetune(config("sac", online, logs.path, steps=25), quiet=True)
    settings = PretrainConfig(
        algorithm="sac", data=logs.path, out=offline, agent=SMALL["sac"], steps=2, env="none", seed=3, device="cpu"
    )
    pretrain(settings, quiet=True)
    metrics = read_metrics(online)
    with pytest.raises(CheckpointError, match=r"after 25 interactions: go on with it by `robot-rl finetune"):
        pretrain(replace(settings, out=online, resume=True, steps=99), quiet=True)
    with pytest.raises(CheckpointError, match=r"fine-tune its policy with --start .*offline"):
        finetune(config("sac", offline, logs.path, resume=True), quiet=True)
    assert read_metrics(online) == metrics


def test_a_run_says_which_environment_it_learned_in(logs: Dataset, tmp_path: Path) -> None:
    elsewhere = write_dataset(tmp_path / "else", replace(logs.spec, env_id="Other-v0"), list(logs), origin="made")
    finetune(config("sac", tmp_path / "run", elsewhere.path, steps=25), quiet=True)
    assert load_policy(tmp_path / "run").spec.env_id == ENV


def test_a_checkpoint_written_again_is_whole_whenever_it_is_cut(
    logs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run that is saved twice during its warm-up."""
    run = OnlineRun(config("sac", tmp_path / "run", logs.path))
    run.save()
    calls, last = [0], [0]

    def cutting(real: Any) -> Any:
        def done_and_cut(*words: Any, **more: Any) -> Any:
            found = real(*words, **more)
            calls[0] += 1
            if calls[0] == last[0]:
                raise KeyboardInterrupt
            return found

        return done_and_cut

    for owner, name in ((shutil, "rmtree"), (shutil, "copytree"), (Path, "rename"), (Path, "replace")):
        monkeypatch.setattr(owner, name, cutting(getattr(owner, name)))
    cuts = 0
    while cuts < 30:
        calls[0], last[0] = 0, cuts + 1
        try:
            run.save()
        except KeyboardInterrupt:
            cuts += 1
            load_agent(tmp_path / "run")
        else:
            break
    assert 5 < cuts < 30
    monkeypatch.undo()
    run.close()
    assert not list((tmp_path / "run" / "checkpoints").glob(".*.old"))


def test_a_full_disk_keeps_the_checkpoint_before(
    logs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device")

    run = OnlineRun(config("sac", tmp_path / "run", logs.path))
    run.save()
    monkeypatch.setattr("robot_rl.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*go on from there with --resume"):
        run.save()
    run.close()
    load_agent(tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob(".*.tmp-*"))


def test_a_cut_line_ends_the_metrics(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 0, "a": 1.0}\n\n{"step": 1, "a": 2.0}\n{"step": 2, "a"')
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 1]
    file.write_text('{"step": 0, "a": 1.0}\n{"step"{"step": 2, "a": 1.0}\n{"step": 3, "a": 1.0}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl, line 2 is damaged"):
        read_metrics(tmp_path)


def test_logged_data_beyond_memory_change_nothing(
    logs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file: list[bool] = []

    class Seen(RowTable):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            in_file.append(self.in_file)

    monkeypatch.setattr("robot_rl.data.replay.RowTable", Seen)
    finetune(config("awac", tmp_path / "memory", logs.path), quiet=True)
    finetune(config("awac", tmp_path / "file", logs.path, memory_gb=0.0), quiet=True)
    assert in_file == [False, True]
    assert_same_run(tmp_path / "memory", tmp_path / "file")


def test_ctrl_c_saves_at_the_end_of_the_episode(logs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finetune(config("sac", tmp_path / "straight", logs.path), quiet=True)
    step, calls = Collector.step, [0]

    def interrupting(self: Collector, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 22:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(Collector, "step", interrupting)
    with pytest.raises(KeyboardInterrupt, match="saved at interaction 30"):
        finetune(config("sac", tmp_path / "halves", logs.path), quiet=True)
    monkeypatch.undo()
    finetune(config("sac", tmp_path / "halves", logs.path, resume=True), quiet=True)
    assert_same_run(tmp_path / "straight", tmp_path / "halves")


def test_the_same_learner_carries_everything_over_and_another_one_the_actor(logs: Dataset, tmp_path: Path) -> None:
    for name, cfg in (("td3-bc", SMALL["td3-bc"]), ("bc", BCConfig(hidden=(16,), batch_size=8))):
        pretrain(
            PretrainConfig(
                algorithm=name, data=logs.path, out=tmp_path / name, agent=cfg, steps=5, env="none", device="cpu"
            ),
            quiet=True,
        )
    never = {"warmup": 100, "steps": 20}
    finetune(config("td3-bc", tmp_path / "a", None, start=tmp_path / "td3-bc", **never), quiet=True)
    before, after = load_agent(tmp_path / "td3-bc")[0], load_agent(tmp_path / "a")[0]
    assert after.updates == before.updates == 5
    assert all(torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items())
    assert torch.equal(before.training_state()["critic.0.exp_avg"], after.training_state()["critic.0.exp_avg"])

    finetune(config("sac", tmp_path / "b", None, start=tmp_path / "bc", **never), quiet=True)
    cloned, begun = load_agent(tmp_path / "bc")[0], load_agent(tmp_path / "b")[0]
    obs = torch.randn(4, 3)
    assert torch.equal(cloned.eval().act(obs), begun.eval().act(obs))


def test_a_temperature_that_is_asked_for_is_begun_with(logs: Dataset, tmp_path: Path) -> None:
    never = {"warmup": 100, "steps": 15, "eval_episodes": 0}
    finetune(config("sac", tmp_path / "first", None, **never), quiet=True)
    hotter = replace(SMALL["sac"], alpha=0.7)
    finetune(config("sac", tmp_path / "second", None, start=tmp_path / "first", agent=hotter, **never), quiet=True)
    alpha = load_agent(tmp_path / "second")[0].state_dict()["log_alpha"].exp()
    assert float(alpha) == pytest.approx(0.7)


def test_a_run_that_had_no_logs_can_be_gone_on_from(tmp_path: Path) -> None:
    never = {"warmup": 100, "steps": 15, "eval_episodes": 0}
    finetune(config("sac", tmp_path / "first", None, **never), quiet=True)
    finetune(config("sac", tmp_path / "second", None, start=tmp_path / "first", **never), quiet=True)
    one, two = load_agent(tmp_path / "first")[0], load_agent(tmp_path / "second")[0]
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


def test_a_run_that_actors_began_is_not_taken_up_in_turns(tmp_path: Path) -> None:
    settings = config("sac", tmp_path / "run", None, eval_episodes=0)
    run = OnlineRun(settings)
    run.log.append(bytes(16), 0, np.zeros(7, run.log.dtype))
    run.learner.take(run.log.read())
    run.save()  # as the bridge's learner does
    run.close()
    kept = next((tmp_path / "run" / "transitions").glob("*.rows"))
    taken = kept.read_bytes()
    with pytest.raises(CheckpointError, match=r"made with actors.*without --in-turns"):
        finetune(replace(settings, resume=True), quiet=True)
    assert kept.read_bytes() == taken


def test_another_shape_of_actor_is_refused_with_both(logs: Dataset, tmp_path: Path) -> None:
    start = PretrainConfig(
        algorithm="bc", data=logs.path, out=tmp_path / "bc", agent=BCConfig(hidden=(8,)), steps=1, env="none"
    )
    pretrain(start, quiet=True)
    with pytest.raises(ConfigError, match=r"\[16, 1\].*\[8, 1\]"):
        finetune(config("sac", tmp_path / "b", None, start=tmp_path / "bc"), quiet=True)


def test_an_existing_run_is_not_overwritten(logs: Dataset, tmp_path: Path) -> None:
    finetune(config("sac", tmp_path / "run", logs.path, steps=15), quiet=True)
    with pytest.raises(CheckpointError, match="--resume"):
        finetune(config("sac", tmp_path / "run", logs.path), quiet=True)


def test_from_scratch_needs_an_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing to start from"):
        finetune(config("sac", tmp_path / "run", None, env=""), quiet=True)


def test_goal_reward_needs_a_visible_goal(logs: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Pendulum-v1.*does not"):
        finetune(config("sac", tmp_path / "run", logs.path, reward="goal"), quiet=True)


@pytest.mark.parametrize(
    ("option", "value"), [("utd", -0.5), ("offline_share", 1.5), ("warmup", -1), ("algorithm", "bc")]
)
def test_impossible_schedules_are_refused(option: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(value)):
        config("sac", tmp_path, None, **{option: value})


# The schedule itself


def learner(**schedule: Any) -> OnlineLearner:
    spec, episodes = make_spec(), make_episodes()
    cfg = SACConfig(hidden=(8,), batch_size=4, critics=2, bc_weight=0.8)
    agent = build_agent(cfg, spec, observation_stats(episodes))
    return OnlineLearner(agent, Replay.of(spec, episodes), OnlineConfig(**schedule), seed=0)


def rows(count: int) -> Rows:
    found = np.zeros(count, transition_dtype(5, 2))
    found["obs"], found["next_obs"] = np.random.default_rng(0).normal(size=(2, count, 5))
    return found


def test_a_transition_that_is_no_number_counts_and_is_not_learned_from() -> None:
    one = learner(warmup=1, offline_share=0.0)
    glitched = rows(6)
    glitched["next_obs"][2, 0] = np.nan
    glitched["obs"][3, 0] = np.inf
    one.take(glitched)
    assert (one.interactions, one.owed, len(one.online)) == (6, 5, 4)
    for _ in range(5):
        one.update()
    one.agent.require_finite()


def test_updates_owed_follow_warmup_and_ratio() -> None:
    one = learner(warmup=10, critic_warmup=3, utd=0.5)
    owed: list[int] = []
    for _ in range(14):
        one.take(rows(1))
        owed.append(one.owed)
    # Nothing before the 10th interaction, then 3 of the critics and one for every second interaction after it.
    assert owed == [0] * 9 + [3, 3, 4, 4, 5]


def test_another_schedule_holds_from_where_it_is_given() -> None:
    seen = rows(20)
    schedule: dict[str, Any] = {"warmup": 10, "critic_warmup": 3, "utd": 1.0}
    changes: list[tuple[dict[str, Any], int, int]] = [
        ({"utd": 4.0}, 0, 4),
        ({"warmup": 0}, 0, 1),
        ({"warmup": 22}, 0, 0),
    ]
    for change, at_once, after_one in changes:
        one = learner(**schedule)
        one.take(seen)
        for _ in range(one.owed):
            one.update()
        two = learner(**schedule | change)
        two.agent.updates += one.done
        two.load_state(one.state() | {"first_update": torch.tensor(0)}, seen)
        owed = [two.owed]
        two.take(rows(1))
        owed.append(two.owed)
        assert owed == [at_once, after_one], change
    two.take(rows(2))
    assert two.owed == 1  # the 23rd interaction, without the critics' warm-up again


def test_the_actor_waits_for_the_critics() -> None:
    one = learner(warmup=1, critic_warmup=2)
    one.take(rows(3))
    before = {k: v.clone() for k, v in one.agent.state_dict().items()}
    moved: list[bool] = []
    for _ in range(one.owed):
        one.update()
        moved.append(any(not torch.equal(v, before[k]) for k, v in one.agent.state_dict().items() if "actor" in k))
    assert moved == [False, False, True, True]


def test_the_cloning_weight_falls_to_nothing() -> None:
    one = learner(warmup=0, bc_decay=10)
    weights: list[float] = []
    for _ in range(12):
        one.take(rows(1))
        one.update()
        weights.append(one.agent.cfg.bc_weight)
    np.testing.assert_allclose(weights, [0.8 * max(0, 1 - n / 10) for n in range(1, 13)])


def test_a_learner_without_cloning_has_nothing_to_decay() -> None:
    agent = build_agent(AWACConfig(), make_spec(), observation_stats(make_episodes()))
    with pytest.raises(ConfigError, match="AWAC has no cloning weight"):
        OnlineLearner(agent, None, OnlineConfig(bc_decay=5), seed=0)


# Collecting


def test_an_episode_depends_on_its_number_alone() -> None:
    def collected(first: int, count: int) -> Rows:
        env: gym.Env[Any, Any] = make_env(ENV, max_episode_steps=10)
        collector = Collector(env, env_spec(env), seed=5, episode=first)
        found = [collector.step(lambda _, noise: noise, 1)[0].copy() for _ in range(count)]
        return np.concatenate(found)

    through, later = collected(0, 30), collected(2, 10)
    assert through[20:].tobytes() == later.tobytes()
    assert through["truncated"].tolist() == ([0] * 9 + [1]) * 3
    np.testing.assert_array_equal(through["next_obs"][:9], through["obs"][1:10])


def test_rows_enter_a_replay_as_episodes_do() -> None:
    spec, episode = make_spec(), make_episodes(1)[0]
    one = Replay.of(spec, [episode])
    two = Replay(spec, len(episode))
    found = np.zeros(len(episode), transition_dtype(5, 2))
    found["obs"], found["next_obs"] = episode.observations[:-1], episode.observations[1:]
    found["action"], found["reward"] = episode.actions, episode.rewards
    found["terminated"][-1] = episode.terminated
    two.extend(found)
    draws = [r.sample(64, torch.Generator().manual_seed(0)) for r in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))
    assert [e.terminated for e in two.episodes()] == [True]


@pytest.mark.parametrize(("seed", "first"), [(0, 1_000_000), (1, 1_600_000)])
def test_evaluation_is_not_in_the_episodes_of_the_training(
    seed: int, first: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["finetune", "sac", "--in-turns", "--env", ENV, "--episode-steps", "5", "--seed", str(seed)]
    words += [
        "--steps",
        "10",
        "--warmup",
        "5",
        "--eval-episodes",
        "1",
        "--agent.batch-size",
        "4",
        "--agent.hidden",
        "8",
    ]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "1", "--episode-steps", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == first
