"""Devices: what is typed, pushed and turned comes out as axes and words; what is missing is said with its remedy."""

from __future__ import annotations

import os
import struct
import sys
import termios
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.operator.station import Station, keys
from deploy.operator.terminal import KeyDecoder, listening
from deploy.teleop.device import DEAD_ZONE, GRIP, SAVE, TAKE, live, open_device
from deploy.teleop.gamepad import Gamepad
from deploy.teleop.keyboard import FRESH_S, GONE_S, MOTION, Keyboard, Words
from deploy.teleop.spacemouse import SpaceMouse, is_space_mouse
from robot_rl.errors import ArmError, ConfigError

KEYS = {
    b"i": "i",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOC": "right",
    b" ": "space",
    b"\t": "tab",
    b"\x1b[3~": "",
}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing was heard"
        time.sleep(0.01)


# The terminal


@given(st.lists(st.sampled_from(sorted(KEYS)), max_size=12))
def test_keys_are_the_same_in_one_piece_and_byte_by_byte(typed: list[bytes]) -> None:
    stream, at_once, piecewise = b"".join(typed), KeyDecoder(), KeyDecoder()
    wanted = [KEYS[key] for key in typed if KEYS[key]]
    assert at_once.feed(stream) == wanted
    assert [key for i in range(len(stream)) for key in piecewise.feed(stream[i : i + 1])] == wanted


def test_a_lone_escape_is_told_from_an_arrow() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.flush() == ["esc"]
    assert decoder.feed(b"\x1b") == []
    assert decoder.feed(b"[C") == ["right"]
    assert not decoder.waits


def test_a_terminal_is_heard_and_given_back(keyboard: int) -> None:
    before, heard = termios.tcgetattr(sys.stdin), []
    with listening(heard.append) as there:
        assert there
        os.write(keyboard, b"ik\x1b[Dc\x1b")
        until(lambda: len(heard) == 5)
        assert not termios.tcgetattr(sys.stdin)[3] & termios.ECHO
    assert heard == ["i", "k", "left", "c", "esc"]
    assert termios.tcgetattr(sys.stdin) == before


def test_the_operators_keys_stay_what_they_are_beside_a_device(keyboard: int) -> None:
    station, device, words = Station(), Keyboard(), Words()

    def also(key: str) -> None:
        device.hear(key)
        words.hear(key)

    with keys(station, also):
        os.write(keyboard, b"i ")
        until(lambda: bool(station.stop_cause))
        os.write(keyboard, b"y\x1b[C")
        until(lambda: SAVE in words._said)
    assert station.take_label() is True
    assert device.read().axes[0] == 1.0
    assert words.take() == ("success", SAVE)  # space was the stop, and nothing else


def test_no_motion_key_is_one_of_the_operators() -> None:
    for key in (*MOTION, *map(str, range(1, 10)), "c", "+", "-", "tab", "right", "left", "esc"):
        station = Station()
        station.hear(key)
        did = station.stop_cause, station.wants_arm, station.ready, station.ending.is_set()
        assert not any(did), key


# Keyboard


def test_a_held_key_is_full_on_and_decays_when_it_is_let_go() -> None:
    now = [0.0]
    device = Keyboard(lambda: now[0])
    for _ in range(10):  # as a terminal repeats
        device.hear("k")
        now[0] += 0.03
        assert device.read().axes.tolist() == [-1, 0, 0, 0, 0, 0]
    released = now[0] - 0.03
    now[0] = released + (FRESH_S + GONE_S) / 2
    assert device.read().axes[0] == pytest.approx(-0.5)
    now[0] = released + GONE_S
    assert not device.read().axes.any()
    device.hear("R")
    device.hear("i")
    assert device.read().axes.tolist() == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("space_takes", "wanted"), [(True, (TAKE,)), (False, ())])
def test_space_takes_over_only_where_it_stops_nothing(space_takes: bool, wanted: tuple[str, ...]) -> None:
    words = Words(space_takes=space_takes)
    words.hear("space")
    assert words.take() == wanted


# SpaceMouse


class Mouse:
    def __init__(self, *reports: bytes) -> None:
        self.reports = [list(report) for report in reports]

    def read(self, _size: int) -> list[int]:
        return self.reports.pop(0) if self.reports else []

    def close(self) -> None:
        pass


