"""What an exported policy promises, carried inside its ONNX file.

A bundle is a folder of two files:

    DIR/policy.onnx       the graph, weights inside, with the contract in its metadata
    DIR/certificate.json  the same contract, and the SHA-256 of policy.onnx

The ONNX file alone tells everything; the certificate lets the robot notice a file that was altered or
cut short without needing the `onnx` package. Needs numpy alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from robot_rl.errors import BundleError
from robot_rl.spec import Spec

FORMAT_VERSION = 1
MEMORY_FORMAT_VERSION = 2  # of contracts with a memory, which programs that know version 1 alone would not keep
METADATA_KEY = "robot_rl.contract"
MODEL_FILE = "policy.onnx"
CERTIFICATE_FILE = "certificate.json"
INPUT_NAME = "obs"  # (batch, S) float32, raw
STATE_NAME = "state"  # (batch, M) float32; only in policies with a memory. Zeros where an episode begins
NOISE_NAME = "noise"  # (batch, A) float32, standard normal; only in policies that also explore
OUTPUT_NAME = "action"  # (batch, A) float32, executable; (batch, H, A) where the contract says a chunk of H
NEXT_STATE_NAME = "next_state"  # (batch, M) float32, what goes in next as the state; its last A numbers are the action


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far ONNX Runtime was from PyTorch when the policy was exported.

    Of a policy with a memory the observations form sequences, along which each side kept its own memory.

    Args:
        max_abs: Largest absolute action difference on recorded and random observations, action units.
        tolerance: What `max_abs` had to stay within, action units; with a memory it includes what rounding adds up to.
        max_abs_recorded: The same on recorded observations alone.
        max_abs_random: The same on random observations alone, drawn within 3 standard deviations.
        max_abs_extreme: The same on observations 10 to 1000 standard deviations out, zeros and bounds.
        extreme_rounding: How far float32 may be off from float64 on those, whatever the order of its sums;
            `max_abs_extreme` has to stay within the tolerance plus four times this.
        samples_recorded: Recorded observations compared; 0 where the dataset was gone.
        samples_random: Random observations compared.
        samples_extreme: Extreme observations compared.
        batch_sizes: Batch sizes compared.
        sequences: Recorded and random sequences compared; 0 without a memory.
        max_abs_memory: Largest absolute difference of the memory along them.
        tolerance_memory: What that had to stay within.
    """

    max_abs: float
    tolerance: float
    max_abs_recorded: float
    max_abs_random: float
    max_abs_extreme: float
    extreme_rounding: float
    samples_recorded: int
    samples_random: int
    samples_extreme: int
    batch_sizes: tuple[int, ...]
    sequences: int = 0
    max_abs_memory: float = 0.0
    tolerance_memory: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a policy was built for.

    Args:
        spec: Names, order, units, bounds of observation and action; rate and control mode.
        weight_version: Gradient updates behind the weights.
        algorithm: Learner that made them.
        run: Name of the training run's folder.
        stats_digest: SHA-256 of the observation statistics inside the graph; empty where a graph trained
            elsewhere does not tell.
        parity: Evidence that the graph computes what the trained policy does.
        chunk: Actions planned for one observation, H; 1 for a policy that returns single actions.
        state_dim: Width M of the memory, the last executed action at its end included; 0 for a policy without one.
    """

    spec: Spec
    weight_version: int
    algorithm: str
    run: str
    stats_digest: str
    parity: Parity
    chunk: int = 1
    state_dim: int = 0

    def to_json(self) -> str:
        """The text stored in the ONNX metadata."""
        raw = {
            "format_version": MEMORY_FORMAT_VERSION if self.state_dim else FORMAT_VERSION,
            "spec": self.spec.to_dict(),
            "spec_digest": self.spec.digest,
            "weight_version": self.weight_version,
            "algorithm": self.algorithm,
            "run": self.run,
            "stats_digest": self.stats_digest,
            "chunk": self.chunk,
            "state_dim": self.state_dim,
            "parity": asdict(self.parity),
        }
        return json.dumps(raw, sort_keys=True)

    @staticmethod
    def from_json(text: str, where: str) -> Contract:
        """Inverse of `to_json`.

        Args:
            text: What the metadata holds.
            where: File name, for messages.

        Raises:
            BundleError: If it is not such a text, of another version, or its parity is outside tolerance.
        """
        try:
            raw = cast("Mapping[str, Any]", json.loads(text))
            version = raw["format_version"]
            if version not in (FORMAT_VERSION, MEMORY_FORMAT_VERSION):
                raise BundleError(
                    f"{where} has contract version {version}, this program reads {FORMAT_VERSION} and "
                    f"{MEMORY_FORMAT_VERSION}. Export again."
                )
            contract = Contract(
                spec=Spec.from_dict(raw["spec"]),
                weight_version=int(raw["weight_version"]),
                algorithm=str(raw["algorithm"]),
                run=str(raw["run"]),
                stats_digest=str(raw["stats_digest"]),
                parity=_parity(raw["parity"]),
                chunk=int(raw.get("chunk", 1)),  # older bundles know single actions alone
                state_dim=int(raw.get("state_dim", 0)),  # and no memory
            )
            promised = str(raw["spec_digest"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{where}: the contract is not readable ({error!r}). Export again.") from error
        if contract.spec.digest != promised:
            raise BundleError(f"{where}: the spec does not match its own hash; it was altered. Export again.")
        if contract.chunk < 1:
            raise BundleError(f"{where}: chunk is {contract.chunk}; it must be 1 or more. Export again.")
        _require_memory(contract, where)
        parity = contract.parity
        for what, found, allowed in (
            ("", parity.max_abs, parity.tolerance),
            (" of the memory", parity.max_abs_memory, parity.tolerance_memory),
        ):
            if not found <= allowed:
                raise BundleError(
                    f"{where}: its parity certificate says {found:.2e}{what}, above its tolerance "
                    f"{allowed:.2e}. Export again."
                )
        return contract


def _require_memory(contract: Contract, where: str) -> None:
    """The memory ends with the executed action, and whoever plans ahead has none."""
    width, actions = contract.state_dim, contract.spec.action_dim
    if width and (width < actions or contract.chunk > 1):
        raise BundleError(
            f"{where}: state_dim is {width} and chunk {contract.chunk}; a memory holds the {actions} numbers of the "
            f"executed action at least, and belongs to single actions. Export again."
        )


def require_fit(contract: Contract, arm_spec: Spec, arm_name: str) -> None:
    """Refuse an arm whose joints, order, units, bounds, rate or control mode are not the policy's.

    Args:
        contract: What the policy was built for.
        arm_spec: What the arm observes and takes.
        arm_name: For the message.

    Raises:
        SpecMismatch: Naming each difference with both values, and the remedy. A policy or an arm that
            leaves its rate or control mode open is refused as well: nobody could tell how to drive it.
    """
    policy = f"policy '{contract.run}'"
    remedy = f"Serve it on the arm it was trained for, or retrain on data recorded with '{arm_name}'."
    mine = contract.spec
    contract.spec.require_match(arm_spec, policy, f"arm '{arm_name}'", remedy)
    if not mine.rate_hz or mine.control == "unspecified":
        missing = "control rate" if not mine.rate_hz else "control mode"
        value = f"the arm has {arm_spec.rate_hz:g} Hz and '{arm_spec.control}'"
        raise BundleError(
            f"{policy} does not state its {missing}; {value}. Import the logs again with --env naming the "
            f"environment they were made in, then retrain."
        )


def _parity(raw: Mapping[str, Any]) -> Parity:
    return Parity(
        samples_recorded=int(raw["samples_recorded"]),
        samples_random=int(raw["samples_random"]),
        samples_extreme=int(raw["samples_extreme"]),
        max_abs=float(raw["max_abs"]),
        tolerance=float(raw["tolerance"]),
        max_abs_recorded=float(raw["max_abs_recorded"]),
        max_abs_random=float(raw["max_abs_random"]),
        max_abs_extreme=float(raw["max_abs_extreme"]),
        extreme_rounding=float(raw["extreme_rounding"]),
        batch_sizes=tuple(map(int, raw["batch_sizes"])),
        sequences=int(raw.get("sequences", 0)),
        max_abs_memory=float(raw.get("max_abs_memory", 0.0)),
        tolerance_memory=float(raw.get("tolerance_memory", 0.0)),
    )
