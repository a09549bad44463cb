"""A policy in another process: `RemotePolicy` stands where a loaded bundle could stand."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack

import msgspec
import numpy as np
import zmq

from deploy.bundle.contract import Contract
from deploy.network.address import checked_address
from deploy.network.keys import Keys
from deploy.server.wire import FLOAT, VERSION, Answer, Request
from robot_rl.errors import PolicyServerError
from robot_rl.spec import Array

CONNECT_S = 5.0


class RemotePolicy:
    """Asks a policy server for actions.

    Args:
        address: tcp://HOST:PORT. Beyond loopback keys are needed.
        deadline_s: Longest wait for an action, s. The server knows it and does not answer later.
        keys: This client's key, and the server's as it was allowed here; None on loopback.

    Raises:
        ConfigError: If the address or the keys are wrong, or it is not loopback and there are no keys.
        PolicyServerError: If nobody answers within 5 s.
    """

    def __init__(self, address: str, deadline_s: float = 0.1, *, keys: Keys | None = None) -> None:
        self._address, self._deadline_s = checked_address(address, keyed=keys is not None), deadline_s
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._count = self._session = 0
        self._ahead_ns = 0  # server's clock minus ours, at most: less what the last answer's way took
        with ExitStack() as undo:
            self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(self._context.destroy, 0)
            self._socket = self._open(keys)
            answer = self._ask(b"", CONNECT_S, 0)
            self._session = answer.session
            self.contract = Contract.from_json(answer.contract, self._address)
            undo.pop_all()

    def act(self, obs: Array) -> Array:
        """Action, (A,), for a raw observation, (S,).

        Raises:
            PolicyServerError: If the answer is an error, comes too late or from a server that was started anew.
        """
        # By the time that the answer's way took last, `due_ns` is early: what is sent before it arrives in time.
        due_ns = time.monotonic_ns() + self._ahead_ns + round(self._deadline_s * 1e9)
        return np.frombuffer(self._ask(obs.astype(FLOAT).tobytes(), self._deadline_s, due_ns).action, FLOAT)

    def warm_up(self) -> None:
        """Nothing: the server has its weights at hand."""

    def close(self) -> None:
        """End the connection; a second call changes nothing."""
        self._context.destroy(0)

    def _open(self, keys: Keys | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.immediate = True  # without a connection nothing is queued: it would arrive too late
        socket.handshake_ivl = 5000
        if keys is not None:
            keys.secure_client(socket)
        socket.connect(self._address)
        return socket

    def _ask(self, obs: bytes, patience_s: float, due_ns: int) -> Answer:
        self._count += 1
        end_s = time.monotonic() + patience_s
        self._send(self._encode(Request(VERSION, self._count, obs, due_ns)), end_s, patience_s)
        answer = None
        while answer is None or answer.id not in (self._count, 0):  # others answer what was given up
            self._wait(zmq.POLLIN, end_s, patience_s)
            try:
                answer = self._decode(self._socket.recv_multipart()[-1])
            except msgspec.MsgspecError as error:
                raise PolicyServerError(f"{self._address} answered something else: {error}.") from error
        self._ahead_ns = answer.clock_ns - time.monotonic_ns()
        if time.monotonic() > end_s:  # polls are as coarse as a millisecond
            raise self._silence(patience_s)
        if answer.error:
            raise PolicyServerError(f"{self._address} refused ({answer.code}): {answer.error}.")
        if self._session not in (0, answer.session):
            raise PolicyServerError(f"{self._address} was started anew and may serve another policy. Connect again.")
        return answer

    def _send(self, content: bytes, end_s: float, patience_s: float) -> None:
        frames = [b"", content]
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            self._wait(zmq.POLLOUT, end_s, patience_s)
            self._socket.send_multipart(frames)

    def _wait(self, event: int, end_s: float, patience_s: float) -> None:
        left_ms = (end_s - time.monotonic()) * 1e3
        if left_ms <= 0 or not zmq.zmq_poll([(self._socket, event)], math.ceil(left_ms)):
            raise self._silence(patience_s)

    def _silence(self, patience_s: float) -> PolicyServerError:
        return PolicyServerError(
            f"{self._address} did not answer within {patience_s * 1e3:g} ms. Is it running, and have both ends the "
            f"other's key?"
        )
