"""Where two programs meet. Beyond this machine, only with keys."""

from __future__ import annotations

import ipaddress
import re

from robot_rl.errors import ConfigError

DEFAULT_ADDRESS = "tcp://127.0.0.1:5757"  # the learner's
_SHAPE = re.compile(r"tcp://([^:/\[\]]+):(\d{1,5}|\*)")
_PORTS = 65_535


def checked_address(address: str, *, keyed: bool) -> str:
    """The address in the form that ZeroMQ takes, once it is found safe.

    Args:
        address: "tcp://HOST:PORT".
        keyed: Whether CURVE keys are in use.

    Raises:
        ConfigError: If it is no such address, or not loopback and there are no keys.
    """
    found = _SHAPE.fullmatch(address)
    if found is None:
        raise ConfigError(
            f"'{address}' is no address. Write tcp://HOST:PORT, HOST a name or an IPv4 address, such as "
            f"{DEFAULT_ADDRESS}."
        )
    host, port = found.groups()
    if port != "*" and not 1 <= int(port) <= _PORTS:
        raise ConfigError(f"{address}: port {port} does not exist; they are 1 to {_PORTS}.")
    if host == "localhost":
        return f"tcp://127.0.0.1:{port}"
    if not keyed and not _is_loopback(host):
        raise ConfigError(
            f"{address} is not loopback, and without keys anyone on the network could talk here: feed a learner, drive "
            f"an arm. Make keys (`robot-rl keys new`, `robot-rl keys allow`) and give --key, or use 127.0.0.1."
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or "*"
        return False
