"""The learner's end of the bridge: stores what actors send, sends them weights and commands. No torch."""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from contextlib import ExitStack, suppress

import zmq

from deploy.bridge import messages as m
from deploy.bridge.desk import Desk, NewestWeights, News
from deploy.bridge.peers import ActorStatus
from deploy.network.access import Gate
from deploy.network.address import DEFAULT_ADDRESS, checked_address
from deploy.network.complaints import Complaints
from deploy.network.keys import Keys
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.transition import Rows
from robot_rl.errors import BridgeError

POLL_MS, POLL_FOR_DISK_MS = 100, 5
DRAINED_AT_ONCE = 64  # messages between two looks at everything else

_log = logging.getLogger(__name__)


class LearnerHub:
    """Receives from any number of actors in a background thread; every transition reaches `log` exactly once.

    Transitions are acknowledged once they are durable in `log`. Messages that are malformed, oversized, of
    another version, replayed or not authenticated are counted, logged and otherwise ignored.

    Args:
        bind: "tcp://HOST:PORT"; port * takes a free one. Beyond loopback keys are needed.
        log: Where transitions go; its spec is the one that actors must have.
        keys: This learner's key and its allow-list; None on loopback.

    Raises:
        BridgeError: If another learner has the address.
        ConfigError: If the address or the keys are wrong, or it is not loopback and there are no keys.
    """

    def __init__(self, bind: str, log: ReplayLog, *, keys: Keys | None = None) -> None:
        self.log = log
        self._desk = Desk(log)
        self._complaints = Complaints(self._desk.counters, _log)
        self._change = threading.Condition()  # guards the desk
        self._closing = False
        self.failure = ""  # why the thread ended early
        with ExitStack() as undo:
            self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(self._context.destroy, 0)
            self._router = _router(self._context)
            self._gate = Gate(self._router, keys)
            _bind(self._router, checked_address(bind, keyed=keys is not None))
            self.address = self._router.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
            undo.pop_all()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="bridge-hub", daemon=True)
        self._thread.start()

    # For the trainer

    def new_rows(self, from_index: int, limit: int | None = None) -> Rows:
        """Transitions of the log from `from_index` on, in order."""
        return self.log.read(from_index, limit)

    def wait_rows(self, count: int, timeout_s: float) -> bool:
        """Wait until the log holds `count` transitions; False if it does not after `timeout_s`."""
        with self._change:
            return self._change.wait_for(lambda: len(self.log) >= count or bool(self.failure), timeout_s) and (
                len(self.log) >= count
            )

    def publish_weights(self, model: bytes, version: int) -> None:
        """Give every actor these weights; only the newest are kept.

        Args:
            model: Bytes of a `policy.onnx` whose contract says `version` and the log's spec.
            version: Above the one before.

        Raises:
            BridgeError: If it is not above the one before, or the model is too large to send.
        """
        if len(model) > m.MAX_FROM_LEARNER - 4096:
            raise BridgeError(f"A model of {len(model):,} bytes; the bridge carries {m.MAX_FROM_LEARNER - 4096:,}.")
        digest = hashlib.sha256(model).hexdigest()
        with self._change:
            newest = self._desk.weights
            if newest is not None and version <= newest.version:
                raise BridgeError(f"Weights {version} come after {newest.version}; versions must grow.")
            self._desk.weights = NewestWeights(version=version, sha256=digest, model=model)
        self._ring()

    def pause(self, reason: str = "") -> None:
        """Make every actor hold, also those that join later, until `resume`."""
        self._order("pause", reason)

    def resume(self) -> None:
        """Let the actors go on."""
        self._order("run", "")

    def stop(self, reason: str = "") -> None:
        """Make every actor end."""
        self._order("stop", reason)

    def actors(self) -> list[ActorStatus]:
        """Every actor seen since the start, first come first."""
        now = time.monotonic()
        with self._change:
            return [peer.status(now) for peer in self._desk.peers.values()]

    def news(self) -> list[News]:
        """Episode ends and interventions since the last call."""
        with self._change:
            found = list(self._desk.news)
            self._desk.news.clear()
        return found

    @property
    def counters(self) -> dict[str, int]:
        """Counts of what was stored and of what was wrong."""
        with self._change:
            return dict(self._desk.counters)

    @property
    def trouble(self) -> str:
        """Why transitions cannot be stored now (the actors keep them); empty while they can."""
        return self.failure or self._desk.trouble

    def close(self) -> None:
        """Acknowledge what is durable, end the thread; the log stays open. The second call does nothing."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        self._thread.join()
        self._bell.close()
        self._ear.close()
        self._gate.close()
        self._context.destroy(100)

    # The thread

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._router, self._ear, *self._gate.sockets):
            poller.register(source, zmq.POLLIN)
        try:
            while not self._closing:
                ready = dict(poller.poll(POLL_FOR_DISK_MS if self._desk.waits_for_disk else POLL_MS))
                if self._ear.fileno() in ready:
                    self._ear.recv(4096)
                for turned_away in self._gate.look(ready):
                    self._complaints.add("unauthenticated", turned_away)
                with self._change:
                    before = len(self.log)
                    if self._router in ready:
                        self._receive()
                    self._desk.settle(time.monotonic())
                    if len(self.log) > before:
                        self._change.notify_all()
                self._send()
        except Exception as error:
            self.failure = f"the bridge's thread failed: {error!r}"
            _log.exception("the bridge's thread failed")

    def _receive(self) -> None:
        now = time.monotonic()
        for _ in range(DRAINED_AT_ONCE):
            try:
                parts = self._router.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            route = parts[0].bytes
            if not self._gate.admits(parts[-1]):
                self._complaints.add("unauthenticated", "a message with a revoked key")
                self._desk.refuse(route, "this actor's key was revoked")
                continue
            try:
                message = m.decode_from_actor(parts[-1].buffer)
            except m.BadMessage as error:
                self._complaints.add(error.kind, str(error))
                if error.kind == "wrong_version" and not self._desk.knows(route):  # else spoilt on the way
                    self._desk.refuse(route, f"{error}. Install the same version on both machines.")
                continue
            self._desk.take(route, message, now)

    def _send(self) -> None:
        while self._desk.out:
            with self._change:
                route, message = self._desk.out.popleft()
            try:
                self._router.send_multipart([route, m.encode(message)], zmq.DONTWAIT)
            except zmq.ZMQError:  # it is gone, or takes no more: what it lacks is sent again when it is back
                self._desk.counters["undelivered"] += 1

    def _order(self, command: m.Command, reason: str) -> None:
        with self._change:
            self._desk.order(command, reason)
        self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it is ringing already
            self._bell.send(b"!")


def _router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    router = context.socket(zmq.ROUTER)
    router.linger = 100
    router.router_mandatory = True
    router.sndhwm = router.rcvhwm = 64
    router.maxmsgsize = 2 * m.MAX_FROM_ACTOR  # above our own limit, so that slightly too large ones are counted
    router.handshake_ivl = 5000
    return router


def _bind(router: zmq.Socket[bytes], address: str) -> None:
    try:
        router.bind(address)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise BridgeError(
                f"{address} is taken: another learner, or another program, listens there. Stop it, or choose "
                f"another address, such as {DEFAULT_ADDRESS[:-1]}8."
            ) from error
        raise BridgeError(f"Cannot listen on {address}: {error}.") from error
