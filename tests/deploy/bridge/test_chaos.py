"""Real processes and real faults. `robot-rl bench chaos` does the same 20 times each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from deploy.bench.chaos import SCENARIOS, ChaosConfig, run
from deploy.bench.chaos_process import Noted
from robot_rl.errors import BridgeError

ROOT = Path(__file__).parents[3]
QUICK = ("kill actor", "kill learner", "flip", "learner's disk full")


def unharmed(scenario: str, repetitions: int, folder: Path) -> None:
    outcome = run(scenario, ChaosConfig(repetitions=repetitions), folder)
    assert (outcome.lost, outcome.duplicated, outcome.disordered) == (0, 0, 0)
    assert outcome.repetitions == len(outcome.recovery_s) == repetitions
    assert outcome.felt >= 1
    assert outcome.transitions > 100


@pytest.mark.parametrize("scenario", QUICK)
def test_nothing_is_lost_doubled_or_disordered(scenario: str, tmp_path: Path) -> None:
    unharmed(scenario, 3, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_lost_doubled_or_disordered_twenty_times(scenario: str, tmp_path: Path) -> None:
    unharmed(scenario, 20, tmp_path)


def test_an_unknown_scenario_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match=r"No scenario 'fire'; there are: kill actor, kill learner"):
        run("fire", ChaosConfig(repetitions=1), tmp_path)


def test_a_noted_number_outlives_its_writer(tmp_path: Path) -> None:
    Noted(tmp_path / "n").value = 7
    assert Noted(tmp_path / "n").value == 7


def test_nothing_of_the_bridge_looks_at_the_wall_clock() -> None:
    files = [*(ROOT / "deploy/bridge").glob("*.py"), *(ROOT / "robot_rl/data").glob("replay_*.py")]
    assert len(files) > 8
    wall = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "os.utime"}
    for file in files:
        called = {ast.unparse(n.func) for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)}
        assert not called & wall, file
