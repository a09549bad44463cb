"""World models on disk: the layout of every run of ours, the verdict among the config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from robot_rl.checkpoint import (
    STATE,
    load_weights,
    open_checkpoint,
    read_tensors,
    statistics_from_dict,
    statistics_to_dict,
    write_checkpoint,
)
from robot_rl.config import from_mapping, to_mapping
from robot_rl.device import restore_generator
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.spec import Spec
from robot_rl.world_models.fit import Fitter
from robot_rl.world_models.holdout import Holdout
from robot_rl.world_models.judge import Verdict
from robot_rl.world_models.model import WorldModel
from robot_rl.world_models.registry import MODEL_CONFIGS, build_model

FORMAT_VERSION = 3


@dataclass(frozen=True)
class TrainedModel:
    """A world model read back from a run.

    Args:
        module: The model.
        name: Its kind.
        error: Held-out one-step error, in standard deviations; None while training is not over.
        naive_error: The same of the best naive predictor.
        naive: That predictor's name.
        run: Run folder.
    """

    module: WorldModel
    name: str
    error: float | None
    naive_error: float | None
    naive: str
    run: Path

    def require_usable(self, *, force: bool) -> WorldModel:
        """The model, unless it knows less than a naive predictor does.

        Raises:
            CheckpointError: If training is not over.
            ConfigError: If a naive predictor beats it and `force` is off.
        """
        if self.error is None or self.naive_error is None:
            raise CheckpointError(
                f"The world model in {self.run} is not trained to its end. Go on with "
                f"`robot-rl world-model {self.name} --config {self.run}/config.yaml --resume`."
            )
        if self.error >= self.naive_error and not force:
            raise ConfigError(
                f"The world model in {self.run} errs by {self.error:.3f} standard deviations a step on held-out "
                f"episodes, the predictor '{self.naive}' by {self.naive_error:.3f}: it would add noise, not "
                f"knowledge. See {self.run}/report.md; train another, or use it all the same with --augment.force."
            )
        return self.module


def save_model(
    run: Path, model: WorldModel, fitter: Fitter, *, name: str, train_config: Any, verdict: Verdict | None = None
) -> Path:
    """Write checkpoint `fitter.epochs` of `run` and point `last` at it; the verdict closes the training."""
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "world_model": name,
        "model": to_mapping(model.cfg),
        "spec": model.spec.to_dict(),
        "statistics": statistics_to_dict(model.stats),
        "epochs": fitter.epochs,
        "batches": model.batches,
        "holdout": to_mapping(model.holdout),
        "verdict": None,
    }
    if verdict is not None:
        naive = verdict.best_naive
        config["verdict"] = {"error": verdict.error("model"), "naive": naive, "naive_error": verdict.error(naive)}
    return write_checkpoint(
        run,
        fitter.epochs,
        config=config,
        train_config=to_mapping(train_config),
        weights=model.state_dict(),
        state=fitter.state(),
    )


def load_model(path: Path, *, device: str = "cpu") -> tuple[TrainedModel, dict[str, Tensor]]:
    """The model of a run or checkpoint folder, and the state its `Fitter` left.

    Raises:
        CheckpointError: If a file is missing, damaged, or is not a world model's.
    """
    folder, config = open_checkpoint(path, "world_model")
    try:
        name = str(config["world_model"])
        if config["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder} has version {config['format_version']}, this program reads {FORMAT_VERSION}."
            )
        cfg = from_mapping(MODEL_CONFIGS[name], config["model"], f"{folder}: model")
        spec, stats = Spec.from_dict(config["spec"]), statistics_from_dict(config["statistics"], folder)
        verdict = config["verdict"]
        model = build_model(cfg, spec, stats, device=device)
        model.plan(int(config["batches"]))
        model.holdout = from_mapping(Holdout, config["holdout"], f"{folder}: holdout")
        error, naive_error, naive = (
            (None, None, "")
            if verdict is None
            else (float(verdict["error"]), float(verdict["naive_error"]), str(verdict["naive"]))
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{folder}: config.json is not usable ({error}). Train again.") from error
    load_weights(model, folder)
    state = read_tensors(folder / STATE)
    restore_generator(model.generator, state["fit.generator"])
    return TrainedModel(model, name, error, naive_error, naive, folder.parents[1]), state
