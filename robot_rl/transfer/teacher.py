"""The teacher: one world model of several source tasks, trained on their logs, then frozen.

The task's one-hot enters encoder and transition. Each sequence of a batch is drawn from one source, all equally likely,
however long their logs are.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from robot_rl.algorithms.steps import adam, descend
from robot_rl.checkpoint import (
    CONFIG,
    STATE,
    read_json,
    read_tensors,
    resolve,
    statistics_to_dict,
    write_checkpoint,
)
from robot_rl.config import to_mapping
from robot_rl.console import progress_bar
from robot_rl.data.dataset import Dataset, load_dataset
from robot_rl.data.replay import MEMORY_GB, Replay
from robot_rl.data.selection import Selection
from robot_rl.data.sequences import Sequences, joined
from robot_rl.data.stats import observation_stats
from robot_rl.device import DeviceName, fast_products, pick_device, restore_generator
from robot_rl.errors import CheckpointError, ConfigError, DivergedError
from robot_rl.interrupt import interrupt_sets
from robot_rl.latent.model import LatentModel, LatentModelConfig, Metrics
from robot_rl.nets.actor import Scaler
from robot_rl.resume import require_as_begun, require_not_beyond, require_unbegun
from robot_rl.run import RunLog, read_metrics, require_intervals
from robot_rl.spec import Spec
from robot_rl.transfer.guide import SourceSteps
from robot_rl.transfer.store import FORMAT_VERSION, STEPS_FILE, load_teacher


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Train a world model of several source tasks."""

    sources: tuple[Path, ...]  # dataset folders, one a task; observations and actions must agree
    out: Path  # run folder to write
    names: tuple[str, ...] = ()  # of the sources, for plots; default their folders' names
    model: LatentModelConfig = field(default_factory=LatentModelConfig)  # the model's own options
    steps: int = 20_000  # gradient updates
    sequences: int = 24  # pieces of episodes in a batch
    length: int = 16  # transitions of a piece
    holdout: float = 0.1  # share of each source's episodes kept out of training, at least one
    seed: int = 0  # of weights, batches and the choice of held-out episodes
    checkpoint_every: int = 5_000  # updates between checkpoints
    log_every: int = 200  # updates between log lines
    device: DeviceName = "auto"  # where to train
    memory_gb: float = MEMORY_GB  # a source's transitions beyond this lie in a nameless file in its folder
    threads: int = 1  # torch threads; more rarely helps at these sizes
    resume: bool = False  # go on from the last checkpoint in `out`

    def __post_init__(self) -> None:
        if self.names and len(self.names) != len(self.sources):
            raise ConfigError(f"--names gives {len(self.names)} names for {len(self.sources)} --sources.")
        if self.steps < 1 or self.sequences < 1 or self.length < 2:
            raise ConfigError(
                f"--steps is {self.steps}, --sequences {self.sequences}, --length {self.length}; they must be at least "
                f"1, 1 and 2."
            )
        require_intervals(log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        if not 0 < self.holdout < 1:
            raise ConfigError(f"--holdout is {self.holdout}; it must lie in (0, 1).")


def train_teacher(config: TeacherConfig, *, quiet: bool = False) -> dict[str, float]:
    """Run `config`; returns the last held-out figures.

    Raises:
        ConfigError: If there are too few sources.
        CheckpointError: If `out` already holds a run and `resume` is off, or holds none, or one of more updates, and
            it is on.
        DataError: If another process is at work on `out`.
        DivergedError: If the loss is not finite any more.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
        SpecMismatch: If the sources' observations or actions differ.
    """
    config = replace(config, sources=tuple(path.absolute() for path in config.sources))
    torch.set_num_threads(config.threads)
    run = _Training(config)
    stop = threading.Event()
    found: dict[str, float] = {}
    with RunLog(config.out, config, resume_step=run.updates or None) as log:
        with progress_bar(hidden=quiet) as bar, interrupt_sets(stop):
            task = bar.add_task("teacher", total=config.steps, completed=run.updates, note="")
            while run.updates < config.steps and not stop.is_set():
                metrics = run.update()
                last = run.updates == config.steps
                if run.updates % config.log_every == 0 or last:
                    found = {name: float(value) for name, value in (metrics | run.judge()).items()}
                    if not all(map(math.isfinite, found.values())):
                        raise DivergedError(f"The teacher diverged at update {run.updates}; lower --model.model-lr.")
                    log.log(run.updates, found)
                    note = f"observation {found['model/observation']:.3g}, held out {found['held_out/observation']:.3g}"
                    bar.update(task, completed=run.updates, note=note)
                if run.updates % config.checkpoint_every == 0 or last or stop.is_set():
                    run.save()
        if stop.is_set():
            raise KeyboardInterrupt(f"saved at update {run.updates}; go on with --resume")
        run.write_steps()
    return found or read_metrics(config.out)[-1]  # a run that was at its end already says how it ended


class _Training:
    """The model, its optimiser and the sources' replays."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        device = pick_device(config.device)
        datasets = [load_dataset(path) for path in config.sources]
        self.names = config.names or tuple(path.name for path in config.sources)
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ConfigError(
                f"Two sources are called {', '.join(twice)}: logs and plots could not tell them apart. Name all of "
                f"them with --names."
            )
        self.spec = _common_spec(datasets, config.sources)
        require_unbegun(config.out, resume=config.resume)
        parts = [_split(dataset, config) for dataset in datasets]
        self._all = datasets
        self.stats = observation_stats(episode for training, _ in parts for episode in training)
        self._replays = [
            Replay.of(self.spec, training, device, beside=path, memory_gb=config.memory_gb)
            for (training, _), path in zip(parts, config.sources, strict=True)
        ]
        self._kept = [Replay.of(self.spec, kept, device) for _, kept in parts]
        torch.manual_seed(config.seed)
        self.model = LatentModel(config.model, self.spec.obs_dim, self.spec.action_dim, len(self.names)).to(device)
        self.scaler = Scaler(self.spec, self.stats).to(device)
        self._contexts = torch.eye(len(self.names), device=device)
        self._optimiser = adam(self.model.parameters(), config.model.model_lr)
        self._generator = torch.Generator(device).manual_seed(config.seed)
        self.updates = 0
        if config.resume:
            self._take_up()

    def update(self) -> Metrics:
        """One gradient step on sequences of all sources."""
        seen, context = self._batch(self._replays, self.config.sequences, self._generator)
        with fast_products(self._contexts.device):
            loss, metrics = self.model.loss(seen, self.model.observe(seen.obs, seen.action, context, self._generator))
            descend(self._optimiser, loss, clip=self.config.model.clip)
        self.updates += 1
        return metrics

    @torch.no_grad()
    def judge(self) -> Metrics:
        """The same losses on episodes that were kept out."""
        generator = torch.Generator(self._contexts.device).manual_seed(0)
        seen, context = self._batch(self._kept, 8 * len(self.names), generator)
        _, metrics = self.model.loss(seen, self.model.observe(seen.obs, seen.action, context, None))
        return {name.replace("model/", "held_out/"): value for name, value in metrics.items()}

    def save(self) -> None:
        """Write a checkpoint."""
        state = {"generator": self._generator.get_state()}
        for index, slots in self._optimiser.state_dict()["state"].items():
            state |= {f"adam.{index}.{slot}": value for slot, value in slots.items()}
        config = {
            "format_version": FORMAT_VERSION,
            "teacher": to_mapping(self.config.model),
            "sources": list(self.names),
            "spec": replace(self.spec, env_id="").to_dict(),
            "statistics": statistics_to_dict(self.stats),
            "updates": self.updates,
        }
        write_checkpoint(
            self.config.out,
            self.updates,
            config=config,
            train_config=to_mapping(self.config),
            weights=self.model.state_dict(),
            state=state,
        )

    @torch.no_grad()
    def write_steps(self) -> None:
        """Let the teacher go through every source, and keep what it made of each step."""
        found: list[SourceSteps] = []
        for number, dataset in enumerate(self._all):
            for episode in dataset:
                device = self._contexts.device
                obs = self.scaler.obs(torch.from_numpy(np.array(episode.observations)).to(device))[:, None]
                action = self.scaler.to_unit(torch.from_numpy(np.array(episode.actions)).to(device))
                trace = self.model.observe(obs, action[:, None], self._contexts[number : number + 1], None)
                source = torch.full((len(action),), number, dtype=torch.int64)
                steps = SourceSteps(obs[:-1, 0], trace.state[:-1, 0], action, source)
                found.append(SourceSteps(*(column.cpu() for column in steps)))
        columns = [torch.cat(parts) for parts in zip(*found, strict=True)]
        target = self.config.out / STEPS_FILE
        work = target.with_name(f".{target.name}.tmp")
        save_file(dict(zip(SourceSteps._fields, columns, strict=True)) | {"updates": torch.tensor(self.updates)}, work)
        work.replace(target)

    def _batch(self, replays: Sequence[Replay], count: int, generator: torch.Generator) -> tuple[Sequences, Tensor]:
        """Scaled sequences of all sources, and which each is of, (B, K)."""
        device = self._contexts.device
        drawn = torch.randint(len(replays), (count,), generator=generator, device=device)
        counts = torch.bincount(drawn, minlength=len(replays)).tolist()
        seen: Sequences | None = None
        for replay, size in zip(replays, counts, strict=True):
            if size:
                piece = replay.sequences(size, self.config.length, generator)
                seen = piece if seen is None else joined(seen, piece)
        if seen is None:
            raise ConfigError("No source to draw from: give --sources.")
        context = self._contexts.repeat_interleave(torch.tensor(counts, device=device), 0)
        return seen._replace(obs=self.scaler.obs(seen.obs), action=self.scaler.to_unit(seen.action)), context

    def _take_up(self) -> None:
        require_as_begun(self.config.out, self.config, ("model", "seed", "holdout"))
        folder = resolve(self.config.out)
        self.updates = int(read_json(folder / CONFIG)["updates"])
        require_not_beyond(self.config.out, self.updates, self.config.steps)
        teacher = load_teacher(folder, device=str(self._contexts.device))
        if teacher.sources != self.names or not teacher.stats.agrees(self.stats):
            raise CheckpointError(
                f"{self.config.out} was trained on {', '.join(teacher.sources)}; resume with the same --sources."
            )
        self.model.load_state_dict(teacher.model.state_dict())
        state = read_tensors(folder / STATE)
        restore_generator(self._generator, state.pop("generator"))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            _, index, slot = key.split(".")
            slots.setdefault(int(index), {})[slot] = value
        self._optimiser.load_state_dict({"state": slots, "param_groups": self._optimiser.state_dict()["param_groups"]})


def _common_spec(datasets: Sequence[Dataset], paths: Sequence[Path]) -> Spec:
    if len(datasets) < 2:
        raise ConfigError(f"--sources names {len(datasets)} datasets; a teacher needs at least 2 tasks.")
    first = datasets[0].spec
    for dataset, path in zip(datasets[1:], paths[1:], strict=True):
        first.require_match(
            dataset.spec, str(paths[0]), str(path), "A teacher sees all its sources through the same observations."
        )
    return first


def _split(dataset: Dataset, config: TeacherConfig) -> tuple[Selection, Selection]:
    """Episodes to learn from and held-out ones."""
    count = len(dataset)
    held = max(1, round(config.holdout * count))
    if held >= count:
        raise ConfigError(
            f"{dataset.path} has {count} episodes; with --holdout {config.holdout} nothing is left to train on."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed)).tolist()
    return Selection(dataset, tuple(sorted(order[held:]))), Selection(dataset, tuple(sorted(order[:held])))
