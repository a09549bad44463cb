"""As much of a UR controller as `ur_rtde` needs to connect, read states and servo: RTDE, dashboard and script ports.

RTDE is Universal Robots' public protocol ("Real-Time Data Exchange (RTDE) Guide"): packages of a uint16 size, a uint8
type and big-endian content. `ur_rtde` uploads a control program to the script port and talks to it through registers:
input_int_register_0 is the command (0: none), output_int_register_0 the program's answer (1: ready, 2: done). No
program text is run here: the handful of commands that this stack uses are carried out in Python, once a program came.
The arm follows servo targets at up to its joint speed. What `rtde_set_watchdog` promises is kept: without input for
longer than its period the program ends and the arm stands.

It is a process of its own, because ur_rtde waits for answers with Python's lock held:

    python -m tests.deploy.rtde_endpoint HOST Q1 ... Q6

Lines on its standard input are orders (`freeze`, `thaw`, `protect`, `unsafe`, `cut`, `report`), each answered by a line
of JSON about the arm.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deploy.arms.config import load_arm
from deploy.safety.kinematics import Kinematics

RTDE_PORT, DASHBOARD_PORT, SCRIPT_PORT, PRIMARY_PORT = 30004, 29999, 30003, 30002
VERSION = (5, 12, 0, 0)
RATE_HZ = 500.0
JOINT_SPEED = 3.14  # rad/s
READY, DONE = 1, 2
SERVO_J, SERVO_STOP, SET_WATCHDOG, JOINTS_SAFE, STOP_SCRIPT = 11, 16, 35, 37, 255
REALTIME = {6, 9, 10, 11, 24, 25, 26, 27, 38, 58, 66, 67, 68, 69, 70, 71}  # answered at once, with no "done"
PROGRAM_RUNS = 0b10  # of robot_status_bits; bit 0 is power
NORMAL, PROTECTIVE = 0b1, 0b100  # of safety_status_bits

SIX = "VECTOR6D"
TYPES = {  # by name; what is not here follows `type_of`
    "timestamp": "DOUBLE",
    "actual_digital_input_bits": "UINT64",
    "actual_digital_output_bits": "UINT64",
    "joint_mode": "VECTOR6INT32",
    "actual_tool_accelerometer": "VECTOR3D",
    "payload_cog": "VECTOR3D",
    "elbow_position": "VECTOR3D",
    "elbow_velocity": "VECTOR3D",
    "robot_mode": "INT32",
    "safety_mode": "INT32",
    "runtime_state": "UINT32",
    "robot_status_bits": "UINT32",
    "safety_status_bits": "UINT32",
    "speed_slider_mask": "UINT32",
}
VECTORS = re.compile(
    r"(actual|target)_(q|qd|qdd|current|moment|TCP_\w+|joint_voltage|current_as_torque)$|joint_(temp|con)\w+"
)
FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT32": "I",
    "UINT64": "Q",
    "INT32": "i",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    SIX: "6d",
    "VECTOR6INT32": "6i",
}


def type_of(name: str) -> str:
    """The protocol's type of a variable."""
    if name in TYPES:
        return TYPES[name]
    if VECTORS.match(name) or name in ("ft_raw_wrench", "payload_inertia", "tcp_offset", "external_force_torque"):
        return SIX
    if "int_register" in name:
        return "INT32"
    if "bit_register" in name:
        return "UINT32" if "registers" in name else "BOOL"
    if re.search(r"(mask|digital_output|_type)$", name):
        return "UINT8"
    return "DOUBLE"


