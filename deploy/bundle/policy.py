"""Running a bundle: ONNX Runtime with one thread and buffers bound once.

No torch and no `onnx` here; this is what the robot's computer installs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from deploy.bundle.contract import (
    CERTIFICATE_FILE,
    INPUT_NAME,
    METADATA_KEY,
    MODEL_FILE,
    NEXT_STATE_NAME,
    NOISE_NAME,
    OUTPUT_NAME,
    STATE_NAME,
    Contract,
)
from deploy.bundle.files import read_bundle
from robot_rl.errors import BundleError
from robot_rl.spec import Array


class _Bound:
    """Buffers for a number of observations, bound to the session once."""

    def __init__(self, session: Any, contract: Contract, rows: int, *, explores: bool) -> None:
        self.obs = np.zeros((rows, contract.spec.obs_dim), np.float32)
        self.action = np.zeros((rows, *output_shape(contract)), np.float32)
        self.noise = np.zeros((rows, contract.spec.action_dim), np.float32)
        self.state = np.zeros((rows, contract.state_dim), np.float32)
        self.next_state = np.zeros_like(self.state)
        self._inputs = {INPUT_NAME: self.obs}
        if contract.state_dim:
            self._inputs[STATE_NAME] = self.state
        if explores:
            self._inputs[NOISE_NAME] = self.noise
        self.binding = self.bound(session, self.action, self.next_state)

    def bound(self, session: Any, action: Array, next_state: Array) -> Any:
        """A binding of the inputs here and these outputs."""
        binding = session.io_binding()
        outputs = {OUTPUT_NAME: action, NEXT_STATE_NAME: next_state}
        if not next_state.size:
            del outputs[NEXT_STATE_NAME]
        for bind, buffers in ((binding.bind_input, self._inputs), (binding.bind_output, outputs)):
            for name, buffer in buffers.items():
                bind(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        return binding


class Policy:
    """A loaded policy that acts on one observation at a time, or on several at once.

    Args:
        session: ONNX Runtime session whose sizes are those of `contract.spec`.
        contract: What the policy promises.
    """

    def __init__(self, session: Any, contract: Contract) -> None:
        self.contract = contract
        self._session = session
        self.explores = any(node.name == NOISE_NAME for node in session.get_inputs())
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
        model, contract = read_bundle(folder)
        policy = Policy.from_bytes(model, str(folder / MODEL_FILE))
        if policy.contract != contract:
            raise BundleError(f"{folder}: {CERTIFICATE_FILE} and the metadata of {MODEL_FILE} disagree. Export again.")
        return policy

    @staticmethod
    def from_bytes(model: bytes, where: str) -> Policy:
        """A policy from the bytes of `policy.onnx`, whose SHA-256 the caller has checked; with a memory if it has one.

        Args:
            model: ONNX file with the contract in its metadata.
            where: Where it came from, for messages.

        Raises:
            BundleError: If it is no such file, or the graph's sizes are not the spec's.
        """
        try:
            session = runtime_session(model)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BundleError(f"{where}: ONNX Runtime refuses it ({error}). Export again.") from error
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise BundleError(f"{where} carries no contract (metadata '{METADATA_KEY}'). Use `robot-rl export`.")
        contract = Contract.from_json(text, where)
        _require_sizes(session, contract, where)
        return (RememberingPolicy if contract.state_dim else Policy)(session, contract)

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
            BundleError: If the graph was made for one observation at a time, or remembers.
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


class RememberingPolicy(Policy):
    """A loaded policy with a memory: `robot_rl.memory.Remembering`. It begins empty.

    What comes out not finite, as after a NaN in the observation, is not remembered: the next call goes on from before.
    """

    def __init__(self, session: Any, contract: Contract) -> None:
        super().__init__(session, contract)
        one = self._one
        self._memory, self._next_memory = one.state[0], one.next_state[0]
        self._last_action = self._memory[-contract.spec.action_dim :]
        self._finite = np.zeros(contract.state_dim, bool)
        self._rehearsed = np.zeros_like(one.action), np.zeros_like(one.next_state)
        self._rehearsal = one.bound(session, *self._rehearsed)

    def begin_episode(self) -> None:
        """Forget: the next observation is the first of an episode."""
        self._memory[:] = 0.0

    def executed(self, action: Array) -> None:
        """Not the action returned last was executed, but this one, (A,)."""
        self._last_action[:] = action

    def take_over(self, former: Policy | None) -> None:
        """Go on in the episode of `former`, if it remembers as much; else begin with an empty memory."""
        if isinstance(former, RememberingPolicy) and len(former._memory) == len(self._memory):
            self._memory[:] = former._memory
        else:
            self.begin_episode()

    def plan(self, obs: Array) -> Array:
        plan = super().plan(obs)
        if np.isfinite(self._next_memory, out=self._finite).all():
            self._memory[:] = self._next_memory
        return plan

    def act_many(self, obs: Array) -> Array:
        raise BundleError(
            f"policy '{self.contract.run}' remembers its episode: it acts for one robot, not for several clients. "
            f"Serve it on its arm by `robot-rl serve BUNDLE --arm NAME`, a process for each."
        )

    def warm_up(self) -> None:
        """As for any policy; neither the memory nor the last action changes."""
        self._session.run_with_iobinding(self._rehearsal)


def output_shape(contract: Contract) -> tuple[int, ...]:
    """Of the graph's output for one observation: (A,), or (H, A) for a policy that plans."""
    size = contract.spec.action_dim
    return (size,) if contract.chunk == 1 else (contract.chunk, size)


def runtime_session(model: bytes) -> Any:
    """ONNX Runtime on one thread, in order: at this size a second thread costs more than it brings."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors: the rest would be printed into the operator's table
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _require_sizes(session: Any, contract: Contract, where: str) -> None:
    spec, memory = contract.spec, (contract.state_dim,)
    inputs = {INPUT_NAME: (spec.obs_dim,), STATE_NAME: memory, NOISE_NAME: (spec.action_dim,)}
    outputs = {OUTPUT_NAME: output_shape(contract), NEXT_STATE_NAME: memory}
    for nodes, shapes in ((session.get_inputs(), inputs), (session.get_outputs(), outputs)):
        found = [(n.name, n.type, tuple(n.shape[1:])) for n in nodes]
        full = [(name, "tensor(float)", shape) for name, shape in shapes.items() if shape != (0,)]
        needed = [each for each in full if each[0] != NOISE_NAME]
        if found not in (full, needed):
            planned = f" (a chunk of {contract.chunk} actions)" if contract.chunk > 1 else ""
            wanted = " and ".join(f"'{name}', float32, {' x '.join(map(str, s))} numbers" for name, _, s in needed)
            raise BundleError(f"{where}: the graph has {found}, the contract says {wanted}{planned}. Export again.")
