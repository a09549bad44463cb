"""The learner's decisions, without sockets or threads: what to store, what to answer."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from deploy.bridge import messages as m
from deploy.bridge.peers import ALIVE_S, Peer
from robot_rl.data.replay_log import ReplayLog
from robot_rl.data.transition import rows_from_bytes
from robot_rl.errors import DataError, SpecMismatch
from robot_rl.spec import Spec

MAX_PEERS = 4096
_NOT_A_SPEC = (SpecMismatch, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
WEIGHTS_AGAIN_S = 1.0  # an actor that has not said it has the weights sent to it gets the newest then
WEIGHTS_AGAIN_MAX_S = 32.0  # and twice as much later each time, up to this: over a slow link they are on their way

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class News:
    """An episode's end or an intervention, as an actor told it.

    Args:
        actor: Its name.
        message: What it said.
    """

    actor: str
    message: m.EpisodeEnd | m.Intervention


@dataclass(frozen=True, kw_only=True)
class NewestWeights:
    """What actors should run."""

    version: int
    sha256: str
    model: bytes


class Desk:
    """State of the learner's end; for one thread at a time.

    Args:
        log: Where transitions go.
    """

    def __init__(self, log: ReplayLog) -> None:
        self.log = log
        self.session = os.urandom(16)
        self.peers: dict[bytes, Peer] = {}
        self.counters: Counter[str] = Counter()
        self.news: deque[News] = deque(maxlen=10_000)
        self.weights: NewestWeights | None = None
        self.command: m.Command = "run"
        self.reason = ""
        self.trouble = ""  # why nothing can be stored
        self.out: deque[tuple[bytes, m.Message]] = deque()  # route and message, to be sent
        self._undurable: deque[tuple[int, Peer, int]] = deque()  # size of the log, whose, sequence it reaches
        self._said = 0

    @property
    def waits_for_disk(self) -> bool:
        """Whether acknowledgements wait for a sync."""
        return bool(self._undurable)

    def take(self, route: bytes, message: m.FromActor, now: float) -> None:
        """React to a message that came in on `route` at `now`, monotonic, s."""
        if isinstance(message, m.Hello):
            self._welcome(route, message, now)
            return
        peer = self.peers.get(message.session)
        if peer is None:  # from before this learner started: our unknown session makes it say hello
            self.counters["unknown_session"] += 1
            self._answer_beat(route, 0)
            return
        peer.route, peer.heard_at = route, now
        match message:
            case m.Transitions():
                self._store(peer, message)
            case m.ActorBeat():
                peer.beat = message
                self._answer_beat(route, message.clock_us)
            case m.EpisodeEnd() | m.Intervention():
                self._note(peer, message)

    def knows(self, route: bytes) -> bool:
        """Whether an actor that was welcomed talks on `route`."""
        return any(peer.route == route for peer in self.peers.values())

    def refuse(self, route: bytes, reason: str) -> None:
        """Tell whoever is on `route` that it is not wanted."""
        legible = reason.encode(errors="replace").decode()  # what a stranger wrote may not be encodable
        self._say(route, m.Refusal(session=self.session, sequence=self._number(), reason=legible))

    def order(self, command: m.Command, reason: str) -> None:
        """Command all actors, those to come included."""
        self.command, self.reason = command, reason
        for peer in self.peers.values():
            self._say(
                peer.route, m.Control(session=self.session, sequence=self._number(), command=command, reason=reason)
            )

    def settle(self, now: float) -> None:
        """Acknowledge what has become durable, and offer weights to those who lack them."""
        durable = self.log.durable
        while self._undurable and self._undurable[0][0] <= durable:
            _, peer, reached = self._undurable.popleft()
            peer.durable = max(peer.durable, reached)
            peer.to_ack = True
        for peer in self.peers.values():
            if peer.to_ack:
                self._ack(peer)
            if self.weights is not None and now - peer.heard_at < ALIVE_S:
                self._offer(peer, self.weights, now)

    def _welcome(self, route: bytes, hello: m.Hello, now: float) -> None:
        try:
            raw = cast("dict[str, Any]", json.loads(hello.spec))
            Spec.from_dict(raw).require_match(
                self.log.spec,
                f"actor '{hello.name}'",
                "the learner",
                "Start both with the same robot and task.",
            )
        except _NOT_A_SPEC as error:
            self.counters["refused"] += 1
            self.refuse(route, str(error)[:4000])
            return
        peer = self.peers.get(hello.session)
        if peer is None:
            if len(self.peers) >= MAX_PEERS:
                self.refuse(route, f"this learner has seen {MAX_PEERS} actors; start it again")
                return
            peer = Peer(name=hello.name, session=hello.session, route=route, floor=hello.oldest, heard_at=now)
            self.peers[hello.session] = peer
            _log.info("actor '%s' joined, session %s", hello.name, hello.session.hex()[:8])
        peer.name, peer.route, peer.heard_at = hello.name, route, now
        peer.floor, peer.weights_sent = max(peer.floor, hello.oldest), -1
        stored = self.log.last_sequence(hello.session) + 1
        if 0 < stored < peer.floor:
            self.counters["gaps"] += 1
            _log.warning(
                "transitions %d to %d of actor '%s' were stored by a learner once, but are not in %s",
                stored,
                peer.floor - 1,
                peer.name,
                self.log.path,
            )
        expected = max(stored, peer.floor)
        self._undurable.append((len(self.log), peer, expected))
        self._say(
            route,
            m.Welcome(session=self.session, sequence=self._number(), actor=peer.session, expected=expected),
        )

    def _expected(self, peer: Peer) -> int:
        return max(self.log.last_sequence(peer.session) + 1, peer.floor)

    def _store(self, peer: Peer, message: m.Transitions) -> None:
        peer.to_ack = True
        if message.sequence > self._expected(peer):
            self.counters["out_of_order"] += 1
            peer.again = True
            return
        if len(message.rows) != message.count * self.log.dtype.itemsize:
            self.counters["malformed"] += 1
            self.refuse(peer.route, f"{len(message.rows)} bytes for {message.count} transitions")
            return
        rows = rows_from_bytes(message.rows, self.log.dtype, f"actor '{peer.name}'")
        try:
            new = self.log.append(peer.session, message.sequence, rows, after_gap=message.sequence <= peer.floor)
        except DataError as error:  # the disk is full: the actor keeps them and sends them again
            self.counters["not_stored"] += message.count
            self.trouble = str(error)
            peer.to_ack = False
            return
        self.trouble = ""
        self.counters["replayed"] += message.count - new
        self.counters["stored"] += new
        if new:
            bad = sum(int((~np.isfinite(rows[name])).any(axis=-1).sum()) for name in ("obs", "action", "next_obs"))
            if bad:  # stored all the same: the trainer decides, and exactly once stays exactly once
                self.counters["not_finite"] += bad
                _log.warning("actor '%s' sent %d arrays with NaN or infinity", peer.name, bad)
            peer.received += new
            self._undurable.append((len(self.log), peer, message.sequence + message.count))

    def _note(self, peer: Peer, message: m.EpisodeEnd | m.Intervention) -> None:
        end, taken_over = peer.news_at
        last = end if isinstance(message, m.EpisodeEnd) else taken_over
        if message.sequence <= last:
            self.counters["replayed_news"] += 1
            return
        if isinstance(message, m.EpisodeEnd):
            peer.news_at = message.sequence, taken_over
        else:
            peer.news_at = end, message.sequence
        self.news.append(News(actor=peer.name, message=message))

    def _ack(self, peer: Peer) -> None:
        self._say(
            peer.route,
            m.Ack(
                session=self.session,
                sequence=self._number(),
                actor=peer.session,
                durable=peer.durable,
                expected=self._expected(peer),
                again=peer.again,
            ),
        )
        peer.to_ack = peer.again = False

    def _offer(self, peer: Peer, weights: NewestWeights, now: float) -> None:
        has = peer.beat.weights_version if peer.beat else -1
        if has == weights.version == peer.weights_sent:
            return
        if peer.weights_sent in (-1, has):
            peer.weights_again_s = WEIGHTS_AGAIN_S
        elif now - peer.weights_sent_at < peer.weights_again_s:
            return  # one at a time: a second would only queue behind the first
        else:
            peer.weights_again_s = min(2 * peer.weights_again_s, WEIGHTS_AGAIN_MAX_S)
        peer.weights_sent, peer.weights_sent_at = weights.version, now
        self._answer_beat(peer.route, 0)  # says that they come: over a slow link nothing else does for a while
        self._say(
            peer.route,
            m.Weights(
                session=self.session,
                sequence=self._number(),
                version=weights.version,
                sha256=weights.sha256,
                spec_digest=self.log.spec.digest,
                model=weights.model,
            ),
        )

    def _answer_beat(self, route: bytes, clock_us: int) -> None:
        beat = m.LearnerBeat(
            session=self.session,
            sequence=self._number(),
            command=self.command,
            reason=self.reason,
            newest_version=self.weights.version if self.weights else 0,
            clock_us=clock_us,
        )
        self._say(route, beat)

    def _say(self, route: bytes, message: m.Message) -> None:
        self.out.append((route, message))

    def _number(self) -> int:
        self._said += 1
        return self._said
