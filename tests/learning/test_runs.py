"""Runs and checkpoints: resuming equals never having stopped; what is damaged is refused."""

import dataclasses
import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from robot_rl.algorithms.agent import Metrics
from robot_rl.algorithms.awac import AWAC, AWACConfig
from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.iql import IQLConfig
from robot_rl.algorithms.registry import AgentConfig
from robot_rl.algorithms.sac import SACConfig
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.checkpoint import load_agent, load_policy, resolve
from robot_rl.cli import main
from robot_rl.data.dataset import Dataset, load_dataset, write_dataset
from robot_rl.data.replay import Batch
from robot_rl.errors import CheckpointError, ConfigError, DataError, DivergedError
from robot_rl.pretrain import PretrainConfig, pretrain
from robot_rl.run import RunLog, read_metrics
from robot_rl.transfer.store import load_teacher

SMALL = {
    "bc": BCConfig(hidden=(16,), batch_size=8, dropout=0.2, ema=0.9),
    "td3-bc": TD3BCConfig(hidden=(16,), batch_size=8),
    "awac": AWACConfig(actor_hidden=(16,), critic_hidden=(16,), batch_size=8),
    "iql": IQLConfig(hidden=(16,), batch_size=8, dropout=0.1),
    "sac": SACConfig(hidden=(16,), batch_size=8, critics=3, bc_weight=1.0, ema=0.9),
}


def config(name: str, dataset: Dataset, out: Path, steps: int, **more: object) -> PretrainConfig:
    agent: AgentConfig = SMALL[name]
    return PretrainConfig(
        algorithm=name, data=dataset.path, out=out, agent=agent, steps=steps, env="none",
        checkpoint_every=2, log_every=1, seed=7, device="cpu", **more,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(SMALL))
def test_resuming_equals_never_having_stopped(name: str, dataset: Dataset, tmp_path: Path) -> None:
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    pretrain(config(name, dataset, straight, 6), quiet=True)
    pretrain(config(name, dataset, halves, 4), quiet=True)
    torch.manual_seed(12345)  # a new process has another global state
    pretrain(config(name, dataset, halves, 6, resume=True), quiet=True)
    one, one_progress = load_agent(straight)
    one_state = one.training_state()
    two, two_progress = load_agent(halves)
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key]), key
    for key, value in one_state.items():
        assert torch.equal(value, two.training_state()[key]), key
    assert torch.equal(one_progress["sampler"], two_progress["sampler"])
    assert read_metrics(straight) == read_metrics(halves)


def files_of(run: Path) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in sorted(run.glob("*.*")) if file.is_file()]


