"""Messages between a policy server and its clients; docs/policy_server.md is the specification.

One ZeroMQ frame a message, MessagePack maps. Numbers travel as little-endian float32 bytes. Times are of
CLOCK_MONOTONIC, which the processes of one machine share: server and clients talk over loopback only.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlparse

import msgspec

from robot_rl.errors import ConfigError

VERSION = 1
SPARE_BYTES = 1024  # of a request beside its observation
FLOAT = "<f4"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Client to server. Without `obs` it asks for the contract."""

    v: int  # protocol version
    id: int  # returned in the answer
    obs: bytes = b""  # observation, (S,) float32
    sent_ns: int = 0  # CLOCK_MONOTONIC when it was sent
    deadline_ms: float = 0.0  # after `sent_ns` the answer is worth nothing; 0: no deadline


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Server to client: an action, a contract, or an error with a code."""

    v: int
    id: int
    action: bytes = b""  # (A,) float32
    weight_version: int = 0
    contract: str = ""  # JSON
    error: str = ""  # for people
    code: str = ""  # for programs: "bad", "version", "size", "late"


def require_loopback(address: str) -> None:
    """Refuse addresses that other machines could reach.

    Raises:
        ConfigError: If it is not tcp:// with a loopback IP address and a port, or ipc://.
    """
    parts = urlparse(address)
    try:
        port, host = parts.port, parts.hostname or ""
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        port, loopback = None, False
    if parts.scheme != "tcp" or port is None:
        raise ConfigError(f"'{address}' is no address to listen at; give tcp://127.0.0.1:PORT.")
    if not loopback:
        raise ConfigError(
            f"'{address}' can be reached by other machines, and this connection is neither encrypted nor "
            f"authenticated. Use tcp://127.0.0.1:{port} and a tunnel (ssh -L) to reach it from elsewhere."
        )
