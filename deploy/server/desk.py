"""What a policy server answers. No sockets here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from deploy.bundle.policy import Policy
from deploy.server.wire import FLOAT, SPARE_BYTES, VERSION, Answer, Header, Request
from robot_rl.spec import Array

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # all that msgspec says of strangers' bytes


class Desk:
    """Answers the requests that came together, their actions by one call of the policy.

    Args:
        policy: What acts.
        at_once: Most requests that come together.

    Raises:
        BundleError: If the policy takes fewer at once, or remembers: clients are in episodes of their own.
    """

    def __init__(self, policy: Policy, at_once: int) -> None:
        self.calls = 0  # of the policy
        self.limit_bytes = policy.contract.spec.obs_dim * 4 + SPARE_BYTES  # of a request
        self._policy = policy
        self._size = policy.contract.spec.obs_dim * 4
        self._contract = policy.contract.to_json()
        self._session = secrets.randbits(62) + 1
        self._decode = msgspec.msgpack.Decoder(Request).decode
        self._decode_header = msgspec.msgpack.Decoder(Header).decode
        for count in range(1, at_once + 1):  # the first call with each number is slow
            policy.act_many(np.zeros((count, policy.contract.spec.obs_dim), np.float32))

    def answers(self, contents: Sequence[bytes]) -> list[Answer]:
        """One answer each, in the order of the requests.

        Args:
            contents: Requests as they came, at most `at_once`.
        """
        read = [self._read(content, time.monotonic_ns()) for content in contents]
        asking = [request for request in read if isinstance(request, Request)]
        if not asking:
            return [answer for answer in read if isinstance(answer, Answer)]
        obs = np.frombuffer(b"".join([request.obs for request in asking]), FLOAT).reshape(len(asking), -1)
        actions = self._policy.act_many(obs)
        self.calls += 1
        sound = bool(np.isfinite(obs).all() and np.isfinite(actions).all())  # else some are not
        acted = iter([self._act(*each, sound=sound) for each in zip(asking, obs, actions, strict=True)])
        return [each if isinstance(each, Answer) else next(acted) for each in read]

    def _read(self, content: bytes, now_ns: int) -> Request | Answer:
        """The request, or the answer to one that needs no action."""
        if len(content) > self.limit_bytes:
            return self._error("size", f"{len(content):,} bytes, a request has at most {self.limit_bytes:,}", 0)
        try:
            request = self._decode(content)
        except UNREADABLE as error:
            return self._unreadable(content, error)
        if request.v != VERSION:
            return self._wrong_version(request.v, request.id)
        if not request.obs:
            return self._answer(request.id, contract=self._contract)
        if len(request.obs) != self._size:
            return self._error(
                "size", f"{len(request.obs)} bytes of observation, the policy takes {self._size}", request.id
            )
        return self._late(request, now_ns) or request

    def _unreadable(self, content: bytes, error: Exception) -> Answer:
        try:
            header = self._decode_header(content)
        except UNREADABLE:
            return self._error("bad", f"not a request: {error}", 0)
        if header.v != VERSION:
            return self._wrong_version(header.v, header.id)
        return self._error("bad", f"not a request: {error}", header.id)

    def _act(self, request: Request, obs: Array, action: Array, *, sound: bool) -> Answer:
        late = self._late(request, time.monotonic_ns())
        if late is not None:
            return late
        if not sound:
            for code, name, numbers in (("bad", "observation", obs), ("policy", "action", action)):
                finite = np.isfinite(numbers)
                if not finite.all():
                    first = int(finite.argmin())
                    return self._error(code, f"number {first} of the {name} is {numbers[first]}", request.id)
        version = self._policy.contract.weight_version
        return self._answer(request.id, action=action.astype(FLOAT, copy=False).tobytes(), weight_version=version)

    def _late(self, request: Request, now_ns: int) -> Answer | None:
        if not request.due_ns or now_ns < request.due_ns:
            return None
        return self._error("late", f"{(now_ns - request.due_ns) / 1e6:.1f} ms after its deadline", request.id)

    def _wrong_version(self, version: int, number: int) -> Answer:
        return self._error("version", f"protocol version {version}, this server speaks {VERSION}", number)

    def _error(self, code: str, text: str, number: int) -> Answer:
        return self._answer(number, error=text, code=code)

    def revoked(self) -> Answer:
        """To a client whose key no longer counts; what it asked is not looked at."""
        return self._error("revoked", "this client's key was revoked", 0)

    def _answer(
        self,
        number: int,
        *,
        action: bytes = b"",
        weight_version: int = 0,
        contract: str = "",
        error: str = "",
        code: str = "",
    ) -> Answer:
        return Answer(
            VERSION, number, action, weight_version, self._session, time.monotonic_ns(), contract, error, code
        )
