"""`robot-rl export`: from a run to a policy bundle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from deploy.arms.arm import Episodic
from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.adopt import adopt_policy, load_pairs
from deploy.bundle.contract import MODEL_FILE, Contract
from deploy.bundle.export import export_policy
from robot_rl.checkpoint import TrainedPolicy, load_policy
from robot_rl.config import parse
from robot_rl.console import key_value_table, make_console, print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.data.replay_log import ReplayLog
from robot_rl.errors import ConfigError, SpecMismatch
from robot_rl.nets.recurrent import RecurrentPolicy
from robot_rl.spec import Array, Spec

DESCRIPTION = """\
Write a policy as an ONNX bundle that runs without PyTorch.

    robot-rl export outputs/lift --out outputs/lift-bundle

Normaliser and action scaling are inside the graph: raw observation in, executable action out. The file
carries a contract (names, order, units and bounds of every number, rate, control mode, statistics hash,
weight version) and a parity certificate: PyTorch and ONNX Runtime are compared on recorded and random
observations, and nothing is written if they differ by more than --tolerance. A policy with a memory is compared
over whole episodes. `robot-rl serve` refuses an arm that the contract does not fit.

    robot-rl export --onnx act.onnx --pairs act.npz --data data/reach --out outputs/act-bundle

takes in a policy trained elsewhere, such as one that plans chunks of actions (docs/deploy.md)."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a policy."""

    run: tyro.conf.Positional[Path | None] = None  # run or checkpoint folder
    out: Path  # bundle folder to write; must not exist yet
    onnx: Path | None = None  # a policy trained elsewhere, instead of a run: (batch, S) to (batch, A) or (batch, H, A)
    pairs: Path | None = None  # for --onnx: .npz with `obs` and the `action` that its trainer computes for them
    arm: str = ""  # for --onnx: the arm whose numbers it takes and gives; or give the --data it learned from
    data: Path | None = None  # dataset with the observations to compare on; default the one trained on
    samples: int = 2048  # how many recorded observations to compare on
    tolerance: float = 1e-5  # largest allowed absolute difference, in action units
    json: bool = False  # one JSON object on standard output

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 < self.tolerance < math.inf:
            raise ConfigError(
                f"--samples is {self.samples}, --tolerance {self.tolerance:g}; both must be above 0, and finite."
            )

    def require_one_source(self) -> None:
        """Refuse words that do not go together; called once the command line is read as a whole.

        Raises:
            ConfigError: Naming them.
        """
        if (self.run is None) == (self.onnx is None):
            raise ConfigError("Give either a run folder, or --onnx FILE with a policy trained elsewhere.")
        if self.onnx is None and (self.pairs is not None or self.arm):
            raise ConfigError(
                "--pairs and --arm are for --onnx; a run carries its own spec and network to compare with."
            )
        if self.onnx is not None and (self.pairs is None or bool(self.arm) == (self.data is not None)):
            raise ConfigError(
                "--onnx needs --pairs FILE.npz (observations, and the actions its trainer computes for them: the proof "
                "that the file computes the same), and either --data or --arm, which say what its numbers mean."
            )


def main(argv: Sequence[str]) -> int:
    """Parse, export, print."""
    config = parse(ExportConfig, argv, prog="robot-rl export", description=DESCRIPTION)
    config.require_one_source()
    torch.set_num_threads(1)
    contract, note = _from_run(config, config.run) if config.run is not None else _from_elsewhere(config)
    if config.json:
        print_json({"out": str(config.out), **_facts(contract)})
        return 0
    console = make_console()
    console.print(key_value_table(str(config.out), _rows(contract, config.out)))
    if note:
        console.print(f"[yellow]note[/] {note}")
    console.print(f"next: robot-rl serve {config.out} --arm NAME", markup=False)
    return 0


def _from_run(config: ExportConfig, run: Path) -> tuple[Contract, str]:
    trained = load_policy(run)
    recorded = recorded_observations(trained, config.data, config.samples)
    contract = export_policy(trained, config.out, recorded, tolerance=config.tolerance)
    gone = "the data it learned from are gone: compared on random observations only"
    return contract, "" if recorded else gone


def _from_elsewhere(config: ExportConfig) -> tuple[Contract, str]:
    if config.onnx is None or config.pairs is None:  # checked by the config
        raise ConfigError("Give --onnx and --pairs.")
    spec = arm_spec(config.arm) if config.data is None else load_dataset(config.data).spec
    contract = adopt_policy(config.onnx, spec, load_pairs(config.pairs), config.out, tolerance=config.tolerance)
    return contract, "trained elsewhere: compared with the pairs alone, and its normalisation is its own"