def test_two_runs_cannot_share_a_folder(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunLog(out, config("bc", dataset, out, 4)):  # another process before its first checkpoint
        with pytest.raises(DataError, match=r"Run folder .* in use by another process"):
            pretrain(config("bc", dataset, out, 4), quiet=True)
        assert read_metrics(out) == []
    pretrain(config("bc", dataset, out, 2), quiet=True)
    with RunLog(out, config("bc", dataset, out, 2), resume_step=2):
        before = files_of(out)
        with pytest.raises(DataError, match="in use by another process"):
            pretrain(config("bc", dataset, out, 4, resume=True), quiet=True)
        assert before == files_of(out)
    pretrain(config("bc", dataset, out, 4, resume=True), quiet=True)  # let go of


def test_the_same_seed_gives_the_same_run(dataset: Dataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pretrain(config("awac", dataset, tmp_path / name, 4), quiet=True)
    assert read_metrics(tmp_path / "a") == read_metrics(tmp_path / "b")


def test_a_run_leaves_what_a_user_looks_for(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(config("iql", dataset, out, 4, holdout=0.34), quiet=True)
    last = out / "checkpoints" / "last"
    assert last.is_symlink()
    assert last.readlink() == Path("00000004")
    for file in (
        "pretrained_model/config.json",
        "pretrained_model/model.safetensors",
        "training_state/state.safetensors",
    ):
        assert (last / file).is_file()
    assert (out / "learning_curve.png").stat().st_size > 1000
    assert list((out / "tensorboard").iterdir())
    assert "holdout/action_error" in read_metrics(out)[-1]
    assert not list((out / "checkpoints").glob(".*tmp*"))


def test_an_existing_run_is_not_overwritten(dataset: Dataset, tmp_path: Path) -> None:
    pretrain(config("bc", dataset, tmp_path / "run", 2), quiet=True)
    with pytest.raises(CheckpointError, match=r"already holds a run at update 2.*--resume"):
        pretrain(config("bc", dataset, tmp_path / "run", 4), quiet=True)


def test_ctrl_c_saves_and_resuming_then_equals_never_having_stopped(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(config("awac", dataset, tmp_path / "straight", 6), quiet=True)
    learn = AWAC.learn

    def interrupted(self: AWAC, batch: Batch) -> Metrics:
        if self.updates == 3:
            signal.raise_signal(signal.SIGINT)
        return learn(self, batch)

    monkeypatch.setattr(AWAC, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt, match="saved at update 3"):
        pretrain(config("awac", dataset, tmp_path / "cut", 6), quiet=True)
    monkeypatch.undo()
    pretrain(config("awac", dataset, tmp_path / "cut", 6, resume=True), quiet=True)
    one, two = load_policy(tmp_path / "straight"), load_policy(tmp_path / "cut")
    for a, b in zip(one.module.parameters(), two.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_divergence_is_said_in_words(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AWAC, "learn", lambda self, batch: {"actor/loss": torch.tensor(float("nan"))})
    with pytest.raises(DivergedError, match=r"actor/loss is not finite at update 1.*--agent\.lr 0\.0003"):
        pretrain(config("awac", dataset, tmp_path / "run", 6), quiet=True)


def test_weights_that_are_lost_between_log_lines_reach_no_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = AWAC.learn

    def lost(self: AWAC, batch: Batch) -> Metrics:
        metrics = learn(self, batch)
        if self.updates == 5:  # log lines are 200 updates apart, checkpoints here 2
            next(self.parameters()).data.fill_(float("nan"))
        return metrics

    monkeypatch.setattr(AWAC, "learn", lost)
    with pytest.raises(DivergedError, match=r"\w+ is not finite after 6 updates.*last checkpoint is kept"):
        pretrain(dataclasses.replace(config("awac", dataset, tmp_path / "run", 9), log_every=200), quiet=True)
    assert load_policy(tmp_path / "run").step == 4


def test_cloning_takes_no_world_model(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bc learns which action .* --world-model has nothing to give it"):
        config("bc", dataset, tmp_path / "run", 2, world_model=tmp_path)


def test_going_on_with_other_options_is_refused_and_the_run_stays_as_it_was(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(config("bc", dataset, out, 2), quiet=True)
    other = dataclasses.replace(config("bc", dataset, out, 4, resume=True), agent=BCConfig(hidden=(32, 32)))
    with pytest.raises(
        CheckpointError, match=r"--agent\.hidden is \[32, 32\] here, \[16\] in the run(.|\n)*config\.yaml"
    ):
        pretrain(other, quiet=True)
    with pytest.raises(CheckpointError, match=r"--algorithm is iql here, bc in the run"):
        pretrain(config("iql", dataset, out, 4, resume=True), quiet=True)
    with pytest.raises(CheckpointError, match=r"--holdout is 0\.34 here, 0\.0 in the run"):
        pretrain(config("bc", dataset, out, 4, resume=True, holdout=0.34), quiet=True)
    assert load_policy(out).step == 2
    pretrain(config("bc", dataset, out, 4, resume=True), quiet=True)
    assert load_policy(out).step == 4


def test_a_run_is_not_resumed_to_fewer_updates_than_it_has_had(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(config("bc", dataset, out, 4), quiet=True)
    before = (out / "config.yaml").read_text()
    with pytest.raises(CheckpointError, match=r"has had 4 updates, and --steps is 2: .* give more than 4"):
        pretrain(config("bc", dataset, out, 2, resume=True), quiet=True)
    assert (out / "config.yaml").read_text() == before


def test_going_on_with_other_logs_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(config("bc", dataset, out, 2), quiet=True)
    moved = dataset.path.rename(tmp_path / "moved")
    pretrain(config("bc", load_dataset(moved), out, 4, resume=True), quiet=True)
    fewer = write_dataset(tmp_path / "fewer", dataset.spec, list(load_dataset(moved))[1:], origin="made")
    with pytest.raises(CheckpointError, match=r"fewer is not what .*run was begun with \(then from .*moved\)"):
        pretrain(config("bc", fewer, out, 6, resume=True), quiet=True)
    assert load_policy(out).step == 4


def test_a_run_that_was_made_on_a_gpu_is_read_on_a_cpu(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(config("sac", dataset, out, 2), quiet=True)
    file = resolve(out) / "training_state" / "state.safetensors"
    state = load_file(file)
    save_file(state | {"generator": torch.zeros(16, dtype=torch.uint8)}, file)  # a CUDA generator's
    assert load_policy(out).step == 2


def test_the_config_of_a_resumed_run_begins_another(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain(config("bc", dataset, out, 2), quiet=True)
    pretrain(config("bc", dataset, out, 4, resume=True), quiet=True)
    words = ["--config", str(out / "config.yaml"), "--out", str(tmp_path / "second")]
    assert main(["pretrain", "bc", *words]) == 0
    assert load_policy(tmp_path / "second").step == 4


@pytest.mark.parametrize(
    ("agent", "more", "words"),
    [
        (BCConfig(dropout=1.5), {}, r"--agent\.dropout is 1\.5; it must lie in \[0, 1\)"),
        (BCConfig(lr=0.0), {}, r"--agent\.lr is 0\.0; it must be above 0"),
        (BCConfig(batch_size=0), {}, r"--agent\.batch-size is 0; it must be at least 1"),
        (BCConfig(hidden=(16, 0)), {}, r"--agent\.hidden is \(16, 0\); it must be one width or more"),
        (BCConfig(hidden=()), {}, r"--agent\.hidden is \(\); it must be one width or more"),
        (SACConfig(first_std=0.0), {}, r"--agent\.first-std is 0\.0; it must be above 0"),
        (AWACConfig(discount=1.5), {}, r"--agent\.discount is 1\.5; it must lie in \[0, 1\)"),
        (TD3BCConfig(policy_delay=0), {}, r"--agent\.policy-delay is 0"),
        (BCConfig(), {"log_every": 0}, r"--log-every is 0; it must be at least 1"),
        (BCConfig(), {"checkpoint_every": 0}, r"--checkpoint-every is 0; it must be at least 1"),
        (BCConfig(), {"eval_episodes": 0}, r"--eval-episodes 0 \(1 or more\); --env none"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(
    agent: AgentConfig, more: dict[str, int], words: str, dataset: Dataset, tmp_path: Path
) -> None:
    name = {BCConfig: "bc", AWACConfig: "awac", TD3BCConfig: "td3-bc", SACConfig: "sac"}[type(agent)]
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=words):
        pretrain(
            PretrainConfig(algorithm=name, data=dataset.path, out=out, agent=agent, env="none", steps=2, **more),  # type: ignore[arg-type]
            quiet=True,
        )
    assert not out.exists()


def test_resuming_nothing_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No policy at"):
        pretrain(config("bc", dataset, tmp_path / "none", 4, resume=True), quiet=True)


def test_what_is_no_policy_is_called_by_its_name(dataset: Dataset, tmp_path: Path) -> None:
    model = tmp_path / "model"
    words = ["world-model", "ensemble", "--data", str(dataset.path), "--out", str(model), "--model.epochs", "1"]
    assert main([*words, "--model.hidden", "4"]) == 0
    with pytest.raises(CheckpointError, match=r"model holds a world model, not a policy\. Give the run folder of a p"):
        load_policy(model)
    with pytest.raises(CheckpointError, match=r"holds a world model, not a teacher\..*`robot-rl pretrain teacher`"):
        load_teacher(model)
    with pytest.raises(CheckpointError, match=r"No policy at .*none: no such folder\. Train one with `robot-rl p"):
        load_policy(tmp_path / "none")
    (config_file,) = model.glob("checkpoints/0*/pretrained_model/config.json")
    config_file.write_text('{"type": "act"}')
    with pytest.raises(CheckpointError, match="holds nothing of robot-rl's, not a policy"):
        load_policy(model)


def test_training_on_successes_needs_some(dataset: Dataset, tmp_path: Path) -> None:
    results = pretrain(config("bc", dataset, tmp_path / "run", 2, successes_only=True), quiet=True)
    assert results == {}
    with pytest.raises(ConfigError, match=r"--holdout 0\.01 of 3 episodes"):
        pretrain(config("bc", dataset, tmp_path / "r2", 2, successes_only=True, holdout=0.01), quiet=True)


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("pretrained_model/model.safetensors", lambda b: b[:50], "cannot be read"),
        ("pretrained_model/config.json", lambda b: b[:50], "cannot be read"),
        ("training_state/state.safetensors", lambda b: b[: len(b) // 2], "cannot be read"),
    ],
)
def test_damaged_checkpoints_are_refused(
    file: str, damage: object, words: str, dataset: Dataset, tmp_path: Path
) -> None:
    pretrain(config("bc", dataset, tmp_path / "run", 2), quiet=True)
    target = tmp_path / "run" / "checkpoints" / "last" / file
    target.write_bytes(damage(target.read_bytes()))
    with pytest.raises(CheckpointError, match=words):
        load_policy(tmp_path / "run")


def test_altered_statistics_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    pretrain(config("bc", dataset, tmp_path / "run", 2), quiet=True)
    file = tmp_path / "run/checkpoints/last/pretrained_model/config.json"
    raw = json.loads(file.read_text())
    raw["statistics"]["mean"][0] += 1.0
    file.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="statistics do not match their hash"):
        load_policy(tmp_path / "run")


def test_a_policy_reads_back_with_its_meaning(dataset: Dataset, tmp_path: Path) -> None:
    pretrain(config("td3-bc", dataset, tmp_path / "run", 2), quiet=True)
    policy = load_policy(tmp_path / "run")
    action = policy.module(torch.randn(4, 5) * 100)
    assert policy.spec == dataset.spec
    assert (policy.step, policy.algorithm, policy.data) == (2, "td3-bc", dataset.path)
    assert action.min() >= -2.0
    assert action.max() <= 4.0


def test_configs_are_frozen(dataset: Dataset, tmp_path: Path) -> None:
    made = config("bc", dataset, tmp_path, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.steps = 3  # pyright: ignore[reportAttributeAccessIssue]
