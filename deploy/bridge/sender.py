"""The actor's talking thread: streams the spool, goes back after losses, hears weights and commands."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import zmq

from deploy.bridge import messages as m
from deploy.bridge.loader import PolicyLoader
from deploy.bridge.spool import Spool
from deploy.network.keys import Keys
from robot_rl.errors import BridgeError, RobotRLError
from robot_rl.spec import Spec

LINGER_MS = 2  # fewer than a batch wait this long for company
BATCH_BYTES = 256 * 1024
WINDOW_BYTES = 16 * 2**20  # sent and not yet heard to have arrived
HELLO_S = 0.5
RESEND_S = 1.0
AGAIN_S = 0.2  # the shortest time between two goings-back to the same place
SILENCE_S = 3.0  # then the connection is made anew
SILENCE_FOR_WEIGHTS_S = 30.0  # while weights are on their way, behind which everything else waits
TRUSTED_S = 0.5  # how long a look at the learner's key holds

_log = logging.getLogger(__name__)


@dataclass
class Heard:
    """What the learner last said, for the control tick to read. Times are monotonic, s."""

    command: m.Command = "run"
    reason: str = ""
    refusal: str = ""
    trouble: str = ""  # why there is no link
    at: float = float("-inf")  # last valid message
    newest_version: int = 0
    newest_at: float = float("-inf")  # when that was said
    latency_us: int = 0
    counters: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Acting:
    """What the control tick does, for the beats."""

    policy_version: int = 0
    policy_age_s: float = 0.0
    hold: str = ""


class Sender:
    """The thread and its protocol state. See docs/bridge_protocol.md.

    Args:
        address: Checked.
        name: For people.
        spec: Of the transitions.
        spools: Older sessions first; the last one grows.
        keys: None on loopback.
        loader: Gets weights.
        heartbeat_s: Between beats, s.
    """

    def __init__(
        self,
        address: str,
        name: str,
        spec: Spec,
        *,
        spools: list[Spool],
        keys: Keys | None,
        loader: PolicyLoader,
        heartbeat_s: float,
    ) -> None:
        self.heard = Heard()
        self.acting = Acting()
        self.news: deque[m.EpisodeEnd | m.Intervention] = deque(maxlen=10_000)
        self._address, self._name, self._keys, self._heartbeat_s = address, name, keys, heartbeat_s
        self._spec_json = json.dumps(spec.to_dict()).encode()
        self._spools = spools
        self._loader = loader
        row = spools[-1].dtype.itemsize
        self._batch, self._window = max(1, BATCH_BYTES // row), max(1, WINDOW_BYTES // row)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = self._connect()
        except BaseException:
            self._context.destroy(0)
            raise
        self._closing = threading.Event()
        self._welcomed_by = b""  # the learner's session
        self._heard_sequence = -1
        self._offered = (b"", -1)  # learner's session and version of the weights last given to the loader
        self._next = 0  # sequence to send next
        self._expected = 0  # sequence that the learner wants next
        self._progress_at = self._hello_at = self._beat_at = self._sent_at = self._again_at = self._welcomed_at = 0.0
        self._connected_at = self._trusted_at = time.monotonic()
        self._distrusts = False
        self._thread = threading.Thread(target=self._run, name="bridge-sender", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Transitions not yet stored by the learner, over all sessions."""
        return sum(spool.backlog for spool in self._spools)

    def close(self) -> None:
        """End the thread and the connection."""
        self._closing.set()
        self._thread.join()
        self._socket.close(0)
        self._context.term()
        for spool in self._spools:
            spool.close()

    # The thread

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._step(time.monotonic())
        except Exception as error:
            self.heard.refusal = f"the bridge's thread failed: {error!r}"  # the arm holds
            _log.exception("the bridge's thread failed")

    def _step(self, now: float) -> None:
        if self._keys is not None and now - self._trusted_at > TRUSTED_S:
            self._trusted_at = now
            self._look_at_key(self._keys, now)
        if self._distrusts:
            self._closing.wait(HELLO_S)
            return
        busy = bool(self._welcomed_by) and self._send_rows(now)
        if self._socket.poll(0 if busy else LINGER_MS, zmq.POLLIN):
            self._receive()
        if self._welcomed_by:
            self._send_news()
        elif now - self._hello_at >= HELLO_S:
            self._hello_at = now
            spool = self._spools[0]
            self._send(
                m.Hello(
                    session=spool.session,
                    sequence=spool.taken,
                    name=self._name,
                    spec=self._spec_json,
                    oldest=spool.oldest,
                )
            )
        if now - self._beat_at >= self._heartbeat_s:
            self._beat_at = now
            self._send_beat(now)
        patience = SILENCE_FOR_WEIGHTS_S if self._weights_come else SILENCE_S
        if now - max(self.heard.at, self._connected_at) > patience:
            self._reconnect(now)
        if len(self._spools) > 1 and not self._spools[0].backlog:
            done, *self._spools = self._spools
            done.remove()
            self._welcomed_by = b""
            self._hello_at = 0.0

    @property
    def _weights_come(self) -> bool:
        """Whether the learner has newer weights than have arrived, or has not said yet whether it has."""
        if not self._welcomed_by:
            return False
        newest = self.heard.newest_version
        return self.heard.newest_at < self._welcomed_at or (newest > 0 and newest != self._loader.loaded_version)

    def _look_at_key(self, keys: Keys, now: float) -> None:
        """Hear a learner no more whose key was revoked on this machine; connect anew once it is allowed again."""
        before, self._distrusts = self._distrusts, not keys.trusts_peer()
        if self._distrusts:
            self.heard.refusal = f"the key of '{keys.peer}' was revoked on this machine"
        elif before:
            self._reconnect(now)

    def _send_rows(self, now: float) -> bool:
        """Send a batch if there is a full one, or one that has waited long enough; True if it went out."""
        spool = self._spools[0]
        if self._next > self._expected and now - self._progress_at > RESEND_S:
            self._go_back(now)
        waiting = spool.taken - self._next
        room = self._expected + self._window - self._next
        if waiting <= 0 or room <= 0 or (waiting < self._batch and now - self._sent_at < LINGER_MS / 1000):
            return False
        block, count = spool.read(self._next, min(self._batch, room))
        if not self._send(m.Transitions(session=spool.session, sequence=self._next, count=count, rows=block)):
            return False
        if self._next == self._expected:
            self._progress_at = now  # the wait for an answer begins
        self._next += count
        self._sent_at = now
        self.heard.counters["sent"] += count
        return True

    def _go_back(self, now: float) -> None:
        self.heard.counters["resent"] += self._next - self._expected
        self._next = self._expected
        self._progress_at = now

    def _send_news(self) -> None:
        spool = self._spools[0]
        while self.news and self.news[0].session == spool.session and self.news[0].sequence <= self._next:
            if not self._send(self.news[0]):
                return
            self.news.popleft()

    def _send_beat(self, now: float) -> None:
        spool, acting = self._spools[0], self.acting
        self._send(
            m.ActorBeat(
                session=spool.session,
                sequence=spool.taken,
                policy_version=acting.policy_version,
                policy_age_s=acting.policy_age_s,
                weights_version=m.NO_WEIGHTS if (loaded := self._loader.loaded_version) is None else loaded,
                backlog=self.backlog,
                latency_us=self.heard.latency_us,
                clock_us=int(now * 1e6),
                hold=acting.hold,
            )
        )

    def _send(self, message: m.Message) -> bool:
        try:
            self._socket.send(m.encode(message), zmq.DONTWAIT)
        except zmq.Again:
            return False  # no connection, or its queue is full: later
        return True

    # Hearing

    def _receive(self) -> None:
        for _ in range(100):
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                message = m.decode_from_learner(parts[-1])
            except m.BadMessage as error:
                self.heard.counters[error.kind] += 1
                if error.kind == "wrong_version" and not self._welcomed_by:  # else spoilt on the way
                    self.heard.refusal = f"the learner speaks {error}. Install the same version on both machines."
                continue
            self._take(message)

    def _take(self, message: m.FromLearner) -> None:
        now = time.monotonic()
        heard = self.heard
        if isinstance(message, m.Refusal):
            if message.reason != heard.refusal:
                _log.error("the learner refuses this actor: %s", message.reason)
            heard.at, heard.refusal = now, message.reason
            self._welcomed_by = b""
            return
        if isinstance(message, m.Welcome):
            if message.actor == self._spools[0].session:
                self._begin(message, now)
            return
        if message.session != self._welcomed_by:
            if self._welcomed_by:  # another learner, or the old one started again
                self._welcomed_by, self._hello_at = b"", 0.0
            return
        if message.sequence <= self._heard_sequence:
            heard.counters["replayed"] += 1
            return
        self._heard_sequence, heard.at = message.sequence, now
        match message:
            case m.Ack():
                self._take_ack(message, now)
            case m.Weights():
                self._take_weights(message)
            case m.Control():
                heard.command, heard.reason = message.command, message.reason
            case m.LearnerBeat():
                heard.command, heard.reason = message.command, message.reason
                heard.newest_version, heard.newest_at = message.newest_version, now
                heard.latency_us = max(0, int(now * 1e6) - message.clock_us) if message.clock_us else heard.latency_us

    def _begin(self, welcome: m.Welcome, now: float) -> None:
        spool = self._spools[0]
        if welcome.expected > spool.taken and len(self._spools) == 1:
            self.heard.refusal = (
                f"the learner already has {welcome.expected:,} transitions of this session, the spool {spool.folder} "
                f"made only {spool.taken:,}: it was restored from an old copy. Remove it to begin a new session."
            )
            return
        self.heard.refusal, self.heard.at = "", now
        self._welcomed_by, self._heard_sequence, self._welcomed_at = welcome.session, welcome.sequence, now
        # A power cut may have taken the end of an old session from us, and not from the learner.
        self._expected = self._next = min(max(welcome.expected, spool.oldest), spool.taken)
        self._progress_at = now
        self.heard.counters["welcomes"] += 1

    def _take_ack(self, ack: m.Ack, now: float) -> None:
        spool = self._spools[0]
        if ack.actor != spool.session:
            return
        spool.acknowledge(ack.durable)
        if ack.expected > self._expected:
            self._expected = min(ack.expected, spool.taken)
            self._next = max(self._next, self._expected)
            self._progress_at = now
        if ack.again and now - self._again_at > AGAIN_S:
            self._again_at = now
            self._go_back(now)

    def _take_weights(self, weights: m.Weights) -> None:
        session, version = self._offered
        if weights.session == session and weights.version <= version:
            self.heard.counters["stale_weights"] += 1
            return
        self._offered = (weights.session, weights.version)
        self.heard.counters["weights"] += 1
        self._loader.offer(weights)

    # Connection

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.immediate = True  # without a connection nothing is queued: it is in the spool
        socket.sndhwm = socket.rcvhwm = 64
        socket.maxmsgsize = m.MAX_FROM_LEARNER
        socket.reconnect_ivl, socket.reconnect_ivl_max = 50, 500
        socket.handshake_ivl = 5000
        try:
            if self._keys is not None:
                self._keys.secure_client(socket)
            socket.connect(self._address)
        except RobotRLError:
            socket.close(0)
            raise
        except zmq.ZMQError as error:
            socket.close(0)
            raise BridgeError(f"Cannot connect to {self._address}: {error}.") from error
        return socket

    def _reconnect(self, now: float) -> None:
        self._socket.close(0)
        self._socket = self._connect()
        self._connected_at, self._hello_at, self._welcomed_by = now, 0.0, b""
        self.heard.counters["reconnects"] += 1