def arm_spec(name: str) -> Spec:
    """What an arm observes and takes; a simulated one is started for a moment."""
    arm = make_arm(load_arm(name))
    if not isinstance(arm, Episodic):
        return arm.spec
    arm.connect()
    try:
        return arm.spec
    finally:
        arm.close()


def recorded_observations(trained: TrainedPolicy, data: Path | None, samples: int) -> list[Array]:
    """Up to `samples` observations of the policy's dataset, or else of its online phase, (T, S) each, spread over it.

    Whole episodes where the policy has a memory, else some of each. Empty where both are gone.

    Args:
        trained: The policy, which names its dataset.
        data: Another dataset to take them from; then a missing one is an error.
        samples: How many.

    Raises:
        DataError: If the dataset is damaged.
        SpecMismatch: If it holds other observations than the policy takes.
    """
    remembers = isinstance(trained.module, RecurrentPolicy)
    folder = data or trained.data
    if data is None and not (folder / "data" / "metadata.json").is_file():
        lived = _lived_through(trained)
        return _spread(lived, sum(map(len, lived)), samples, whole=remembers)
    dataset = load_dataset(folder)
    if dataset.spec.observation != trained.spec.observation:
        found = trained.spec.differences(dataset.spec, "the policy", str(folder))
        what = "\n  - ".join(found) or "the bounds of an observation differ"
        raise SpecMismatch(f"{folder} does not hold the policy's observations:\n  - {what}\nGive another --data.")
    episodes = (episode.observations for episode in dataset)
    return _spread(episodes, dataset.total_steps, samples, whole=remembers)


def _spread(episodes: Iterable[Array], total: int, samples: int, *, whole: bool) -> list[Array]:
    """At most `samples` of about `total` observations: of each episode some, or some whole episodes."""
    share = max(1, total // samples)
    chosen = itertools.islice(episodes, 0, None, share) if whole else (each[::share] for each in episodes)
    kept: list[Array] = []
    for each in chosen:
        if samples < 1:
            break
        kept.append(each[:samples].astype(np.float32))
        samples -= len(kept[-1])
    return kept


def _lived_through(trained: TrainedPolicy) -> list[Array]:
    """Observations of the run's own online phase, episode by episode; empty where it had none."""
    folder = trained.run / "transitions"
    if not folder.is_dir():
        return []
    log = ReplayLog(folder, trained.spec)
    rows = log.read()
    log.close()
    if not len(rows):
        return []
    ended = (rows["terminated"] | rows["truncated"])[:-1] > 0
    elsewhere = (rows["obs"][1:] != rows["next_obs"][:-1]).any(1)  # another actor's, or one that was killed
    return np.split(rows["obs"], np.flatnonzero(ended | elsewhere) + 1)


def _facts(contract: Contract) -> dict[str, object]:
    return {
        "algorithm": contract.algorithm,
        "weight_version": contract.weight_version,
        "run": contract.run,
        "stats_digest": contract.stats_digest,
        "chunk": contract.chunk,
        "state_dim": contract.state_dim,
        "parity": asdict(contract.parity),
    }


def _rows(contract: Contract, out: Path) -> dict[str, str]:
    spec, parity = contract.spec, contract.parity
    planned = f"; a chunk of {contract.chunk} for one observation" if contract.chunk > 1 else ""
    rate = f"{spec.rate_hz:g} Hz, {spec.control}" if spec.rate_hz else "no rate stated: cannot be served"
    rows = {
        "policy": f"{contract.algorithm}, {contract.weight_version:,} updates, run {contract.run}",
        "observation": f"{spec.obs_dim} numbers: {', '.join(e.name for e in spec.observation)}",
        "action": f"{spec.action_dim} numbers: {', '.join(e.name for e in spec.action)}{planned}",
        "control": rate,
        "parity": f"at most {parity.max_abs:.2e} (tolerance {parity.tolerance:g}) on "
        f"{parity.samples_recorded} recorded and {parity.samples_random} random observations",
        "extremes": f"at most {parity.max_abs_extreme:.2e} on {parity.samples_extreme} far-out observations",
        "size": f"{(out / MODEL_FILE).stat().st_size / 1024:.0f} KiB",
    }
    if contract.state_dim:
        rows["memory"] = (
            f"{contract.state_dim} numbers; over {parity.sequences} sequences at most {parity.max_abs_memory:.2e} "
            f"apart (tolerance {parity.tolerance_memory:g})"
        )
    return rows
