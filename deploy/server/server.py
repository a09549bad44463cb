"""Observation in, action out, for controllers in other processes or languages.

One thread and one ROUTER socket. Requests that wait when it looks are answered together: nobody is made to
wait for company. What is malformed, too large, of another version, too late or no longer allowed is counted,
logged and answered with an error, never with an action.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import ExitStack
from typing import cast

import msgspec
import zmq

from deploy.bundle.policy import Policy
from deploy.network.access import Gate
from deploy.network.address import checked_address
from deploy.network.complaints import Complaints
from deploy.network.keys import Keys
from deploy.server.desk import Desk
from robot_rl.errors import ConfigError

POLL_MS = 100
WAITING = 64  # requests of one client that may queue up before it has to wait
AT_ONCE = 64
READ_BYTES = (
    2**20
)  # above a request's limit, so that what is too large is counted; beyond it ZeroMQ cuts the sender off
ENVELOPE_FRAMES, ENVELOPE_BYTES = 3, 512  # what REQ, DEALER or a proxy put before the content

_log = logging.getLogger(__name__)


class PolicyServer:
    """Serves one policy.

    Args:
        policy: What acts.
        address: tcp://HOST:PORT; port * for any free one. Beyond loopback keys are needed.
        keys: This server's key and the clients that it talks to; None on loopback.
        at_once: Most observations in one call of the policy.

    Raises:
        BundleError: If the policy takes fewer observations at once, or remembers its episode.
        ConfigError: If the address or the keys are wrong, the address is not loopback and there are no keys, or it
            is taken.
    """

    def __init__(self, policy: Policy, address: str, *, keys: Keys | None = None, at_once: int = AT_ONCE) -> None:
        if at_once < 1:
            raise ConfigError(f"--batch is {at_once}; at least one observation goes into a call of the policy.")
        address = checked_address(address, keyed=keys is not None)
        self.desk = Desk(policy, at_once)
        self.answered: Counter[str] = Counter()  # "action", "contract", or what was wrong
        self._at_once = at_once
        self._complaints = Complaints(self.answered, _log)
        self._encode = msgspec.msgpack.Encoder().encode
        with ExitStack() as undo:
            self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(self._context.destroy, 0)
            self._socket = self._context.socket(zmq.ROUTER)
            self._socket.linger = 0
            self._socket.maxmsgsize = max(READ_BYTES, 2 * self.desk.limit_bytes)
            self._socket.rcvhwm = self._socket.sndhwm = WAITING
            self._socket.handshake_ivl = 5000
            self._gate = Gate(self._socket, keys)
            try:
                self._socket.bind(address)
            except zmq.ZMQError as error:
                raise ConfigError(f"Cannot listen at {address}: {error}. Choose another address.") from error
            self.address = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
            undo.pop_all()

    def run(self, stop: threading.Event) -> None:
        """Answer until `stop` is set."""
        poller = zmq.Poller()
        for source in (self._socket, *self._gate.sockets):
            poller.register(source, zmq.POLLIN)
        while not stop.is_set():
            ready = dict(poller.poll(POLL_MS))
            for turned_away in self._gate.look(ready):
                self._complaints.add("unauthenticated", turned_away)
            if self._socket in ready:
                self._serve()

    def close(self) -> None:
        """Free the port; a second call changes nothing."""
        if not self._context.closed:
            self._gate.close()
            self._context.destroy(0)

    def _serve(self) -> None:
        waiting = self._receive()
        answers = self.desk.answers([content for _, content in waiting])
        for (envelope, _), answer in zip(waiting, answers, strict=True):
            if answer.code:
                self._complaints.add(answer.code, answer.error)
            else:
                self.answered["action" if answer.action else "contract"] += 1
            self._socket.send_multipart([*envelope, self._encode(answer)])  # a ROUTER drops what cannot be sent

    def _receive(self) -> list[tuple[list[bytes], bytes]]:
        """Envelopes and contents of what waits."""
        waiting: list[tuple[list[bytes], bytes]] = []
        while len(waiting) < self._at_once and cast("int", self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            parts = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            envelope = [part.bytes for part in parts[:-1]]
            if len(envelope) > ENVELOPE_FRAMES or sum(map(len, envelope)) > ENVELOPE_BYTES:
                self._complaints.add("bad", f"{len(parts)} frames; a request is one, after an empty one")
            elif not self._gate.admits(parts[-1]):
                answer = self.desk.revoked()
                self._complaints.add(answer.code, answer.error)
                self._socket.send_multipart([*envelope, self._encode(answer)])
            else:
                waiting.append((envelope, parts[-1].bytes))
        return waiting
