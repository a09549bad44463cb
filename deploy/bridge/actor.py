"""The robot's end of the bridge. No torch; safe to call from a control tick."""

from __future__ import annotations

import math
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from deploy.bridge.loader import PolicyLoader
from deploy.bridge.messages import MAX_NAME, EpisodeEnd, Intervention
from deploy.bridge.peers import ALIVE_S
from deploy.bridge.sender import Sender
from deploy.bridge.spool import SpoolOptions, open_spools
from deploy.bundle.policy import Policy, RememberingPolicy
from deploy.network.address import checked_address
from deploy.network.keys import Keys
from robot_rl.data.durable import FolderLock
from robot_rl.data.transition import Success
from robot_rl.errors import BridgeError, ConfigError
from robot_rl.spec import Array, Spec

_FACTS = struct.Struct("<fI4?b3x")  # reward, policy_version, terminated, truncated, starts, intervention, success
_FLOAT32 = np.dtype("<f4")


class ActorLink:
    """Delivers every transition to the learner exactly once; brings weights and commands back.

    Each control tick: act; `publish`; `take_policy`; hold while `hold` says why.

    Args:
        address: The learner's, "tcp://HOST:PORT".
        spool_dir: Folder for transitions that the learner has not stored yet; kept over restarts.
        spec: Of the robot and task; a learner of another spec refuses in words.
        policy: What the actor acts with at the start; None where it has nothing yet.
        max_policy_age_s: `hold` speaks up when the policy was last known to be the newest longer ago, s.
        keys: Needed beyond loopback.
        name: For people.
        options: Durability and limits of the spool.
        heartbeat_s: Between heartbeats, s.

    Raises:
        BridgeError: If the spool cannot be written.
        ConfigError: If address, name or keys are wrong, or the address is not loopback and there are no keys.
        DataError: If another process uses the spool.
        SpecMismatch: If the spool holds transitions of another spec.
    """

    def __init__(
        self,
        address: str,
        spool_dir: Path,
        spec: Spec,
        *,
        policy: Policy | None = None,
        max_policy_age_s: float = math.inf,
        keys: Keys | None = None,
        name: str = "actor",
        options: SpoolOptions | None = None,
        heartbeat_s: float = 0.2,
    ) -> None:
        address = checked_address(address, keyed=keys is not None)
        if not (1 <= len(name) <= MAX_NAME and name.isprintable()):
            raise ConfigError(
                f"An actor's name is {name!r}, {len(name)} characters; it must be 1 to {MAX_NAME} that can be shown."
            )
        self.spec = spec
        self.policy_version = policy.contract.weight_version if policy else 0
        self._policy = policy
        self._max_age_s = max_policy_age_s
        with ExitStack() as undo:
            self._lock = FolderLock(Path(spool_dir), "Spool")
            undo.callback(self._lock.release)
            spools = open_spools(Path(spool_dir), spec, options or SpoolOptions())
            for spool in spools:
                undo.callback(spool.close)
            self._loader = PolicyLoader(spec)
            undo.callback(self._loader.close)
            self._sender = Sender(
                address, name, spec, spools=spools, keys=keys, loader=self._loader, heartbeat_s=heartbeat_s
            )
            undo.pop_all()
        self._spool = spools[-1]
        self.session = self._spool.session
        self._started = time.monotonic()
        self._obs_dim, self._row_bytes = spec.obs_dim, self._spool.dtype.itemsize
        self._episode, self._length, self._return, self._intervening = 0, 0, 0.0, False
        self._last_row = bytes(self._row_bytes)
        self._closed = False

    def publish(
        self,
        obs: Array,
        action: Array,
        reward: float,
        next_obs: Array,
        *,
        terminated: bool = False,
        truncated: bool = False,
        intervention: bool = False,
        success: Success = Success.UNKNOWN,
    ) -> int:
        """Take one transition: on disk when this returns, with the learner soon after.

        Args:
            obs: Raw observation, (S,).
            action: As executed, (A,).
            reward: Of this step.
            next_obs: Raw observation after it, (S,).
            terminated: The task ended: nothing follows.
            truncated: The episode was cut, by a time limit or a stop.
            intervention: A person commanded this step.
            success: Of the episode, as known at this step.

        Returns:
            Its sequence in this session.

        Raises:
            BridgeError: If it could not be stored (spool full, disk full), or is of another shape; the arm must
                stop safely.
        """
        facts = _FACTS.pack(
            reward, self.policy_version, terminated, truncated, self._length == 0, intervention, success
        )
        try:
            row = b"".join((obs, action, next_obs, facts))  # pyright: ignore[reportArgumentType] - arrays are buffers
        except TypeError:  # an array with gaps is no buffer
            row = b""
        if (
            len(row) != self._row_bytes
            or not obs.dtype is action.dtype is next_obs.dtype is _FLOAT32
            or not len(obs) == len(next_obs) == self._obs_dim
        ):
            row = self._converted(obs, action, next_obs) + facts
        sequence = self._spool.append(row)
        self._last_row = row
        self._length += 1
        self._return += float(reward)
        if bool(intervention) is not self._intervening:
            self._intervening = bool(intervention)
            news = Intervention(session=self.session, sequence=sequence, active=self._intervening)
            self._sender.news.append(news)
        if terminated or truncated:
            self._end_episode(sequence, success)
        return sequence

    def _converted(self, obs: Array, action: Array, next_obs: Array) -> bytes:
        """What `publish` copies, from arrays of another type or with gaps."""
        found = obs.shape, action.shape, next_obs.shape
        wanted = (self._obs_dim,), (self.spec.action_dim,), (self._obs_dim,)
        if found != wanted:
            raise BridgeError(f"A transition of observation, action, next observation {found}; the spec has {wanted}.")
        return b"".join(np.ascontiguousarray(a, _FLOAT32).tobytes() for a in (obs, action, next_obs))

    def _end_episode(self, sequence: int, success: Success) -> None:
        end = EpisodeEnd(
            session=self.session,
            sequence=sequence + 1,
            episode=self._episode,
            length=self._length,
            total_reward=self._return,
            success=int(success),
        )
        self._sender.news.append(end)
        self._episode, self._length, self._return = self._episode + 1, 0, 0.0

    def rehearse(self) -> None:
        """What a tick does with the policy and `publish` touches, without effect.

        Called while a control loop waits for its next deadline, it leaves both in the caches; the tick then pays about
        half as much.
        """
        if self._policy is not None:
            self._policy.warm_up()
        row = self._last_row
        facts = _FACTS.pack(0.0, self.policy_version, False, False, False, False, Success.UNKNOWN)
        self._spool.rehearse(b"".join((row[: -_FACTS.size], facts)))

    def take_policy(self) -> Policy | None:
        """The newest policy, once, verified and warmed up; None where nothing newer came.

        From now on transitions carry its version. The one it replaces must not be used any more; what that one
        remembers of the running episode goes over to the newer one.
        """
        policy = self._loader.take(self._policy)
        if policy is not None:
            if isinstance(policy, RememberingPolicy):
                policy.take_over(self._policy)
            self._policy = policy
            self.policy_version = policy.contract.weight_version
        return policy

    @property
    def policy_age_s(self) -> float:
        """Seconds since the policy in use was last known to be the learner's newest; since the start before that.

        It grows while the learner is silent, and while a newer version could not be loaded.
        """
        heard = self._sender.heard
        if heard.newest_version <= self.policy_version:
            self._started = max(self._started, heard.newest_at)
        return time.monotonic() - self._started

    @property
    def learner_alive(self) -> bool:
        """Whether the learner was heard within the last 2 s."""
        return time.monotonic() - self._sender.heard.at < ALIVE_S

    @property
    def paused(self) -> bool:
        """Whether the learner asked to pause."""
        return self._sender.heard.command == "pause"

    @property
    def stopped(self) -> bool:
        """Whether the learner asked to stop: the actor should end."""
        return self._sender.heard.command == "stop"

    @property
    def refusal(self) -> str:
        """Why the learner refuses this actor; empty while it does not."""
        return self._sender.heard.refusal

    @property
    def hold(self) -> str:
        """Why the arm must hold now, in words; empty while it may move."""
        heard, age = self._sender.heard, self.policy_age_s
        reason = ""
        if heard.refusal:
            reason = f"refused: {heard.refusal}"
        elif heard.command != "run":
            reason = f"{heard.command}: {heard.reason}" if heard.reason else heard.command
        elif age > self._max_age_s:
            why = self._loader.trouble or ("" if self.learner_alive else "the learner is silent")
            reason = f"the policy is {age:.1f} s old, at most {self._max_age_s:g} s are allowed. {why}".rstrip()
        acting = self._sender.acting
        acting.policy_version, acting.policy_age_s, acting.hold = self.policy_version, age, reason
        return reason

    @property
    def backlog(self) -> int:
        """Transitions that the learner has not stored yet."""
        return self._sender.backlog

    @property
    def taken(self) -> int:
        """Transitions of this session so far; the next one's sequence."""
        return self._spool.taken

    @property
    def latency_us(self) -> int:
        """Last measured round trip to the learner, us."""
        return self._sender.heard.latency_us

    @property
    def counters(self) -> dict[str, int]:
        """Counts of what went over the wire and what was wrong with it."""
        return {**self._sender.heard.counters, "rejected_weights": self._loader.rejected}

    def drain(self, timeout_s: float) -> bool:
        """Wait until the learner has stored everything; False if it has not after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.backlog:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """End the link; what the learner has not stored stays in the spool. The second call does nothing."""
        if not self._closed:
            self._closed = True
            self._sender.close()
            self._loader.close()
            self._lock.release()
