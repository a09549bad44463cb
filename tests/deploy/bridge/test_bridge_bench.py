"""The bench of the bridge runs, and its figures are of what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from deploy.bench.bridge import GOALS
from deploy.bench.made import HIDDEN, made_model, made_spec, stamped
from deploy.bundle.policy import Policy
from robot_rl.cli import main


def test_the_made_policy_is_of_the_size_it_says() -> None:
    spec = made_spec(50, 7)
    policy = Policy.from_bytes(stamped(made_model(spec, HIDDEN), spec, 42), "made")
    assert policy.contract.weight_version == 42
    action = policy.act(np.ones(50, np.float32))
    assert action.shape == (7,)
    assert (np.abs(action) <= 1).all()


def test_the_bench_measures_every_goal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--rounds", "1", "--seconds", "0.6", "--out", str(tmp_path / "b.json"), "--json"]
    assert main(["bench", "bridge", *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "b.json").read_text())
    assert set(GOALS) <= set(result["figures"])
    for row in result["figures"].values():
        assert row["median"] > 0
        assert len(row["rounds"]) == 1
    figures = {key: row["median"] for key, row in result["figures"].items()}
    assert figures["stored_per_s"] <= figures["taken_per_s"]
    assert figures["publish_us_p50"] <= figures["publish_us_p99"] <= figures["publish_us_max"]
    assert figures["swaps"] >= 1