@dataclass
class Arm:
    """Joints that follow servo targets, and the control program's registers."""

    q: list[float]
    kinematics: Kinematics
    safe: bool = True  # what the program says of joint positions
    qd: list[float] = field(default_factory=lambda: [0.0] * 6)
    target: list[float] | None = None
    running: bool = False
    protective: bool = False
    scripts: list[str] = field(default_factory=list[str])
    commands: list[int] = field(default_factory=list[int])
    ints: dict[int, int] = field(default_factory=dict[int, int])
    answer: dict[int, int] = field(default_factory=dict[int, int])
    doubles: dict[int, float] = field(default_factory=dict[int, float])
    watchdog_hz: float = 0.0
    heard_s: float = 0.0
    clock_s: float = 100.0
    ended_by_watchdog: bool = False

    def begin(self, script: str) -> None:
        """A program came."""
        self.scripts.append(script)
        if not self.protective:
            self.running, self.watchdog_hz, self.target = True, 0.0, None
            self.answer = {0: READY}

    def end(self) -> None:
        """The program is over; the arm stands."""
        self.running, self.target = False, None
        self.qd = [0.0] * 6
        self.answer[0] = 0

    def hear(self, now_s: float) -> None:
        """New input registers: what the program's main loop does with them."""
        self.heard_s = now_s
        command = self.ints.get(0, 0)
        if not self.running:
            return
        if command == 0 or command in REALTIME:
            self.answer[0] = READY
        elif self.answer.get(0) == READY:
            self.answer[0] = DONE
        else:
            return
        if command:
            self.commands.append(command)
            self.carry_out(command)

    def carry_out(self, command: int) -> None:
        """One command of the program."""
        six = [self.doubles.get(i, 0.0) for i in range(6)]
        if command == SERVO_J:
            self.target = six
        elif command == SERVO_STOP:
            self.target, self.qd = None, [0.0] * 6
        elif command == SET_WATCHDOG:
            self.watchdog_hz = six[0]
        elif command == JOINTS_SAFE:
            self.answer[1] = int(self.safe)
        elif command == STOP_SCRIPT:
            self.end()

    def step(self, now_s: float, dt: float) -> None:
        """Move on by `dt`, s."""
        self.clock_s += dt
        if self.running and self.watchdog_hz and now_s - self.heard_s > 1.0 / self.watchdog_hz:
            self.ended_by_watchdog = True
            self.end()
        if self.target is None:
            return
        most = JOINT_SPEED * dt
        moved = [max(-most, min(most, t - q)) for t, q in zip(self.target, self.q, strict=True)]
        self.q = [q + m for q, m in zip(self.q, moved, strict=True)]
        self.qd = [m / dt for m in moved]

    def value(self, name: str) -> Any:
        """What a variable is now; zeros where this arm has nothing to say."""
        if name in ("actual_TCP_pose", "target_TCP_pose"):
            return [*self.kinematics.tool_at(self.q), 0.0, 0.0, 0.0]
        known: dict[str, Any] = {
            "timestamp": self.clock_s,
            "actual_q": self.q,
            "target_q": self.q,
            "actual_qd": self.qd,
            "target_qd": self.qd,
            "robot_mode": 7,
            "safety_mode": 3 if self.protective else 1,
            "runtime_state": 2 if self.running else 1,
            "robot_status_bits": 1 | (PROGRAM_RUNS if self.running else 0),
            "safety_status_bits": PROTECTIVE if self.protective else NORMAL,
            "speed_scaling": 1.0,
            "target_speed_fraction": 1.0,
        }
        if name in known:
            return known[name]
        if name.startswith("output_int_register_"):
            return self.answer.get(int(name.rsplit("_", 1)[1]), 0)
        fmt = FORMATS[type_of(name)]
        return [0] * int(fmt[0]) if fmt[0].isdigit() else 0


