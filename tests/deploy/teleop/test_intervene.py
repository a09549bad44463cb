"""Taking over from a policy that learns, over the bridge, with one command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.commands.actor import ActorConfig
from deploy.commands.finetune import FinetuneCommand
from robot_rl.algorithms.sac import SACConfig
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.experts import make_expert
from tests.deploy.runs import transitions
from tests.deploy.teleop.typist import Typist

ENV = "VirtualArm-v1"


def words(out: Path, steps: int) -> list[object]:
    return [
        "finetune", "td3-bc", "--env", ENV, "--out", out, "--steps", steps, "--warmup", 50, "--episode-steps", 40,
        "--agent.hidden", 16, "--agent.batch-size", 8, "--eval-every", 100_000, "--eval-episodes", 0,
        "--checkpoint-every", 100, "--log-every", 100, "--publish-every", 0.05, "--device", "cpu",
    ]  # fmt: skip


def test_the_scripted_expert_takes_over_in_an_actor(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-P", "-m", "robot_rl.cli", *map(str, words(out, 400)), "--intervene-share", "0.4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = transitions(out)
    marked = rows["intervention"] == 1
    assert 0.15 < marked.mean() < 0.7
    spec = env_spec(make_env(ENV))
    expert = make_expert(ENV, spec, noise=0.0)
    expert.reset(np.random.default_rng(0))
    for row in rows[marked][:50]:
        np.testing.assert_allclose(row["action"], expert.act(row["obs"]), atol=1e-5)


def test_a_person_takes_over_by_touching_a_key(tmp_path: Path) -> None:
    out = tmp_path / "run"
    person = Typist(*words(out, 300), "--teleop", "keyboard")
    log = out / "actors" / "0.log"
    person.wait(lambda: log.exists() and "goes on" in log.read_text())
    while person.process.poll() is None:
        person.type(b"i")
        person.look()
    assert person.end() == 0, person.said + log.read_text()
    rows = transitions(out)
    marked = np.flatnonzero(rows["intervention"])
    assert len(marked) > 20
    assert not rows["intervention"][0]
    first = rows[marked[0]]
    np.testing.assert_allclose(first["action"][1:], first["obs"][1:7], atol=1e-5)  # only joint 1 is jogged
    assert first["action"][0] > first["obs"][0]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"teleop": "scripted"}, "--intervene-share"),
        ({"intervene_share": 0.2}, "--teleop none"),
        ({"teleop": "keyboard", "intervene_share": 0.2}, "--teleop keyboard"),
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: dict[str, object], match: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=match):
        ActorConfig(env=ENV, spool=tmp_path, **wrong)


def test_a_person_cannot_repeat_themselves_to_the_last_bit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--in-turns"):
        FinetuneCommand(algorithm="sac", out=tmp_path, agent=SACConfig(), teleop="keyboard", in_turns=True)
