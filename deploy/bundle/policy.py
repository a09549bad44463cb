"""Running a bundle: ONNX Runtime with one thread and buffers bound once.

No torch and no `onnx` here; this is what the robot's computer installs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort

from deploy.bundle.contract import (
    CERTIFICATE_FILE,
    INPUT_NAME,
    METADATA_KEY,
    MODEL_FILE,
    NOISE_NAME,
    OUTPUT_NAME,
    Contract,
)
from robot_rl.errors import BundleError
from robot_rl.spec import Array


class _Bound:
    """Buffers for a number of observations, bound to the session once."""

    def __init__(self, session: Any, contract: Contract, rows: int, *, explores: bool) -> None:
        self.obs = np.zeros((rows, contract.spec.obs_dim), np.float32)
        self.action = np.zeros((rows, *output_shape(contract)), np.float32)
        self.noise = np.zeros((rows, contract.spec.action_dim), np.float32)
        self.binding = session.io_binding()
        bound = [
            (self.binding.bind_input, INPUT_NAME, self.obs),
            (self.binding.bind_output, OUTPUT_NAME, self.action),
        ]
        if explores:
            bound.append((self.binding.bind_input, NOISE_NAME, self.noise))
        for bind, name, buffer in bound:
            bind(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)


class Policy:
    """A loaded policy that acts on one observation at a time, or on several at once.

    Args:
        session: ONNX Runtime session whose sizes are those of `contract.spec`.
        contract: What the policy promises.
    """

    def __init__(self, session: Any, contract: Contract) -> None:
        self.contract = contract
        self._session = session
        self.explores = len(session.get_inputs()) > 1
        self._one = _Bound(session, contract, 1, explores=self.explores)
        self._several = {1: self._one}
        self._binding = self._one.binding
        self._obs_row, self._noise_row, self._action_row = self._one.obs[0], self._one.noise[0], self._one.action[0]
        self._plan_rows = self._action_row.reshape(-1, contract.spec.action_dim)
        self._first_row = self._plan_rows[0]

    @staticmethod
    def load(path: Path) -> Policy:
        """Open a bundle and verify what it promises.

        Args:
            path: Folder made by `robot-rl export`, or the `policy.onnx` inside it.

        Raises:
            BundleError: If a file is missing, altered or foreign, or the graph's sizes are not the spec's.
        """
        folder = path.parent if path.name == MODEL_FILE else path
        model, certificate = _read(folder)
        contract = _verified(folder, model, certificate)
        policy = Policy.from_bytes(model, str(folder / MODEL_FILE))
        if policy.contract != contract:
            raise BundleError(f"{folder}: {CERTIFICATE_FILE} and the metadata of {MODEL_FILE} disagree. Export again.")
        return policy

    @staticmethod
    def from_bytes(model: bytes, where: str) -> Policy:
        """A policy from the bytes of `policy.onnx`, whose SHA-256 the caller has checked.

        Args:
            model: ONNX file with the contract in its metadata.
            where: Where it came from, for messages.

        Raises:
            BundleError: If it is no such file, or the graph's sizes are not the spec's.
        """
        try:
            session = ort.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BundleError(f"{where}: ONNX Runtime refuses it ({error}). Export again.") from error
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise BundleError(f"{where} carries no contract (metadata '{METADATA_KEY}'). Use `robot-rl export`.")
        contract = Contract.from_json(text, where)
        _require_sizes(session, contract, where)
        return Policy(session, contract)

    def act(self, obs: Array) -> Array:
        """Executable action for a raw observation, without allocating.

        Args:
            obs: Raw observation, (S,), in the spec's units.

        Returns:
            Action, (A,). The same buffer each time: the next call overwrites it. A NaN in `obs` may be
            swallowed by the network; the safety supervisor looks at the observation itself.

        Raises:
            BundleError: If the policy plans several actions at once: use `plan`.
        """
        if len(self._plan_rows) > 1:
            raise BundleError(
                f"policy '{self.contract.run}' plans {self.contract.chunk} actions for one observation. Serve it by "
                f"`robot-rl serve BUNDLE --arm NAME`, which plays them."
            )
        self.plan(obs)
        return self._first_row

    def plan(self, obs: Array) -> Array:
        """The next actions, (H, A), as `act`; one row where the policy returns single actions."""
        self._obs_row[:] = obs
        self._session.run_with_iobinding(self._binding)
        return self._plan_rows

    def act_many(self, obs: Array) -> Array:
        """Executable actions for several raw observations, by one call of ONNX Runtime.

        Args:
            obs: Raw observations, (N, S). Each N gets buffers of its own, which are kept.

        Returns:
            Actions, (N, A), or (N, H, A) where it plans. The same buffer for each N: the next call with it overwrites
            them. For N = 1 they are those of `act`; else they may differ from it by rounding, within what the parity
            certificate says.

        Raises:
            BundleError: If the graph was made for one observation at a time.
        """
        bound = self._several.get(len(obs))
        if bound is None:
            bound = self._several[len(obs)] = self._bind(len(obs))
        bound.obs[:] = obs
        self._session.run_with_iobinding(bound.binding)
        return bound.action

    def explore(self, obs: Array, noise: Array) -> Array:
        """The action with exploration, as `act` but with the draw given.

        Args:
            obs: Raw observation, (S,).
            noise: Standard normal numbers, (A,).

        Raises:
            BundleError: If the policy was exported without its exploration (`explores`).
        """
        if not self.explores:
            raise BundleError(f"policy '{self.contract.run}' was exported without exploration; it can only be served.")
        self._noise_row[:] = noise
        self.act(obs)
        self._noise_row[:] = 0.0
        return self._action_row

    def warm_up(self) -> None:
        """Run on the last observation: the weights are in the processor's caches then."""
        self._session.run_with_iobinding(self._binding)

    def _bind(self, rows: int) -> _Bound:
        takes = self._session.get_inputs()[0].shape[0]
        if isinstance(takes, int):  # a name where the graph takes any number
            raise BundleError(
                f"policy '{self.contract.run}' takes {takes} observation at a time, not {rows}: its graph was not made "
                f"by `robot-rl export`. Export it, or answer one by one (--batch 1)."
            )
        return _Bound(self._session, self.contract, rows, explores=self.explores)


