"""`robot-rl export`: from a run to a policy bundle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console

from deploy.contract import MODEL_FILE, Contract
from deploy.export import export_policy
from robot_rl.checkpoint import TrainedPolicy, load_policy
from robot_rl.config import parse
from robot_rl.console import key_value_table, print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.data.replay_log import ReplayLog
from robot_rl.errors import ConfigError, SpecMismatch
from robot_rl.spec import Array

DESCRIPTION = """\
Write a policy as an ONNX bundle that runs without PyTorch.

    robot-rl export outputs/lift --out outputs/lift-bundle

Normaliser and action scaling are inside the graph: raw observation in, executable action out. The file
carries a contract (names, order, units and bounds of every number, rate, control mode, statistics hash,
weight version) and a parity certificate: PyTorch and ONNX Runtime are compared on recorded and random
observations, and nothing is written if they differ by more than --tolerance. `robot-rl serve` refuses an
arm that the contract does not fit."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a policy."""

    run: tyro.conf.Positional[Path]  # run or checkpoint folder
    out: Path  # bundle folder to write; must not exist yet
    data: Path | None = None  # dataset with the observations to compare on; default the one trained on
    samples: int = 2048  # how many recorded observations to compare on
    tolerance: float = 1e-5  # largest allowed absolute difference, in action units
    json: bool = False  # one JSON object on standard output

    def __post_init__(self) -> None:
        if self.samples < 1 or not self.tolerance > 0:
            raise ConfigError(f"--samples is {self.samples}, --tolerance {self.tolerance:g}; both must be above 0.")


def main(argv: Sequence[str]) -> int:
    """Parse, export, print."""
    config = parse(ExportConfig, argv, prog="robot-rl export", description=DESCRIPTION)
    torch.set_num_threads(1)
    trained = load_policy(config.run)
    recorded = recorded_observations(trained, config.data, config.samples)
    contract = export_policy(trained, config.out, recorded, tolerance=config.tolerance)
    if config.json:
        print_json({"out": str(config.out), **_facts(contract)})
        return 0
    console = Console(highlight=False)
    console.print(key_value_table(str(config.out), _rows(contract, config.out)))
    if recorded is None:
        console.print("[yellow]note[/] the data it learned from are gone: compared on random observations only")
    console.print(f"next: robot-rl serve {config.out} --arm NAME", markup=False)
    return 0


def recorded_observations(trained: TrainedPolicy, data: Path | None, samples: int) -> Array | None:
    """Up to `samples` observations of the policy's dataset, or else of its online phase, (N, S), spread over it.

    None where both are gone.

    Args:
        trained: The policy, which names its dataset.
        data: Another dataset to take them from; then a missing one is an error.
        samples: How many.

    Raises:
        DataError: If the dataset is damaged.
        SpecMismatch: If it holds other observations than the policy takes.
    """
    folder = data or trained.data
    if data is None and not (folder / "data" / "metadata.json").is_file():
        return _lived_through(trained, samples)
    dataset = load_dataset(folder)
    if dataset.spec.observation != trained.spec.observation:
        found = trained.spec.differences(dataset.spec, "the policy", str(folder))
        what = "\n  - ".join(found) or "the bounds of an observation differ"
        raise SpecMismatch(f"{folder} does not hold the policy's observations:\n  - {what}\nGive another --data.")
    share = max(1, dataset.total_steps // samples)
    rows = (episode.observations[::share] for episode in dataset)
    return np.concatenate(list(itertools.chain(rows)))[:samples]


def _lived_through(trained: TrainedPolicy, samples: int) -> Array | None:
    """Observations of the run's own online phase; None where it had none."""
    folder = trained.run / "transitions"
    if not folder.is_dir():
        return None
    log = ReplayLog(folder, trained.spec)
    rows = log.read()
    log.close()
    return np.ascontiguousarray(rows["obs"][:: max(1, len(rows) // samples)][:samples]) if len(rows) else None


def _facts(contract: Contract) -> dict[str, object]:
    return {
        "algorithm": contract.algorithm,
        "weight_version": contract.weight_version,
        "run": contract.run,
        "stats_digest": contract.stats_digest,
        "parity": asdict(contract.parity),
    }


def _rows(contract: Contract, out: Path) -> dict[str, str]:
    spec, parity = contract.spec, contract.parity
    rate = f"{spec.rate_hz:g} Hz, {spec.control}" if spec.rate_hz else "no rate stated: cannot be served"
    return {
        "policy": f"{contract.algorithm}, {contract.weight_version:,} updates, run {contract.run}",
        "observation": f"{spec.obs_dim} numbers: {', '.join(e.name for e in spec.observation)}",
        "action": f"{spec.action_dim} numbers: {', '.join(e.name for e in spec.action)}",
        "control": rate,
        "parity": f"at most {parity.max_abs:.2e} (tolerance {parity.tolerance:g}) on "
        f"{parity.samples_recorded} recorded and {parity.samples_random} random observations",
        "extremes": f"at most {parity.max_abs_extreme:.2e} on {parity.samples_extreme} far-out observations",
        "size": f"{(out / MODEL_FILE).stat().st_size / 1024:.0f} KiB",
    }
