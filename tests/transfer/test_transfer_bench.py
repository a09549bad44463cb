"""The bench of arms with teachers, through the commands a user types."""

import json
from pathlib import Path

import pytest
import yaml

from robot_rl.bench.learning.online import main
from robot_rl.errors import DataError
from tests.transfer.conftest import write_sources

MODEL = {"deter": 8, "stoch": 4, "hidden": 8, "embed": 8, "layers": [8]}
STUDENT = {
    "hidden": [8], "sequences": 2, "length": 4, "batch_size": 8, "model": MODEL,
    "transfer": {"replay_hidden": [8], "residual": True, "rehearsal": 1, "trials": 1},
}  # fmt: skip


def test_teachers_are_trained_first_and_the_sources_named_with_their_weights(tmp_path: Path) -> None:
    logs = write_sources(tmp_path / "logs", "VirtualArm-v1", steps=6)
    logs[1].rename(logs[1].with_name("VirtualArm"))  # the target's own
    recipe = {
        "name": "toy",
        "seeds": [0],
        "thresholds": [0.5],
        "teachers": {
            "both": {
                "sources": ["up", "{target}"], "model": MODEL, "steps": 2, "sequences": 2, "length": 4, "device": "cpu",
            }
        },
        "finetune": {
            "algorithm": "latent-sac", "env": "VirtualArm-v1", "episode_steps": 5, "steps": 20, "warmup": 5,
            "log_every": 2,
            "eval_every": 20, "eval_episodes": 1, "device": "cpu",
        },
        "arms": {"taught": {"teacher": "both", "finetune": {"agent": STUDENT}}},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = [
        str(tmp_path / "recipe.yaml"),
        "--data",
        str(tmp_path / "logs"),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]
    assert main([*words, "--json"]) == 0
    told = json.loads((tmp_path / "out/results.json").read_text())["arms"]["taught"]
    assert told["steps"] == [0, 20]
    assert set(told["weights"]) == {"up", "VirtualArm"}
    assert set(told["earned_by_seed"][0]) == {"up", "VirtualArm", "no source"}
    report = (tmp_path / "out/results.md").read_text()
    assert "up 0." in report
    assert "- taught, seed 0: " in report
    assert "Environment: VirtualArm-v1" in report

    recipe["seeds"] = [1, 0]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main([*words, "--report-only"]) == 0
    report = (tmp_path / "out/results.md").read_text()
    assert "Partial: 1 of 2 runs" in report
    assert json.loads((tmp_path / "out/results.json").read_text())["arms"]["taught"]["seeds"] == [0]
    words[words.index("--out") + 1] = str(tmp_path / "empty")
    with pytest.raises(DataError, match=r"holds no finished run of this recipe\. Leave out --report-only"):
        main([*words, "--report-only"])