class RtdeEndpoint:
    """The controller at an address of its own on loopback; used as a context.

    Args:
        host: Where to listen; the ports are the real ones.
        q: Joint positions, (6,), rad.
        kinematics: For the tool's position.
    """

    def __init__(self, host: str, q: list[float], kinematics: Kinematics) -> None:
        self.host = host
        self.arm = Arm(list(q), kinematics)
        self.lock = threading.Lock()
        self.frozen = threading.Event()  # set: no more states, connections stay
        self._end = threading.Event()
        self._servers: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> RtdeEndpoint:
        for port, talk in (
            (RTDE_PORT, self._rtde),
            (DASHBOARD_PORT, self._dashboard),
            (SCRIPT_PORT, self._script),
            (PRIMARY_PORT, self._script),
        ):
            server = socket.create_server((self.host, port))
            server.settimeout(0.1)
            self._servers.append(server)
            self._spawn(self._accept, server, talk)
        self._spawn(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(2.0)

    def cut(self) -> None:
        """Close every connection and listen no more: what a power loss looks like from outside."""
        self._end.set()
        for end in (*self._servers, *self._clients):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _spawn(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self) -> None:
        """Joints, the program and its watchdog, at the controller's own rate."""
        last = time.monotonic()
        while not self._end.wait(1 / RATE_HZ):
            now = time.monotonic()
            with self.lock:
                self.arm.step(now, now - last)
            last = now

    def _accept(self, server: socket.socket, talk: Callable[[socket.socket], None]) -> None:
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                client, _ = server.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                self._spawn(self._guarded, talk, client)

    def _guarded(self, talk: Callable[[socket.socket], None], client: socket.socket) -> None:
        with contextlib.suppress(OSError, ConnectionError):
            talk(client)

    def _dashboard(self, client: socket.socket) -> None:
        client.sendall(b"Connected: Universal Robots Dashboard Server\n")
        answers = {
            b"is in remote control": b"true",
            b"PolyscopeVersion": b"URSoftware 5.12.0.1101319 (Mar 10 2022)",
            b"robotmode": b"Robotmode: RUNNING",
            b"get robot model": b"UR5",
            b"get serial number": b"20225500001",
            b"stop": b"Stopped",
        }
        while line := client.recv(1024):
            for words in line.splitlines():
                client.sendall(answers.get(words.strip(), b"ok") + b"\n")
                if words.strip() == b"stop":
                    with self.lock:
                        self.arm.end()

    def _script(self, client: socket.socket) -> None:
        text = b""
        while data := client.recv(65536):
            text += data
            if text.rstrip().endswith((b"end", b"run program")):
                with self.lock:
                    self.arm.begin(text.decode())
                text = b""

    def _rtde(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        outputs: list[str] = []
        inputs: list[list[str]] = []
        frequency = RATE_HZ
        started = threading.Event()
        sending = threading.Lock()
        while header := stream.read(3):
            size, kind = struct.unpack(">HB", header)
            content = stream.read(size - 3)
            answer: bytes | None = b"\x01"
            match chr(kind):
                case "V" | "P":
                    started.clear()
                case "v":
                    answer = struct.pack(">4I", *VERSION)
                case "O":
                    frequency = struct.unpack(">d", content[:8])[0]
                    outputs[:] = [n for n in content[8:].decode().split(",") if n]
                    answer = b"\x01" + ",".join(map(type_of, outputs)).encode()
                case "I":
                    inputs.append([n for n in content.decode().split(",") if n])
                    answer = bytes([len(inputs)]) + ",".join(map(type_of, inputs[-1])).encode()
                case "S":
                    with sending:
                        client.sendall(_package("S", b"\x01"))
                    if not started.is_set():
                        started.set()
                        send = partial(self._send, names=outputs, frequency=frequency, started=started, sending=sending)
                        self._spawn(self._guarded, send, client)
                    continue
                case "U":
                    self._take(inputs[content[0] - 1], content[1:])
                    continue
                case _:
                    continue
            with sending:
                client.sendall(_package(chr(kind), answer))

    def _take(self, names: list[str], content: bytes) -> None:
        values = struct.unpack(">" + "".join(FORMATS[type_of(n)] for n in names), content)
        with self.lock:
            flat = iter(values)
            for name in names:
                value = next(flat)  # registers are single numbers; nothing longer is ever sent here
                index = int(name.rsplit("_", 1)[1]) if name[-1].isdigit() else -1
                if "input_int_register" in name:
                    self.arm.ints[index] = value
                elif "input_double_register" in name:
                    self.arm.doubles[index] = value
            self.arm.hear(time.monotonic())

    def _send(
        self, client: socket.socket, names: list[str], frequency: float, started: threading.Event, sending: Any
    ) -> None:
        fmt = ">B" + "".join(FORMATS[type_of(n)] for n in names)
        due = time.monotonic()
        while started.is_set() and not self._end.is_set():
            due += 1 / frequency
            time.sleep(max(0.0, due - time.monotonic()))
            if self.frozen.is_set():
                continue
            with self.lock:
                values = [self.arm.value(n) for n in names]
            flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
            with sending:
                client.sendall(_package("U", struct.pack(fmt, 1, *flat)))


def _package(kind: str, content: bytes) -> bytes:
    return struct.pack(">HB", 3 + len(content), ord(kind)) + content


def obey(endpoint: RtdeEndpoint, order: str) -> dict[str, Any]:
    """Carry out one order; what the arm is like then."""
    arm = endpoint.arm
    with endpoint.lock:
        if order == "freeze":
            endpoint.frozen.set()
        elif order == "thaw":
            endpoint.frozen.clear()
        elif order == "protect":
            arm.protective = True
            arm.end()
        elif order == "unsafe":
            arm.safe = False
        facts = {
            "q": arm.q,
            "qd": arm.qd,
            "running": arm.running,
            "scripts": [len(s) for s in arm.scripts],
            "commands": arm.commands,
            "watchdog_hz": arm.watchdog_hz,
            "ended_by_watchdog": arm.ended_by_watchdog,
            "program": arm.scripts[-1][:60] if arm.scripts else "",
        }
    if order == "cut":
        endpoint.cut()
    return facts


class RtdeProcess:
    """The endpoint in a process of its own; used as a context."""

    def __init__(self, host: str, q: list[float]) -> None:
        words = [sys.executable, "-m", "tests.deploy.rtde_endpoint", host, *map(str, q)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def tell(self, order: str) -> dict[str, Any]:
        """Give an order; what the arm is like then."""
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def kill(self) -> None:
        """The hard way."""
        self.process.kill()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __enter__(self) -> RtdeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


if __name__ == "__main__":
    chain = load_arm("ur5e").limits().kinematics
    assert chain is not None
    with RtdeEndpoint(sys.argv[1], [float(v) for v in sys.argv[2:8]], chain) as running:
        print("ready", flush=True)  # noqa: T201 - the line the parent waits for
        for words in sys.stdin:
            print(json.dumps(obey(running, words.strip())), flush=True)  # noqa: T201
