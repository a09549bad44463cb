"""The small-data bench: its figures by hand, its recipes, and one whole run of it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from robot_rl.bench.learning.aggregate import difference_interval, improvement_interval, iqm, iqm_interval
from robot_rl.bench.learning.cells import data_digest, seconds_of, working
from robot_rl.bench.learning.runs import Evaluation, FinishedRun, load_runs, save_runs
from robot_rl.bench.learning.small_data import main as bench
from robot_rl.bench.learning.small_data_recipe import SmallDataRecipe
from robot_rl.bench.learning.small_data_report import write_results
from robot_rl.cli import main
from robot_rl.config import from_mapping, load_yaml
from robot_rl.errors import ConfigError, DataError

RECIPES = Path(__file__).parents[1] / "benchmarks" / "recipes"
SMALL = {
    "name": "tiny",
    "baseline": "scratch",
    "seeds": [0],
    "tasks": {"pendulum": {"data": "random", "threshold": 100, "low": -2000, "high": 0}},
    "models": {"ensemble": {"kind": "ensemble", "model": {"epochs": 1, "hidden": [8]}}},
    "pretrain": {"steps": 4, "env": "none", "agent": {"hidden": [8], "batch_size": 8}},
    "finetune": {
        "steps": 210, "warmup": 200, "eval_every": 100, "eval_episodes": 1, "checkpoint_every": 200,
        "offline_share": 0.0, "agent": {"hidden": [8], "batch_size": 8, "bc_weight": 0.0},
    },
    "arms": {
        "scratch": {"finetune": {"algorithm": "td3-bc"}},
        "augmented": {
            "model": "ensemble",
            "online_model": True,
            "logged": True,
            "pretrain": {"algorithm": "td3-bc", "augment": {"mode": "consistent", "block": 16, "force": True}},
            "finetune": {"algorithm": "td3-bc", "augment": {"block": 16, "force": True}, "offline_share": 0.5},
        },
    },
}  # fmt: skip


def _run(arm: str, seed: int, curve: list[tuple[int, float]]) -> FinishedRun:
    points = tuple(Evaluation(step, value, None) for step, value in curve)
    return FinishedRun("pendulum", arm, seed, f"{arm} {seed}", 1.0, points, "made", {"weights": {"a": [0.25, 0.5]}})


def test_the_interquartile_mean_weighs_cut_values_in_part() -> None:
    assert iqm(np.asarray([0.0, 1.0, 2.0, 100.0])) == pytest.approx(1.5)
    assert iqm(np.asarray([0.0, 1.0, 2.0, 3.0, 100.0])) == pytest.approx((0.75 + 2 + 0.75 * 3) / 2.5)
    assert iqm(np.asarray([7.0])) == pytest.approx(7.0)


def test_intervals_draw_seeds_within_their_task() -> None:
    apart = iqm_interval([np.zeros(5), np.full(5, 10.0)])
    assert (apart.low, apart.high) == (apart.value, apart.value)  # nothing varies within a task
    spread = iqm_interval([np.asarray([0.0, 10.0, 20.0])])
    assert spread.low < spread.value < spread.high


def test_figures_are_those_of_rliable() -> None:
    # rliable 1.2.0, 20,000 draws: aggregate_iqm and probability_of_improvement of four seeds on two tasks
    ours = [np.asarray([1.0, 3.0, 4.0, 8.0]), np.asarray([20.0, 50.0, 90.0, 95.0])]
    theirs = [np.asarray([2.0, 2.5, 5.0, 6.0]), np.asarray([10.0, 40.0, 30.0, 60.0])]
    assert iqm_interval(ours) == pytest.approx((20.5, 11.75, 48.25), abs=0.5)
    assert improvement_interval(ours, theirs) == pytest.approx((0.625, 0.3125, 0.90625), abs=0.035)


def test_differences_and_who_is_ahead() -> None:
    ours, theirs = [np.asarray([1.0, 2.0, 3.0, 4.0])], [np.asarray([2.0, 2.0, 0.0])]
    more = difference_interval(ours, theirs)
    assert more.value == pytest.approx(2.5 - iqm(theirs[0]))
    assert more.low < more.value < more.high
    ahead = improvement_interval(ours, theirs)
    assert ahead.value == pytest.approx((1 + 2 + 3 + 3) / 12)  # of 12 pairs; two ties count half
    opposite = improvement_interval(theirs, ours)
    assert opposite.value == pytest.approx(1 - ahead.value)
    over_tasks = improvement_interval([np.ones(2), np.zeros(3)], [np.zeros(2), np.ones(3)])
    assert over_tasks == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("file", sorted(RECIPES.glob("small_data*.yaml")), ids=lambda f: f.stem)
def test_committed_recipes_read(file: Path) -> None:
    recipe = from_mapping(SmallDataRecipe, load_yaml(file), str(file))
    assert recipe.baseline == "scratch"
    assert any("noise" in arm for arm in recipe.arms)


def test_an_unknown_world_model_is_named() -> None:
    raw = {**SMALL, "models": {}}
    with pytest.raises(ConfigError, match=r"arm 'augmented' wants world model 'ensemble'; there are \[\]"):
        from_mapping(SmallDataRecipe, raw, "recipe")


def test_only_arms_of_the_recipe_are_compared() -> None:
    with pytest.raises(ConfigError, match=r"compare names \['awac'\], but the arms are \['scratch', 'augmented'\]"):
        from_mapping(SmallDataRecipe, SMALL | {"compare": {"augmented": ["awac"]}}, "recipe")


def test_arms_are_held_against_each_other(tmp_path: Path) -> None:
    more = {**SMALL["tasks"], "swing-up": {"data": "none", "threshold": 50, "low": 0, "high": 1}}
    pairs = {"compare": {"augmented": ["scratch"]}, "tasks": more}
    recipe = from_mapping(SmallDataRecipe, SMALL | pairs, "recipe")
    slow, fast = ([(s, 1.0 if s >= first else -2000.0) for s in range(0, 101, 10)] for first in (60, 20))
    runs = [_run("scratch", seed, slow) for seed in (0, 1)] + [_run("augmented", seed, fast) for seed in (0, 1)]
    result = write_results(tmp_path, recipe, runs, planned=8)
    assert result["all"] == {}  # of two tasks one is there
    (pair,) = result["compared"]
    assert (pair["task"], pair["seeds"], pair["times_fewer"]) == ("pendulum", [2, 2], "3.0")
    assert pair["difference"]["low"] == pytest.approx(40, abs=0.1)
    assert pair["ahead"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    report = (tmp_path / "report.md").read_text()
    assert "| pendulum | augmented | scratch | 2 / 2 | 3.0 | +40.0 [+40.0, +40.0] | 100% [100%, 100%] |" in report
    runs += [replace(run, task="swing-up", plan=f"{run.plan} again") for run in runs]
    result = write_results(tmp_path, recipe, runs, planned=8)
    assert result["all"]["augmented"]["value"] == pytest.approx((85.0425 - 29915.0) / 2)
    found = result["compared"]
    assert [pair["task"] for pair in found] == ["pendulum", "swing-up", "all"]
    assert found[-1]["seeds"] == [4, 4]


def test_speed_ups_say_when_the_baseline_never_got_there(tmp_path: Path) -> None:
    more = {**SMALL["tasks"], "swing-up": {"data": "none", "threshold": 1, "low": 0, "high": 1}}
    recipe = from_mapping(SmallDataRecipe, {**SMALL, "tasks": more}, "recipe")
    runs = [
        _run("scratch", 0, [(0, -9.0), (100, -8.0)]),
        _run("augmented", 0, [(0, -9.0), (50, 1.0), (75, 1.0), (100, 1.0)]),
    ]
    result = write_results(tmp_path, recipe, runs, planned=4)
    assert result["tasks"]["pendulum"]["augmented"]["times_fewer"] == "> 2.0"
    assert result["tasks"]["pendulum"]["scratch"]["times_fewer"] == "not reached"
    report = (tmp_path / "report.md").read_text()
    assert "Partial: 2 of 4 runs" in report
    assert "swing-up" not in report  # of which nothing is finished
    assert "> 100" in report
    assert "[" not in report.split("| augmented |")[1].splitlines()[0]  # one seed has no interval


def test_a_longer_run_is_compared_over_what_all_runs_made(tmp_path: Path) -> None:
    recipe = from_mapping(SmallDataRecipe, SMALL, "recipe")
    runs = [
        _run("scratch", 0, [(0, -2000.0), (100, -2000.0), (200, 0.0), (900, 0.0)]),
        _run("augmented", 0, [(0, -2000.0), (20, -1000.0), (100, -1000.0)]),
    ]
    result = write_results(tmp_path, recipe, runs, planned=2)
    scores = {arm: found["mean_score"]["value"] for arm, found in result["tasks"]["pendulum"].items()}
    assert scores == {"scratch": 0.0, "augmented": pytest.approx(50 * 0.8 + 25 * 0.2)}


def test_the_median_of_two_is_between_them_and_open_where_one_never_got_there(tmp_path: Path) -> None:
    recipe = from_mapping(SmallDataRecipe, SMALL, "recipe")
    early, late, never = ([(s, 1.0 if s >= first else -9000.0) for s in range(0, 101, 10)] for first in (20, 40, 999))

    def median_of(*curves: list[tuple[int, float]]) -> dict[str, object]:
        runs = [_run("scratch", seed, curve) for seed, curve in enumerate(curves)]
        return write_results(tmp_path, recipe, runs, planned=4)["tasks"]["pendulum"]["scratch"]["median"]

    assert median_of(early, late) == {"interactions": 30, "censored": False}
    assert median_of(early, never) == {"interactions": 60, "censored": True}
    assert median_of(early, late, never) == {"interactions": 40, "censored": False}


def test_runs_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    told = replace(_run("b", 1, []), curve=(Evaluation(0, 0.1, 0.0), Evaluation(5, 0.2, 1.0)))
    runs = [_run("a", 0, [(0, -1.5), (10, 2.25)]), told]
    save_runs(tmp_path / "runs.parquet", runs)
    assert list(load_runs(tmp_path / "runs.parquet").values()) == runs
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "runs.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cut\.parquet"):
        load_runs(tmp_path / "cut.parquet")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "logs"
    words = ["locomotion", "--plan.env", "Pendulum-v1", "--qualities", "random", "--transitions", "400"]
    assert main([*words, "--out", str(out)]) == 0
    return out


def test_a_folder_that_other_options_or_logs_began_is_refused(logs: Path, tmp_path: Path) -> None:
    words = _words(SMALL, logs, tmp_path)
    cell = tmp_path / "out/pendulum/scratch/seed0"
    cell.mkdir(parents=True)
    plan = {
        "data": data_digest(logs / "random"), "seed": 0, "model": None, "online_model": False, "logged": False,
        "pretrain": None, "finetune": SMALL["finetune"] | {"algorithm": "td3-bc", "env": "Pendulum-v1", "steps": 300},
    }  # fmt: skip
    with working(cell, plan):
        pass
    with pytest.raises(
        DataError, match=r"seed0 was begun with other options or data: finetune\.steps was 300, is 210\."
    ):
        bench([*words, "--report-only"])
    with working(cell.with_name("seed1"), plan | {"data": "of another file"}):
        pass
    words = _words(SMALL | {"seeds": [1]}, logs, tmp_path)
    with pytest.raises(
        DataError, match=r"data was of another file, is [0-9a-f]{64}; finetune\.steps was 300, is 210; seed"
    ):
        bench([*words, "--report-only"])


def test_a_run_whose_bench_was_killed_keeps_its_folder_until_it_ends(tmp_path: Path) -> None:
    cell, verb = tmp_path / "seed0", tmp_path / "verb"
    verb.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid.tmp\nmv {tmp_path}/pid.tmp {tmp_path}/pid\nexec sleep 60\n")
    verb.chmod(0o700)
    work = (
        "import sys, pathlib; from robot_rl.bench.learning.cells import working\n"
        f"sys.executable = {str(verb)!r}\n"
        f"with working(pathlib.Path({str(cell)!r}), {{'seed': 0}}) as commands: commands.run(['finetune'])"
    )
    killed = subprocess.Popen([sys.executable, "-c", work])
    while not (tmp_path / "pid").is_file():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    with pytest.raises(DataError, match="seed0 is in use by another process"), working(cell, {"seed": 0}):
        pass
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    while True:  # until the system has taken it away
        with suppress(DataError), working(cell, {"seed": 0}):
            break
        time.sleep(0.05)


def test_two_benches_do_not_work_on_the_same_run(tmp_path: Path) -> None:
    cell = tmp_path / "seed0"
    with working(cell, {"seed": 0}):
        begun = (cell / "plan.json").read_bytes()
        with pytest.raises(DataError, match="seed0 is in use by another process"), working(cell, {"seed": 1}):
            pass
    assert (cell / "plan.json").read_bytes() == begun
    first = seconds_of(cell)
    with working(cell, {"seed": 0}):  # free again
        pass
    assert seconds_of(cell) > first


def test_a_part_of_a_bench_is_run_and_all_that_is_finished_is_told(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = SMALL | {"seeds": [0, 1], "arms": {"scratch": SMALL["arms"]["scratch"]}}
    words = _words(both, logs, tmp_path)
    assert bench([*words, "--only.seeds", "1", "--only.arms", "scratch"]) == 0
    assert "Partial: 1 of 2 runs" in capsys.readouterr().out
    assert bench([*words, "--only.seeds", "0"]) == 0
    assert "Partial" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"No seed of this bench is '7'\. Known: 0, 1\."):
        bench([*words, "--only.seeds", "7"])
    with pytest.raises(ConfigError, match=r"No arm of this bench is 'scrath'\. Did you mean 'scratch'\?"):
        bench([*words, "--only.arms", "scrath"])


def test_known_runs_count_where_options_and_logs_are_the_same(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = SMALL | {"arms": {"scratch": SMALL["arms"]["scratch"]}}
    assert bench(_words(scratch, logs, tmp_path / "here")) == 0
    kept = tmp_path / "here" / "out" / "runs.parquet"
    capsys.readouterr()
    words = [
        *_words(SMALL | {"baseline": "renamed", "arms": _renamed()}, logs, tmp_path / "there"),
        "--known",
        str(kept),
    ]
    assert bench([*words, "--report-only"]) == 0
    said = capsys.readouterr()
    assert "1 of its 1 runs have the options and logs of one of the 2 wanted" in said.err
    assert "| renamed | 1 |" in said.out
    longer = scratch | {"finetune": SMALL["finetune"] | {"steps": 211}}
    words = [*_words(longer, logs, tmp_path / "longer"), "--known", str(kept)]
    with pytest.raises(DataError, match="holds no finished run"):
        bench([*words, "--report-only"])


def test_the_parts_of_two_machines_are_put_together(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = SMALL | {"seeds": [0, 1], "arms": {"scratch": SMALL["arms"]["scratch"]}}
    for seed in ("0", "1"):
        assert bench([*_words(both, logs, tmp_path / seed), "--only.seeds", seed]) == 0
    capsys.readouterr()
    parts = [str(tmp_path / seed / "out" / "runs.parquet") for seed in ("0", "1")]
    assert bench([*_words(both, logs, tmp_path / "whole"), "--report-only", "--known", *parts]) == 0
    said = capsys.readouterr()
    assert said.err.count("1 of its 1 runs have the options and logs of one of the 2 wanted") == 2
    assert "| scratch | 2 |" in said.out
    assert "Partial" not in said.out


def _renamed() -> dict[str, object]:
    return {"renamed": SMALL["arms"]["scratch"], "augmented": SMALL["arms"]["augmented"]}


def _words(recipe: dict[str, object], logs: Path, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return [str(file), "--data", str(logs), "--out", str(folder / "out"), "--jobs", "1"]


def test_a_task_is_measured_by_success_where_its_recipe_says_so(tmp_path: Path) -> None:
    task = {"data": "d", "threshold": 50, "low": 0, "high": 1, "measure": "success"}
    recipe = from_mapping(SmallDataRecipe, SMALL | {"tasks": {"pendulum": task}}, "recipe")
    run = _run("scratch", 0, [])
    rising = tuple(Evaluation(10 * i, -99.0, share) for i, share in enumerate((0.2, 0.5, 0.6, 0.75)))
    told = write_results(tmp_path, recipe, [replace(run, curve=rising)], planned=1)["tasks"]["pendulum"]["scratch"]
    assert (told["interactions"], told["final_score"]["value"], told["final"]) == ([10], 75.0, 0.75)
    with pytest.raises(DataError, match="pendulum tells no success, but its recipe measures by it"):
        write_results(tmp_path, recipe, [_run("scratch", 0, [(0, -9.0)])], planned=1)


@pytest.mark.slow
def test_a_whole_bench_and_going_on_with_it(logs: Path, tmp_path: Path) -> None:
    words = _words(SMALL, logs, tmp_path)
    with pytest.raises(DataError, match="holds no finished run"):
        bench([*words, "--report-only"])
    assert bench(words) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["finished_runs"] == result["planned_runs"] == 2
    assert bench(words) == 0  # nothing is left to do
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_the_examples_have_the_options_that_are_measured() -> None:
    recipe = from_mapping(SmallDataRecipe, load_yaml(RECIPES / "small_data_lift.yaml"), "recipe")
    arm = recipe.arms["modern with ensemble rollouts"]
    of_the_bench = {"algorithm", "device", "checkpoint_every", "log_every", "eval_episodes", "episode_steps"}
    for verb, general, own, more in (
        ("pretrain", recipe.pretrain, arm.pretrain or {}, {"env", "eval_every"}),
        ("finetune", recipe.finetune, {**arm.finetune, "in_turns": True}, {"agent"}),
    ):
        example = load_yaml(RECIPES.parents[1] / "examples" / f"small_data_{verb}.yaml")
        measured = {**general, **own}
        assert {key: measured[key] for key in example} == example
        assert measured.keys() - example.keys() == of_the_bench & measured.keys() | more
        assert own["agent"] == (arm.pretrain or {})["agent"]
