"""What tests do with a link: publish known transitions, wait, make weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from deploy.bridge.actor import ActorLink
from deploy.bundle.contract import METADATA_KEY, MODEL_FILE
from deploy.bundle.policy import Policy
from tests.deploy.bridge.made import numbered


def publish(link: ActorLink, first: int, count: int, **kwargs: Any) -> None:
    """What `numbered` makes, through the link."""
    for row in numbered(first, count):
        link.publish(row["obs"], row["action"], float(row["reward"]), row["next_obs"], **kwargs)


def eventually(true: Callable[[], object], timeout_s: float = 20.0) -> bool:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def restamped(folder: Path, version: int, **changes: Any) -> bytes:
    """The model of a bundle, with another version in its contract."""
    model = onnx.load(folder / MODEL_FILE)
    contract = Policy.load(folder).contract
    text = replace(contract, weight_version=version, **changes).to_json()
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    return model.SerializeToString()
