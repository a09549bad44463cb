"""The measurements run and say what they measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.algorithms.registry import CONFIGS
from robot_rl.bench.jobs import robot_rl, run_jobs
from robot_rl.bench.learning.online_recipe import OnlineRecipe
from robot_rl.bench.learning.online_report import interactions_to, write_results
from robot_rl.bench.learning.runs import Evaluation, FinishedRun
from robot_rl.bench.speed.plain_awac import PlainAWAC
from robot_rl.bench.speed.update import UpdateBenchConfig, measure
from robot_rl.cli import main
from robot_rl.config import from_mapping, load_yaml
from robot_rl.data.dataset import write_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Batch
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError, DataError, RobotRLError
from robot_rl.evaluate import bootstrap_interval, wilson_interval
from robot_rl.online_run import FinetuneConfig
from robot_rl.transfer.teacher import TeacherConfig

RECIPES = Path(__file__).parents[1] / "benchmarks" / "recipes"


def test_the_update_bench_times_every_contestant() -> None:
    result = measure(UpdateBenchConfig(rounds=1, seconds=0.02))
    rows = result["results"]
    assert {"plain awac 3x256, batch 256", "awac 3x256, batch 256"} <= set(rows)
    for row in rows.values():
        assert row["updates_per_s"] > 0
        assert 0 < row["share_of_mm_peak"] < 2
        assert row["gflop_per_update"] > 0


def test_the_plain_baseline_learns_as_the_equations_say() -> None:
    """One critic step towards a known target lowers the error it was taken on."""
    torch.manual_seed(0)
    plain = PlainAWAC(3, 1, (32, 32), lr=1e-2)
    g = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.randn(64, 3, generator=g),
        torch.rand(64, 1, generator=g) * 2 - 1,
        torch.ones(64),
        torch.zeros(64),
        torch.randn(64, 3, generator=g),
        torch.ones(64),
    )
    for _ in range(60):
        plain.update(batch)
    q = plain._q(plain.critic_1, batch.obs, batch.action)
    assert (q - 1).abs().mean().item() < 0.2  # terminal transitions with reward 1


def test_the_offline_bench_resumes_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env("Hopper-v5")
    spec = env_spec(env)
    rng = np.random.default_rng(0)
    episode = Episode(
        observations=rng.normal(size=(21, spec.obs_dim)),
        actions=rng.uniform(-1, 1, (20, spec.action_dim)),
        rewards=np.ones(20),
    )
    write_dataset(tmp_path / "data", spec, [episode], origin="made")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: tiny\nbaseline: bc\nseeds: [0]\nepisodes: 1\n"
        "common: {steps: 2, episode_steps: 5, eval_every: 0, device: cpu}\n"
        "arms:\n  bc: {algorithm: bc}\n  td3: {algorithm: td3-bc, agent: {hidden: [8]}}\n"
    )
    words = [
        "bench",
        "offline",
        str(recipe),
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["arms"]) == {"bc", "td3"}
    assert len(result["arms"]["td3"]["return_by_seed"]) == 1
    stamp = (tmp_path / "out/td3/seed0/evaluation.json").stat().st_mtime_ns
    assert main(words) == 0  # everything is there: nothing runs again
    assert (tmp_path / "out/td3/seed0/evaluation.json").stat().st_mtime_ns == stamp
    before = recipe.read_text()
    recipe.write_text(before.replace("hidden: [8]", "hidden: [9]").replace("[0]", "[1, 0]"))
    assert main(words) == 2  # before seed 1, which would be new, is begun
    assert "agent.hidden was [8], is [9]" in capsys.readouterr().err
    assert not (tmp_path / "out/bc/seed1").exists()
    recipe.write_text(before.replace("baseline: bc", "baseline: bcc"))
    assert main(words) == 2


def test_intervals_match_known_values() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert wilson_interval(0, 10)[0] == 0.0
    low, high = bootstrap_interval(np.array([1.0, 1.0, 1.0]))
    assert (low, high) == (1.0, 1.0)


def test_a_threshold_counts_from_the_first_of_three_in_a_row() -> None:
    steps = [0, 5, 10, 15, 20, 25]
    assert interactions_to(steps, [0.7, 0.9, 0.7, 0.9, 0.9, 0.9], 0.9) == 15
    assert interactions_to(steps, [0.9, 0.9, 0.7, 0.9, 0.9, 0.7], 0.9) is None
    assert interactions_to(steps[:2], [1.0, 1.0], 0.9) is None


def test_a_failing_job_ends_the_bench_with_what_it_said() -> None:
    def fails() -> None:
        robot_rl(["pretrain", "bc", "--data", "nowhere", "--out", "nowhere-run"])

    with pytest.raises(RobotRLError, match="nowhere"):
        run_jobs("made", {"one": fails, "two": lambda: None}, at_once=1, quiet=True)


def test_committed_online_recipes_are_read() -> None:
    files = [*RECIPES.glob("*_online.yaml"), *RECIPES.glob("*_transfer.yaml")]
    for file in files:
        recipe = from_mapping(OnlineRecipe, load_yaml(file), str(file))
        for settings in recipe.teachers.values():
            assert len(from_mapping(TeacherConfig, settings | {"out": "o"}, str(file)).sources) >= 2
        for parts in recipe.arms.values():
            settings = recipe.finetune | parts["finetune"] | {"data": "d", "out": "o"}
            algorithm = settings["algorithm"]
            assert parts.get("teacher") in {None, *recipe.teachers}
            defaults = {"agent": CONFIGS[algorithm]()}
            assert from_mapping(FinetuneConfig, settings, str(file), defaults=defaults).steps == settings["steps"]


def test_an_arm_may_have_fewer_seeds_than_the_bench() -> None:
    arms = {"long": {"finetune": {}, "seeds": [1]}, "short": {"finetune": {}}}
    assert OnlineRecipe(name="n", seeds=(0, 1), arms=arms).runs == [("short", 0), ("long", 1), ("short", 1)]
    with pytest.raises(ConfigError, match=r"Arm 'long' has seeds \[1\]; the bench has \[0\]"):
        OnlineRecipe(name="n", seeds=(0,), arms=arms)


def test_an_online_bench_without_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: tiny\nseeds: [0]\nmeasure: return\nthresholds: [-200]\n"
        "finetune: {env: Pendulum-v1, steps: 30, warmup: 20, eval_every: 20, eval_episodes: 1, device: cpu}\n"
        "arms:\n  alone: {finetune: {algorithm: sac, agent: {hidden: [8], critics: 2, batch_size: 4}}}\n"
    )
    words = ["bench", "online", str(recipe), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["data"] == "no logs"
    assert result["arms"]["alone"]["steps"][-1] == 30
    recipe.write_text(recipe.read_text() + "  cloned: {pretrain: {algorithm: bc}, finetune: {algorithm: sac}}\n")
    assert main(words) == 2
    assert "needs logs, from which 'cloned' is pretrained" in capsys.readouterr().err


def test_an_online_bench_compares_returns_where_no_success_is_told(tmp_path: Path) -> None:
    curve = tuple(Evaluation(n * 1000, 100.0 * n, None) for n in range(5))
    runs = [FinishedRun("dmc/walker-walk-v1", "alone", 0, "plan", 60.0, curve, "a processor")]
    recipe = OnlineRecipe(
        name="walk", seeds=(0,), arms={"alone": {"finetune": {}}}, measure="return", thresholds=(200,)
    )
    arm = write_results(tmp_path, recipe, runs, "sources")["arms"]["alone"]
    assert arm["return_by_seed"] == [[0.0, 100.0, 200.0, 300.0, 400.0]]
    assert arm["interactions_to"] == {"200": [2000]}
    assert "| alone | 0 | 0 | 400 | 200 | 0 | 0 | 2,000 | 1 |" in (tmp_path / "results.md").read_text()
    with pytest.raises(DataError, match=r"tells no success\. Compare returns: `measure: return`"):
        write_results(tmp_path, replace(recipe, measure="success"), runs, "sources")


def test_the_example_of_transfer_has_the_options_that_are_measured() -> None:
    example = load_yaml(RECIPES.parents[1] / "examples" / "transfer.yaml")
    recipe = from_mapping(OnlineRecipe, load_yaml(RECIPES / "metaworld_transfer.yaml"), "recipe")
    measured = recipe.finetune | recipe.arms["sources tried"]["finetune"] | {"in_turns": True}
    assert {key: measured[key] for key in example} == example
    assert measured.keys() - example.keys() == {
        "algorithm", "env", "eval_every", "eval_episodes", "checkpoint_every", "device",
    }  # fmt: skip
