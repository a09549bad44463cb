"""Builds policies from received weights in the background, newest only."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque

import numpy as np

from deploy.bridge.messages import Weights
from deploy.bundle.policy import Policy
from robot_rl.errors import RobotRLError
from robot_rl.memory import begin_episode
from robot_rl.spec import Spec

_log = logging.getLogger(__name__)


class PolicyLoader:
    """Checks and builds; what is ready is swapped in between ticks.

    Args:
        spec: What the policies must fit.
    """

    def __init__(self, spec: Spec) -> None:
        self.loaded_version: int | None = None  # newest that was built
        self.rejected = 0
        self.trouble = ""  # why the newest was rejected
        self._spec = spec
        self._ready: deque[Policy] = deque(maxlen=1)
        self._retired: deque[Policy] = deque(maxlen=4)
        self._wanted: Weights | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="policy-loader", daemon=True)
        self._thread.start()

    def offer(self, weights: Weights) -> None:
        """Build these next; older ones that were not begun are forgotten."""
        with self._wake:
            self._wanted = weights
            self._wake.notify()

    def take(self, retired: Policy | None) -> Policy | None:
        """The newest built policy, once; None while there is none.

        Args:
            retired: The one that it replaces; freed in the background, since that takes long.
        """
        if not self._ready:
            return None
        if retired is not None:
            self._retired.append(retired)
        return self._ready.pop()

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted is not None or self._closing)
                weights, self._wanted = self._wanted, None
            self._retired.clear()
            if weights is None or self._closing:
                return
            try:
                policy = self._build(weights)
            except Exception as error:  # whatever came over the wire, this thread goes on with the next
                self.rejected += 1
                self.trouble = str(error)
                _log.warning("weights %d rejected: %s", weights.version, error)
                continue
            self.trouble = ""
            self._ready.append(policy)
            self.loaded_version = weights.version

    def _build(self, weights: Weights) -> Policy:
        where = f"weights {weights.version} from the learner"
        found = hashlib.sha256(weights.model).hexdigest()
        if found != weights.sha256:
            raise RobotRLError(f"{where}: the SHA-256 is {found[:16]}…, the learner said {weights.sha256[:16]}….")
        policy = Policy.from_bytes(weights.model, where)
        contract = policy.contract
        contract.spec.require_match(self._spec, where, "this actor", "Start both with the same robot and task.")
        if contract.weight_version != weights.version:
            raise RobotRLError(f"{where}: the contract inside says {contract.weight_version}.")
        policy.act(np.zeros(contract.spec.obs_dim, np.float32))  # the first call is slow
        begin_episode(policy)
        return policy
