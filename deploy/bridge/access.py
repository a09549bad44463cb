"""The learner's doorkeeper: answers ZeroMQ's question (ZAP, RFC 27) whether a key may come in."""

from __future__ import annotations

import zmq
from zmq.utils import z85

from deploy.bridge.keys import KeyFolder

ENDPOINT = "inproc://zeromq.zap.01"


class Doorkeeper:
    """Admits CURVE clients whose key is on the allow-list at that moment.

    Args:
        context: The learner's; ZeroMQ asks within one context.
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
