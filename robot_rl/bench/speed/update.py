"""`robot-rl bench update`: gradient updates a second, beside a plain implementation and the matrix peak."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.awac import AWACConfig
from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.dreamer import DreamerConfig
from robot_rl.algorithms.iql import IQLConfig
from robot_rl.algorithms.latent_sac import LatentSACConfig
from robot_rl.algorithms.registry import AgentConfig, build_agent
from robot_rl.algorithms.sac import SACConfig
from robot_rl.algorithms.student import Student
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.bench.deliver import deliver
from robot_rl.bench.machine import machine
from robot_rl.bench.speed.plain_awac import PlainAWAC
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Replay
from robot_rl.data.stats import observation_stats
from robot_rl.device import fast_products
from robot_rl.spec import Entry, Spec, vector
from robot_rl.transfer.guide import Guide, SourceSteps, TransferConfig

TASKS = tuple("abcdef")

DESCRIPTION = """Measure gradient updates per second of every learner, beside a plain implementation of AWAC
with the same shapes, and as a share of what torch.mm reaches on this machine in the same run. All are
timed in turns, round after round; the median round is reported with the slowest and the fastest."""


@dataclass(frozen=True, kw_only=True)
class UpdateBenchConfig:
    """Benchmark of the update step."""

    obs_dim: int = 17  # observation width (HalfCheetah's)
    action_dim: int = 6  # action width
    rounds: int = 9  # rounds over all contestants
    seconds: float = 0.7  # time each gets in a round
    threads: int = 1  # torch threads
    json: bool = False  # one JSON object on standard output


def main(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    config = parse(UpdateBenchConfig, argv, prog="robot-rl bench update", description=DESCRIPTION)
    torch.set_num_threads(config.threads)
    result = measure(config)
    return deliver(result, lambda: _print(result), as_json=config.json)


def measure(config: UpdateBenchConfig) -> dict[str, object]:
    """Time every contestant in turns."""
    replay = random_replay(config.obs_dim, config.action_dim)
    contestants = _contestants(config, replay)
    flops = {name: _flops(step) for name, step in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    shares: dict[str, list[float]] = {name: [] for name in contestants}
    peaks: list[float] = []
    sampling = _sampling_seconds(replay)
    for _ in range(config.rounds):
        with fast_products(torch.device("cpu")):
            peak = _peak_flops(config.seconds)
        peaks.append(peak)
        for name, step in contestants.items():
            rate = _rate(step, config.seconds)
            rates[name].append(rate)
            shares[name].append(flops[name] * rate / peak)
    rows = {
        name: {
            "updates_per_s": statistics.median(rates[name]),
            "slowest_round": min(rates[name]),
            "fastest_round": max(rates[name]),
            "share_of_mm_peak": statistics.median(shares[name]),
            "gflop_per_update": flops[name] / 1e9,
            "sampling_share": sampling * statistics.median(rates[name]),
        }
        for name in contestants
    }
    return {
        "machine": machine(),
        "rounds": config.rounds,
        "mm_peak_gflops": statistics.median(peaks) / 1e9,
        "sampling_us": sampling * 1e6,
        "results": rows,
    }


def _contestants(config: UpdateBenchConfig, replay: Replay) -> dict[str, Callable[[], object]]:
    spec = replay.spec
    stats = observation_stats(replay.episodes())
    wide, pair = (256, 256, 256), (256, 256)
    awac = AWACConfig(actor_hidden=wide, critic_hidden=wide, batch_size=256, weighting="exp")
    configs: dict[str, AgentConfig] = {
        "awac 3x256, batch 256": awac,
        "awac as published, batch 1024": AWACConfig(),
        "td3-bc 2x256, batch 256": TD3BCConfig(hidden=pair),
        "iql 2x256, batch 256": IQLConfig(hidden=pair),
        "bc 2x256, batch 256": BCConfig(hidden=pair),
        "sac, 2 critics 2x256, batch 256": SACConfig(critics=2),
        "latent-sac, 16 x 16": LatentSACConfig(),
        "latent-sac with a teacher of 6 tasks": LatentSACConfig(transfer=TransferConfig(sources=TASKS)),
        "dreamer, 16 x 16, horizon 8": DreamerConfig(),
        "dreamer with a teacher of 6 tasks": DreamerConfig(transfer=TransferConfig(sources=TASKS)),
    }
    plain = PlainAWAC(spec.obs_dim, spec.action_dim, wide)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Callable[[], object]] = {
        "plain awac 3x256, batch 256": lambda: plain.update(replay.sample(256, generator))
    }

    def stepper(agent: Agent) -> Callable[[], object]:
        if isinstance(agent, Student) and agent.guide is not None:
            agent.guide.steps = _source_steps(agent.guide, spec.action_dim)
        return lambda: agent.update(agent.draw(replay, generator))

    for name, cfg in configs.items():
        found[name] = stepper(build_agent(cfg, spec, stats))
    return found


def random_replay(obs_dim: int, action_dim: int, steps: int = 20_000) -> Replay:
    """`steps` transitions of noise with actions in [-1, 1]."""
    rng = np.random.default_rng(0)
    size = action_dim
    bounds = Entry("action", tuple(map(str, range(size))), low=(-1.0,) * size, high=(1.0,) * size)
    spec = Spec((vector("observation", obs_dim),), (bounds,))
    episode = Episode(
        observations=rng.normal(size=(steps + 1, obs_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, action_dim)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
    )
    return Replay.of(spec, [episode])


def _source_steps(guide: Guide, actions: int, count: int = 18_000) -> SourceSteps:
    """Steps of noise for the action replay."""
    states, done = torch.randn(count, guide.teacher.width), torch.rand(count, actions) * 2 - 1
    return SourceSteps(torch.randn(count, guide.observations), states, done, torch.randint(len(TASKS), (count,)))


def _rate(step: Callable[[], object], seconds: float) -> float:
    """Calls a second, after a short warm-up."""
    for _ in range(3):
        step()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start)


def _flops(step: Callable[[], object]) -> float:
    """Floating-point operations in matrix products of one update, averaged over four."""
    step()
    with FlopCounterMode(display=False) as counter:
        for _ in range(4):
            step()
    return counter.get_total_flops() / 4


def _peak_flops(seconds: float) -> float:
    """The best rate of square float32 `torch.mm` over sizes 256 to 2048, FLOP/s."""
    best = 0.0
    sizes = (256, 512, 1024, 2048)
    for size in sizes:
        a, b = torch.randn(size, size), torch.randn(size, size)
        out = torch.empty(size, size)
        rate = _rate(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), seconds / len(sizes))
        best = max(best, 2 * size**3 * rate)
    return best


def _sampling_seconds(replay: Replay, batch: int = 256) -> float:
    generator = torch.Generator().manual_seed(0)
    return 1 / _rate(lambda: replay.sample(batch, generator), 0.3)


def _print(result: dict[str, object]) -> None:
    rows = result["results"]
    table = Table(title="Update step", title_justify="left")
    for column in ("learner", "updates/s", "slowest to fastest round", "share of torch.mm peak", "sampling"):
        table.add_column(column, justify="left" if column == "learner" else "right")
    if isinstance(rows, dict):
        for name, row in rows.items():
            table.add_row(
                name,
                f"{row['updates_per_s']:.1f}",
                f"{row['slowest_round']:.1f} to {row['fastest_round']:.1f}",
                f"{row['share_of_mm_peak']:.2f}",
                f"{row['sampling_share']:.1%}",
            )
    out = make_console()
    out.print(table)
    out.print(f"torch.mm peak {result['mm_peak_gflops']:.1f} GFLOP/s; {result['machine']}", markup=False)
