"""Observation in, action out, for controllers in other processes or languages.

One thread and one ROUTER socket: requests are answered in the order of their arrival. What is malformed,
too large, of another version or too late is answered with an error, never with an action.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import msgspec
import numpy as np
import zmq

from deploy.policy import Policy
from deploy.policy_wire import FLOAT, SPARE_BYTES, VERSION, Answer, Request, require_loopback
from robot_rl.errors import ConfigError

POLL_MS = 100
WAITING = 64  # requests of one client that may queue up before it has to wait


class PolicyServer:
    """Serves one policy.

    Args:
        policy: What acts.
        address: tcp://127.0.0.1:PORT; port 0 for any free one.

    Raises:
        ConfigError: If the address is not loopback or is taken.
    """

    def __init__(self, policy: Policy, address: str) -> None:
        require_loopback(address)
        self._policy = policy
        self._size = policy.contract.spec.obs_dim * 4
        self._decode = msgspec.msgpack.Decoder(Request).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, self._size + SPARE_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, WAITING)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"Cannot listen at {address}: {error}. Choose another port.") from error
        self.address = str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self.answered: Counter[str] = Counter()  # "action", "contract", or the code of an error

    def run(self, stop: threading.Event) -> None:
        """Answer until `stop` is set."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        while not stop.is_set():
            if poller.poll(POLL_MS):
                client, *frames = self._socket.recv_multipart()
                empty = frames[:-1]  # what a REQ socket puts between address and content
                answer = self.answer(frames[-1])
                self.answered[answer.code or ("action" if answer.action else "contract")] += 1
                self._socket.send_multipart([client, *empty, self._encode(answer)])

    def answer(self, content: bytes) -> Answer:
        """The answer to one request."""
        try:
            request = self._decode(content)
        except msgspec.MsgspecError as error:
            return Answer(VERSION, 0, error=f"not a request: {error}", code="bad")
        if request.v != VERSION:
            text = f"protocol version {request.v}, this server speaks {VERSION}"
            return Answer(VERSION, request.id, error=text, code="version")
        if not request.obs:
            return Answer(VERSION, request.id, contract=self._policy.contract.to_json())
        if len(request.obs) != self._size:
            text = f"{len(request.obs)} bytes of observation, the policy takes {self._size}"
            return Answer(VERSION, request.id, error=text, code="size")
        waited_ms = (time.monotonic_ns() - request.sent_ns) / 1e6
        if request.deadline_ms and not 0 <= waited_ms <= request.deadline_ms:
            text = f"{waited_ms:.1f} ms old, its deadline was {request.deadline_ms:g} ms"
            return Answer(VERSION, request.id, error=text, code="late")
        action = self._policy.act(np.frombuffer(request.obs, FLOAT))
        return Answer(VERSION, request.id, action=action.tobytes(), weight_version=self._policy.contract.weight_version)

    def close(self) -> None:
        """Free the port; a second call changes nothing."""
        self._socket.close()
        self._context.term()
