"""A policy in another process: `RemotePolicy` stands where a loaded bundle could stand."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import zmq

from deploy.contract import Contract
from deploy.policy_wire import FLOAT, VERSION, Answer, Request, require_loopback
from robot_rl.errors import PolicyServerError, RobotRLError
from robot_rl.spec import Array


class RemotePolicy:
    """Asks a policy server for actions.

    Args:
        address: tcp://127.0.0.1:PORT.
        deadline_s: Longest wait for an action, s; on both ends.

    Raises:
        ConfigError: If the address is not loopback.
        PolicyServerError: If nobody answers.
    """

    def __init__(self, address: str, deadline_s: float = 0.1) -> None:
        require_loopback(address)
        self._address, self._deadline_s = address, deadline_s
        self._context = zmq.Context()
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._count = 0
        self._socket = self._open()
        try:
            self.contract = Contract.from_json(self._ask(Request(VERSION, 0), 5.0).contract, address)
        except RobotRLError:
            self.close()
            raise

    def act(self, obs: Array) -> Array:
        """Action, (A,), for a raw observation, (S,).

        Raises:
            PolicyServerError: If the answer is an error or comes too late.
        """
        self._count += 1
        content = obs.astype(FLOAT).tobytes()
        request = Request(VERSION, self._count, content, time.monotonic_ns(), self._deadline_s * 1e3)
        return np.frombuffer(self._ask(request, self._deadline_s).action, FLOAT)

    def warm_up(self) -> None:
        """Nothing: the server keeps itself warm."""

    def close(self) -> None:
        """End the connection; a second call changes nothing."""
        self._socket.close()
        self._context.term()

    def _open(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self._address)
        return socket

    def _ask(self, request: Request, patience_s: float) -> Answer:
        self._socket.send(self._encode(request))
        if not self._socket.poll(round(patience_s * 1e3)):
            self._socket.close()  # a REQ socket that waits for an answer cannot ask again
            self._socket = self._open()
            raise PolicyServerError(f"{self._address} did not answer within {patience_s * 1e3:g} ms. Is it running?")
        try:
            answer = self._decode(self._socket.recv())
        except msgspec.MsgspecError as error:
            raise PolicyServerError(f"{self._address} answered something else: {error}.") from error
        if answer.error or answer.id != request.id:
            raise PolicyServerError(f"{self._address} refused ({answer.code}): {answer.error or 'another answer'}.")
        return answer
