"""Fitting a model found in a log to the model at hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from robot_rl.errors import DataError, EnvError


def require_same_joints(model: Any, model_xml: str, env_id: str) -> None:
    """Refuse a logged model whose joints are not those of `model`, in the same order.

    robosuite 1.5 put the arm's side into the gripper's joint names; that much is overlooked.

    Raises:
        DataError: If the logged model is not XML.
        EnvError: Naming the first joint that differs.
    """
    logged = [_plain(name) for name in _joints(model_xml)]
    ours = [_plain(model.joint(i).name) for i in range(model.njnt)]
    if logged == ours:
        return
    pairs = zip(logged, ours, strict=False)
    where = next((f"'{a}' in the log, '{b}' here" for a, b in pairs if a != b), "one has more than the other")
    raise EnvError(
        f"The log was made with {len(logged)} joints and '{env_id}' has {len(ours)}; they differ: {where}. "
        f"Name the environment that the log was made in with --env."
    )


def set_fixed_bodies(model: Any, model_xml: str, names: Iterable[str]) -> None:
    """Give bodies without joints, such as a door's frame, the pose they had in the logged model.

    Args:
        model: MuJoCo model to change.
        model_xml: The logged model.
        names: Bodies to look at; those that can move are left alone, their pose is in the state.
    """
    poses = _body_poses(model_xml)
    for name in names:
        body = model.body(name)
        if int(body.jntnum[0]) == 0 and name in poses:
            position, quaternion = poses[name]
            body.pos[:] = position
            body.quat[:] = quaternion


def _plain(joint: str) -> str:
    return joint.replace("gripper0_right_", "gripper0_")


@lru_cache(maxsize=4)
def _tree(model_xml: str) -> ET.Element:
    try:
        return ET.fromstring(model_xml)  # noqa: S314 - a model from a log, expat expands no external entity
    except ET.ParseError as error:
        raise DataError(f"The logged model_file is not XML ({error}).") from error


@lru_cache(maxsize=4)
def _joints(model_xml: str) -> tuple[str, ...]:
    tree = _tree(model_xml)
    world = tree.find("worldbody")
    found = [] if world is None else [e for e in world.iter() if e.tag in ("joint", "freejoint")]
    return tuple(e.get("name", "") for e in found)


@lru_cache(maxsize=4)
def _body_poses(model_xml: str) -> dict[str, tuple[list[float], list[float]]]:
    def numbers(text: str) -> list[float]:
        return [float(word) for word in text.split()]

    return {
        body.get("name", ""): (numbers(body.get("pos", "0 0 0")), numbers(body.get("quat", "1 0 0 0")))
        for body in _tree(model_xml).iter("body")
    }
