"""`robot-rl bench world-model`: what augmentation adds to an update, and how long the models take to train."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table

from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.bench.speed.update import random_replay
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.data.replay import Batch, Replay, TransitionSource
from robot_rl.data.stats import observation_stats
from robot_rl.world_models.augment import AugmentConfig, Augmented, Mode, exploring
from robot_rl.world_models.fit import Fitter
from robot_rl.world_models.model import Targets, WorldModel
from robot_rl.world_models.registry import MODEL_CONFIGS, build_model

DESCRIPTION = """Time a TD3+BC update (2x256, batch 256) with and without augmentation, in turns, and an epoch of
each world model. A round covers one block of predictions from its making to its last use. What augmentation adds
is taken from processor time, which other programs on the machine blur least."""

CONTESTANTS: dict[str, tuple[str, Mode, int]] = {
    "vae, next-state": ("vae", "next-state", 1),
    "vae, consistent": ("vae", "consistent", 1),
    "vae, noise": ("vae", "noise", 1),
    "ensemble, next-state": ("ensemble", "next-state", 1),
    "ensemble, rollout of 1": ("ensemble", "rollout", 1),
    "ensemble, rollout of 3": ("ensemble", "rollout", 3),
}


@dataclass(frozen=True, kw_only=True)
class WorldModelBenchConfig:
    """Benchmark of augmentation and model training."""

    obs_dim: int = 17  # observation width (HalfCheetah's)
    action_dim: int = 6  # action width
    transitions: int = 10_000  # in the dataset
    rounds: int = 5  # rounds over all contestants
    epochs: int = 3  # of each model's training that are timed
    threads: int = 1  # torch threads
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(WorldModelBenchConfig, argv, prog="robot-rl bench world-model", description=DESCRIPTION)
    torch.set_num_threads(config.threads)
    replay = random_replay(config.obs_dim, config.action_dim, config.transitions)
    models = {name: _model(name, replay) for name in MODEL_CONFIGS}
    result: dict[str, object] = {
        "machine": machine(),
        "rounds": config.rounds,
        "updates_a_round": _round_length(),
        "update": _updates(config, replay, models),
        "training": {name: _training(model, replay, config) for name, model in models.items()},
    }
    return deliver(result, lambda: _print(result), as_json=config.json)


def _model(name: str, replay: Replay) -> WorldModel:
    stats = observation_stats(replay.episodes())
    targets = Targets.of(replay.transitions(), stats)
    model = build_model(MODEL_CONFIGS[name](), replay.spec, stats, targets)
    model.levels.fill_(torch.inf)  # untrained, so that the gate lets everything pass: the dearest case
    return model


def _updates(
    config: WorldModelBenchConfig, replay: Replay, models: dict[str, WorldModel]
) -> dict[str, dict[str, float]]:
    steps = {"plain": _stepper(replay, None, None)}
    for name, (kind, mode, horizon) in CONTESTANTS.items():
        steps[name] = _stepper(replay, models[kind], AugmentConfig(mode=mode, horizon=horizon))
    wall: dict[str, list[float]] = {name: [] for name in steps}
    busy: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(config.rounds):
        for name, step in steps.items():
            start = time.perf_counter(), time.process_time()
            for _ in range(_round_length()):
                step()
            wall[name].append(1e3 * (time.perf_counter() - start[0]) / _round_length())
            busy[name].append(1e3 * (time.process_time() - start[1]) / _round_length())
    return {
        name: {
            "ms": statistics.median(wall[name]),
            "processor_ms": statistics.median(busy[name]),
            "fastest_processor_ms": min(busy[name]),
            "slowest_processor_ms": max(busy[name]),
            "added": statistics.median(t / p - 1 for t, p in zip(busy[name], busy["plain"], strict=True)),
        }
        for name in steps
    }


def _stepper(replay: Replay, model: WorldModel | None, cfg: AugmentConfig | None) -> Callable[[], object]:
    agent_config = TD3BCConfig()
    agent = build_agent(agent_config, replay.spec, observation_stats(replay.episodes()))
    source: TransitionSource = replay
    if model is not None and cfg is not None:
        source = Augmented(replay, model, cfg, exploring(agent))
    generator = torch.Generator().manual_seed(0)
    return lambda: agent.update(source.sample(agent_config.batch_size, generator))


def _round_length() -> int:
    cfg = AugmentConfig()
    return round(cfg.block * cfg.reuse / (cfg.share * TD3BCConfig().batch_size))


def _training(model: WorldModel, replay: Replay, config: WorldModelBenchConfig) -> dict[str, float]:
    rows = replay.transitions()
    held_out = Batch(*(column[::10] for column in rows))
    fitter = Fitter(model, rows, held_out, batch_size=model.cfg.batch_size, patience=model.cfg.patience)
    fitter.epoch()  # warm-up
    wall: list[float] = []
    busy: list[float] = []
    for _ in range(config.epochs):
        start = time.perf_counter(), time.process_time()
        fitter.epoch()
        wall.append(time.perf_counter() - start[0])
        busy.append(time.process_time() - start[1])
    epochs = model.cfg.epochs
    return {
        "epochs": epochs,
        "seconds_an_epoch": statistics.median(wall),
        "processor_seconds_an_epoch": statistics.median(busy),  # what it would take on a machine of its own
        "minutes_in_all": statistics.median(wall) * epochs / 60,
        "processor_minutes_in_all": statistics.median(busy) * epochs / 60,
    }


def _print(result: dict[str, object]) -> None:
    out = make_console()
    update, training = result["update"], result["training"]
    table = Table(title="TD3+BC update, batch 256", title_justify="left")
    for column in ("augmentation", "ms", "processor ms", "fastest to slowest round", "added"):
        table.add_column(column, justify="left" if column == "augmentation" else "right")
    if isinstance(update, dict):
        for name, row in update.items():
            spread = f"{row['fastest_processor_ms']:.1f} to {row['slowest_processor_ms']:.1f}"
            table.add_row(name, f"{row['ms']:.1f}", f"{row['processor_ms']:.1f}", spread, f"{row['added']:+.0%}")
    out.print(table)
    if isinstance(training, dict):
        for name, row in training.items():
            out.print(
                f"{name}: {row['seconds_an_epoch']:.2f} s an epoch, {row['minutes_in_all']:.1f} min for all, "
                f"{row['processor_minutes_in_all']:.1f} min of processor time"
            )
    out.print(str(result["machine"]), markup=False)
