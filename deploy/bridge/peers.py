"""What the learner knows of each actor."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.bridge.messages import ActorBeat

ALIVE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class ActorStatus:
    """One actor, as last heard.

    Args:
        name: For people.
        session: Hexadecimal.
        alive: Heard within the last 2 s.
        silent_s: Since it was last heard, s.
        policy_version: Of the policy it runs.
        policy_age_s: Since that was last known to be the newest, s.
        backlog: Transitions that it has taken and the learner not yet stored.
        latency_us: Its last round trip, us.
        received: New transitions from it since this learner started.
        hold: Why its arm holds; empty while it moves.
    """

    name: str
    session: str
    alive: bool
    silent_s: float
    policy_version: int
    policy_age_s: float
    backlog: int
    latency_us: int
    received: int
    hold: str


@dataclass(kw_only=True)
class Peer:
    """An actor that was welcomed.

    Args:
        name: For people.
        session: 16 bytes.
        route: ZeroMQ's name for its present connection.
        floor: Below this sequence the actor has nothing any more.
        heard_at: Monotonic, s.
    """

    name: str
    session: bytes
    route: bytes
    floor: int
    heard_at: float
    beat: ActorBeat | None = None
    received: int = 0
    durable: int = 0  # all below are safe from a power cut
    again: bool = False  # it skipped something: tell it to go back
    to_ack: bool = False
    weights_sent: int = -1  # version
    weights_sent_at: float = float("-inf")
    weights_again_s: float = 0.0  # when they are sent again if it does not say that it has them
    news_at: tuple[int, int] = (-1, -1)  # sequences of the last episode end and of the last intervention

    def status(self, now: float) -> ActorStatus:
        """For people and dashboards."""
        beat, silent = self.beat, now - self.heard_at
        return ActorStatus(
            name=self.name,
            session=self.session.hex(),
            alive=silent < ALIVE_S,
            silent_s=silent,
            policy_version=beat.policy_version if beat else 0,
            policy_age_s=beat.policy_age_s if beat else 0.0,
            backlog=beat.backlog if beat else 0,
            latency_us=beat.latency_us if beat else 0,
            received=self.received,
            hold=beat.hold if beat else "",
        )
