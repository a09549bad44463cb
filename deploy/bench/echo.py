"""A bare ZeroMQ echo on loopback, to compare with: prints its address, ends with its standard input.

python -m deploy.bench.echo
"""

from __future__ import annotations

import sys

import zmq


def main() -> None:
    """Send every message back."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.bind("tcp://127.0.0.1:*")
    sys.stdout.write(socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0") + "\n")
    sys.stdout.flush()
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while sys.stdin.fileno() not in (ready := dict(poller.poll())):
        if socket in ready:
            socket.send_multipart(socket.recv_multipart())
    context.destroy(0)


if __name__ == "__main__":
    main()