def test_the_cap_moves_and_turns_in_the_robots_axes() -> None:
    push, turn = struct.pack("<B3h", 1, 0, -350, 0), struct.pack("<B3h", 2, 0, 0, -700)
    reading = SpaceMouse(Mouse(push, turn)).read()
    assert reading.axes.tolist() == [1, 0, 0, 0, 0, 1]  # forward; counter-clockwise seen from above
    newer = struct.pack("<B6h", 1, -350, 0, -350, 0, -350, 0)
    assert SpaceMouse(Mouse(newer)).read().axes.tolist() == [0, 1, 1, 1, 0, 0]  # left, up, roll


def test_a_cap_stays_where_it_was_last_and_buttons_speak_once() -> None:
    mouse = Mouse(struct.pack("<B3h", 1, 350, 0, 0), bytes([3, 1]))
    device = SpaceMouse(mouse)
    assert device.read().words == (GRIP,)
    mouse.reports = [[3, 3]]
    again = device.read()
    assert (again.words, again.axes[1]) == ((TAKE,), -1.0)
    mouse.reports = [[3, 0], [1, 0, 0, 0, 0, 0, 0]]
    assert not device.read().axes.any()


def test_a_pushed_cap_that_falls_silent_moves_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("deploy.teleop.spacemouse.time.monotonic", lambda: now)
    push = [1, 0, 0, 0x5E, 1, 0, 0]
    mouse = Mouse()
    device = SpaceMouse(mouse)
    for _ in range(40):  # a report every 8 ms, as long as it is held
        mouse.reports = [push]
        now += 0.008
        assert device.read().axes[0] == -1.0
    now += 0.2
    assert device.read().axes[0] == -1.0  # a stutter
    now += 0.1
    assert not device.read().axes.any()  # its link is lost
    mouse.reports = [push]
    assert device.read().axes[0] == -1.0


def test_a_mouse_that_is_gone_stops_whoever_it_drives() -> None:
    class Gone(Mouse):
        def read(self, _size: int) -> list[int]:
            raise OSError("read error")

    with pytest.raises(ArmError, match="SpaceMouse is gone"):
        SpaceMouse(Gone()).read()


def test_only_3d_mice_are_taken() -> None:
    assert is_space_mouse({"vendor_id": 0x256F, "product_id": 0xC652})
    assert is_space_mouse({"vendor_id": 0x046D, "product_id": 0xC626})
    assert not is_space_mouse({"vendor_id": 0x046D, "product_id": 0xC077})  # an ordinary mouse of the same make


# Gamepad


class Pad:
    def __init__(self) -> None:
        self.axes, self.down, self.there = [0] * 6, set(), True

    def attached(self) -> bool:
        return self.there

    def get_axis(self, axis: int) -> int:
        return self.axes[axis]

    def get_button(self, button: int) -> bool:
        return button in self.down

    def quit(self) -> None:
        pass


def test_sticks_triggers_and_shoulders_are_axes() -> None:
    pad = Pad()
    device = Gamepad(pad, lambda: None)
    pad.axes = [1000, -32768, -32768, 0, 0, 32767]  # left stick up, a little right of middle; right stick left
    pad.down = {10, 0}
    first, second = device.read(), device.read()
    np.testing.assert_allclose(first.axes, [1, 0, 1, 1, 0, 1], atol=1e-6)
    assert (first.words, second.words) == ((GRIP,), ())
    pad.there = False
    with pytest.raises(ArmError, match="gamepad is gone"):
        device.read()


def test_the_dead_zone_has_no_step_at_its_edge() -> None:
    assert live(DEAD_ZONE * 0.99) == 0.0
    assert live(DEAD_ZONE + 1e-6) == pytest.approx(0.0, abs=2e-6)
    assert (live(1.2), live(-1.0)) == (1.0, -1.0)


# What is missing


@pytest.mark.parametrize(
    ("name", "modules", "package"), [("gamepad", ["pygame"], "pygame-ce"), ("spacemouse", ["hid"], "hidapi")]
)
def test_a_missing_package_is_named_with_its_extra(
    name: str, modules: list[str], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"--teleop {name} needs the package {package}.*\.\[teleop\]"):
        open_device(name)


def test_a_missing_mouse_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hid = type(sys)("hid")
    hid.enumerate = lambda: [{"vendor_id": 0x046D, "product_id": 0xC077, "path": b"x"}]
    monkeypatch.setitem(sys.modules, "hid", hid)
    with pytest.raises(ConfigError, match=r"none found\. Plug it in"):
        open_device("spacemouse")