def output_shape(contract: Contract) -> tuple[int, ...]:
    """Of the graph's output for one observation: (A,), or (H, A) for a policy that plans."""
    size = contract.spec.action_dim
    return (size,) if contract.chunk == 1 else (contract.chunk, size)


def session_options() -> Any:
    """One thread, in order: at this size a second thread costs more than it brings."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors: the rest would be printed into the operator's table
    return options


def _read(folder: Path) -> tuple[bytes, dict[str, Any]]:
    for name in (MODEL_FILE, CERTIFICATE_FILE):
        if not (folder / name).is_file():
            raise BundleError(
                f"{folder} is not a policy bundle: {name} is missing. Give the folder that was --out of "
                f"`robot-rl export`; an ONNX file made by something else carries no contract and "
                f"is not served."
            )
    file = folder / CERTIFICATE_FILE
    try:
        raw = json.loads(file.read_text())
        model = (folder / MODEL_FILE).read_bytes()
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read ({error}). Export again.") from error
    if not isinstance(raw, dict) or not {"sha256", "contract"} <= cast("dict[str, Any]", raw).keys():
        raise BundleError(f"{file} holds no 'sha256' and 'contract'. Export again.")
    return model, cast("dict[str, Any]", raw)


def _verified(folder: Path, model: bytes, certificate: dict[str, Any]) -> Contract:
    digest = hashlib.sha256(model).hexdigest()
    if digest != certificate["sha256"]:
        raise BundleError(
            f"{folder / MODEL_FILE} is not the file that was exported: its SHA-256 is {digest[:16]}…, the "
            f"certificate says {str(certificate['sha256'])[:16]}…. Copy the bundle again or export again."
        )
    return Contract.from_json(json.dumps(certificate["contract"]), str(folder / CERTIFICATE_FILE))


def _require_sizes(session: Any, contract: Contract, where: str) -> None:
    spec, out = contract.spec, output_shape(contract)
    inputs = {INPUT_NAME: (spec.obs_dim,), NOISE_NAME: (spec.action_dim,)}
    for nodes, shapes in ((session.get_inputs(), inputs), (session.get_outputs(), {OUTPUT_NAME: out})):
        found = [(n.name, n.type, tuple(n.shape[1:])) for n in nodes]
        expected = [(name, "tensor(float)", shape) for name, shape in shapes.items()]
        if found not in (expected, expected[:1]):
            each = " x ".join(map(str, expected[0][2]))
            planned = f" (a chunk of {contract.chunk} actions)" if len(expected[0][2]) > 1 else ""
            raise BundleError(
                f"{where}: the graph has {found}, the contract says '{expected[0][0]}', float32, {each} "
                f"numbers{planned}. Export again."
            )
