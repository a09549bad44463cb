"""Training a world model as a run: dataset in, run folder with checkpoints and a report out."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from robot_rl.console import progress_bar
from robot_rl.data.dataset import Dataset, load_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Replay
from robot_rl.data.stats import observation_stats
from robot_rl.device import DeviceName, pick_device
from robot_rl.errors import ConfigError, DivergedError
from robot_rl.interrupt import interrupt_sets
from robot_rl.resume import require_as_begun, require_same_logs, require_unbegun
from robot_rl.run import RunLog, require_intervals
from robot_rl.world_models.fit import Fitter
from robot_rl.world_models.holdout import Holdout
from robot_rl.world_models.judge import Verdict, judge
from robot_rl.world_models.model import Targets, WorldModel
from robot_rl.world_models.registry import AnyModelConfig, ModelName, build_model
from robot_rl.world_models.report import write_report
from robot_rl.world_models.store import load_model, save_model


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """Train a world model."""

    kind: tyro.conf.Positional[ModelName]  # vae or ensemble
    data: Path  # dataset folder from `robot-rl data import` or `robot-rl record`
    out: Path  # run folder to write
    model: AnyModelConfig  # the model's own options
    holdout: float = 0.1  # share of episodes kept out of training and refits, on average; at least one
    seed: int = 0  # of weights, batches and the choice of held-out episodes
    checkpoint_every: int = 20  # epochs between checkpoints
    device: DeviceName = "auto"  # where to train
    threads: int = 1  # torch threads; more rarely helps at these sizes
    resume: bool = False  # go on from the last checkpoint in `out`

    def __post_init__(self) -> None:
        require_intervals(checkpoint_every=self.checkpoint_every)
        if not 0 < self.holdout < 1:
            raise ConfigError(f"--holdout is {self.holdout}; it must lie in (0, 1).")


def train(config: WorldModelConfig, *, quiet: bool = False) -> Verdict:
    """Run `config`; returns the held-out figures, which report.md shows.

    Raises:
        DataError: If the dataset cannot be learned from, or another process is at work on `out`.
        DivergedError: If the held-out error is not finite any more.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
        CheckpointError: If `out` already holds a run and `resume` is off, or holds none and it is on.
    """
    config = replace(config, data=config.data.absolute())
    torch.set_num_threads(config.threads)
    dataset = load_dataset(config.data)
    holdout = Holdout(config.holdout, config.seed)
    training, held_out = holdout.split(list(dataset))
    model, fitter = _start(config, dataset, training, held_out)
    model.holdout = holdout
    stop = threading.Event()
    with RunLog(config.out, config, resume_step=fitter.epochs or None) as log:
        with progress_bar(hidden=quiet) as bar, interrupt_sets(stop):
            task = bar.add_task(f"{config.kind}, epochs", total=config.model.epochs, completed=fitter.epochs, note="")
            while fitter.epochs < config.model.epochs and not fitter.finished and not stop.is_set():
                scalars = {name: float(value) for name, value in fitter.epoch().items()}
                if not math.isfinite(scalars["held_out/error"]):
                    raise DivergedError(f"{config.kind} diverged at epoch {fitter.epochs}; lower --model.lr.")
                log.log(fitter.epochs, scalars)
                bar.update(task, completed=fitter.epochs, note=f"held-out error {scalars['held_out/error']:.4g}")
                if fitter.epochs % config.checkpoint_every == 0 or stop.is_set():
                    save_model(config.out, model, fitter, name=config.kind, train_config=config)
        if stop.is_set():
            raise KeyboardInterrupt(f"saved at epoch {fitter.epochs}; go on with --resume")
        fitter.finish()
        verdict = judge(model, training, held_out)
        title = f"{config.kind} on {dataset.origin}"
        save_model(config.out, model, fitter, name=config.kind, train_config=config, verdict=verdict)
        # last, a sign that all is there
        write_report(config.out, model, verdict, held_out, title=title, epochs=fitter.epochs)
    return verdict


def _start(
    config: WorldModelConfig, dataset: Dataset, training: list[Episode], held_out: list[Episode]
) -> tuple[WorldModel, Fitter]:
    device = pick_device(config.device)
    require_unbegun(config.out, resume=config.resume, counts="epoch")
    rows, kept = (Replay.of(dataset.spec, part, device).transitions() for part in (training, held_out))
    if config.resume:
        require_as_begun(config.out, config, ("kind", "model", "seed", "holdout"), free=("model.epochs",))
        trained, state = load_model(config.out, device=device)
        model = trained.module
        dataset.spec.require_match(model.spec, str(dataset.path), str(config.out), "Resume with the same --data.")
        require_same_logs(config.out, config.data, observation_stats(training), model.stats)
    else:
        torch.manual_seed(config.seed)
        stats = observation_stats(training)
        targets = Targets.of(rows, stats)
        state = None
        model = build_model(config.model, dataset.spec, stats, targets, seed=config.seed, device=device)
    fitter = Fitter(model, rows, kept, batch_size=config.model.batch_size, patience=config.model.patience)
    if state is not None:
        fitter.load_state(state)
    return model, fitter
