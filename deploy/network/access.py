"""Who may come in: asked at the handshake (ZeroMQ's ZAP, RFC 27) and again at every message."""

from __future__ import annotations

import time
from collections.abc import Container

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from deploy.network.keys import KeyFolder, Keys

ENDPOINT = "inproc://zeromq.zap.01"
ALLOWED_S = 0.2  # how long a look at the allow-list holds
_FAILED_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class Gate:
    """Guards a socket that is about to listen: made before it is bound, closed before it is.

    Args:
        listener: The socket; the only guarded one of its context.
        keys: Key and allow-list of this end; None lets everyone in.

    Raises:
        ConfigError: If the keys are wrong.
    """

    def __init__(self, listener: zmq.Socket[bytes], keys: Keys | None) -> None:
        self._listener, self._keys = listener, keys
        self._allowed: dict[str, str] = {}
        self._allowed_at = float("-inf")
        if keys is not None:
            keys.secure_server(listener)
        self._doorkeeper = Doorkeeper(listener.context, keys.folder) if keys is not None else None
        self._monitor = listener.get_monitor_socket(_FAILED_HANDSHAKES)
        self.sockets = [self._monitor, *([self._doorkeeper.socket] if self._doorkeeper else [])]

    def look(self, ready: Container[object]) -> list[str]:
        """Answer those who knock.

        Args:
            ready: Which sockets have something to read; `sockets` are to be polled.

        Returns:
            What was turned away, in words.
        """
        turned_away: list[str] = []
        if self._doorkeeper is not None and self._doorkeeper.socket in ready:
            turned_away.append(self._doorkeeper.answer())
        if self._monitor in ready:
            parse_monitor_message(self._monitor.recv_multipart())
            turned_away.append("a handshake failed")
        return [text for text in turned_away if text]

    def admits(self, frame: zmq.Frame) -> bool:
        """Whether the sender's key is still allowed; a revoked one stops counting on a connection that stands."""
        if self._keys is None:
            return True
        now = time.monotonic()
        if now - self._allowed_at > ALLOWED_S:
            self._allowed, self._allowed_at = self._keys.folder.allowed(), now
        return str(frame.get("User-Id")) in self._allowed

    def close(self) -> None:
        """No longer look; the listener is left open."""
        self._listener.disable_monitor()
        self._monitor.close(0)
        if self._doorkeeper is not None:
            self._doorkeeper.socket.close()


class Doorkeeper:
    """Admits CURVE clients whose key is on the allow-list at that moment.

    Args:
        context: The listener's; ZeroMQ asks within one context.
        folder: Holds the allow-list.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: KeyFolder) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ENDPOINT)
        self.denied = 0
        self._folder = folder

    def answer(self) -> str:
        """Answer the question that waits.

        Returns:
            Who was turned away; empty where nobody was.
        """
        version, request, _domain, address, _identity, mechanism, *credentials = self.socket.recv_multipart()
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and len(credentials) == 1 else b""
        allowed = key.decode() in self._folder.allowed()
        verdict = (b"200", b"OK", key) if allowed else (b"400", b"not on the allow-list", b"")
        self.socket.send_multipart([version, request, *verdict, b""])
        if allowed:
            return ""
        self.denied += 1
        return f"key {key.decode() or '(none)'} from {address.decode(errors='replace')}"
