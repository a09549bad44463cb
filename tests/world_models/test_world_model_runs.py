"""`robot-rl world-model`: what a run leaves, that it resumes bit for bit, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from robot_rl.cli import main
from robot_rl.data.dataset import Dataset, write_dataset
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.run import read_metrics
from robot_rl.world_models.ensemble import EnsembleConfig
from robot_rl.world_models.fit import Fitter
from robot_rl.world_models.registry import AnyModelConfig
from robot_rl.world_models.store import load_model
from robot_rl.world_models.train import WorldModelConfig, train
from robot_rl.world_models.vae import VAEConfig

CONFIGS: dict[str, AnyModelConfig] = {
    "vae": VAEConfig(
        latent=3, encoder_hidden=(8,), transition_hidden=(8,), decoder_hidden=(8,), head_hidden=(8,),
        batch_size=64, epochs=4,
    ),
    "ensemble": EnsembleConfig(networks=3, elites=2, hidden=(8,), batch_size=64, epochs=4),
}  # fmt: skip


def config(kind: str, dataset: Dataset, out: Path, **more: object) -> WorldModelConfig:
    model = CONFIGS[kind]
    return WorldModelConfig(
        kind=kind, data=dataset.path, out=out, model=model, checkpoint_every=1, device="cpu", **more
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_resuming_equals_never_having_stopped(
    kind: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = train(config(kind, dataset, tmp_path / "straight"), quiet=True)
    whole = Fitter.epoch

    def cut(self: Fitter) -> dict[str, torch.Tensor]:
        if self.epochs == 2:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(Fitter, "epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        train(config(kind, dataset, tmp_path / "cut"), quiet=True)
    with pytest.raises(CheckpointError, match="not trained to its end"):
        load_model(tmp_path / "cut")[0].require_usable(force=True)
    monkeypatch.undo()
    torch.manual_seed(99)
    two = train(config(kind, dataset, tmp_path / "cut", resume=True), quiet=True)
    assert one == two
    assert load_model(tmp_path / "straight")[0].module.digest == load_model(tmp_path / "cut")[0].module.digest
    assert read_metrics(tmp_path / "straight") == read_metrics(tmp_path / "cut")


def test_a_run_leaves_a_report_for_people(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    words = ["world-model", "ensemble", "--data", str(dataset.path), "--out", str(out), "--model.epochs", "1"]
    assert main([*words, "--model.hidden", "8", "--model.lr", "1e-12"]) == 0
    said = capsys.readouterr()
    assert "one-step error" in said.out
    assert "--augment.force" in said.err  # an untrained model is worse than least squares
    report = (out / "report.md").read_text()
    assert "it **does not beat** it" in report
    for picture in ("error_by_dimension", "open_loop", "calibration", "rollout"):
        assert f"({picture}.png)" in report
        assert (out / f"{picture}.png").stat().st_size > 1000
    assert all(f"| place/{i} |" in report for i in range(3))
    figures = json.loads((out / "report.json").read_text())
    assert set(figures["by_dimension"]) == {"model", "last state", "linear"}
    with pytest.raises(ConfigError, match=r"errs by .*'linear' by"):
        load_model(out)[0].require_usable(force=False)


def test_a_report_is_the_last_thing_written(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    straight = train(config("ensemble", dataset, tmp_path / "straight"), quiet=True)
    monkeypatch.setattr("robot_rl.world_models.train.write_report", full)
    with pytest.raises(OSError, match="No space"):
        train(config("ensemble", dataset, tmp_path / "cut"), quiet=True)
    monkeypatch.undo()
    assert load_model(tmp_path / "cut")[0].error == straight.error("model")
    assert train(config("ensemble", dataset, tmp_path / "cut", resume=True), quiet=True) == straight
    assert (tmp_path / "cut" / "report.json").is_file()


def test_a_run_is_not_overwritten_and_a_policy_is_no_model(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(config("ensemble", dataset, out), quiet=True)
    with pytest.raises(CheckpointError, match="already holds a run at epoch 4"):
        train(config("ensemble", dataset, out), quiet=True)
    words = ["pretrain", "bc", "--data", str(dataset.path), "--out", str(tmp_path / "bc"), "--steps", "1"]
    assert main([*words, "--env", "none"]) == 0
    with pytest.raises(CheckpointError, match="holds a bc policy, not a world model"):
        load_model(tmp_path / "bc")


def test_going_on_with_other_logs_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    train(config("ensemble", dataset, tmp_path / "model"), quiet=True)
    fewer = write_dataset(tmp_path / "fewer", dataset.spec, list(dataset)[2:], origin="made")
    with pytest.raises(CheckpointError, match=r"fewer is not what .*model was begun with"):
        train(config("ensemble", fewer, tmp_path / "model", resume=True), quiet=True)


def test_a_misspelt_model_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world-model", "ensembel", "--data", "d", "--out", "o"]) == 2
    assert "Did you mean 'ensemble'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (EnsembleConfig(epochs=0), r"--model\.epochs is 0; it must be at least 1"),
        (EnsembleConfig(lr=-1.0), r"--model\.lr is -1\.0; it must be above 0"),
        (VAEConfig(batch_size=0), r"--model\.batch-size is 0; it must be at least 1"),
        (VAEConfig(head_hidden=(0,)), r"--model\.head-hidden is \(0,\); it must be one width or more"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(
    model: AnyModelConfig, words: str, dataset: Dataset, tmp_path: Path
) -> None:
    kind, out = "vae" if isinstance(model, VAEConfig) else "ensemble", tmp_path / "model"
    with pytest.raises(ConfigError, match=words):
        train(WorldModelConfig(kind=kind, data=dataset.path, out=out, model=model, device="cpu"), quiet=True)
    assert not out.exists()
