"""The actor process of `robot-rl bench bridge`: streams, or ticks, and says what it saw. No torch."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bench.made import HIDDEN, made_model, made_spec, stamped
from deploy.bridge.actor import ActorLink
from deploy.bundle.policy import Policy
from deploy.control.rate import Pacer
from robot_rl.console import print_json


def main() -> None:
    """Do what the JSON object in the first argument says; print one JSON object."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    spec = made_spec(plan["obs_dim"], plan["action_dim"])
    link = ActorLink(plan["address"], Path(plan["spool"]), spec, name=plan["mode"])
    try:
        while not link.learner_alive:
            time.sleep(0.01)
        print_json({"stream": _stream, "tick": _tick, "nothing": _nothing}[plan["mode"]](link, plan))
    finally:
        link.close()


def _stream(link: ActorLink, plan: dict[str, Any]) -> dict[str, Any]:
    """Publish as fast as it goes, then wait until the learner has stored all of it."""
    obs, action = np.zeros(plan["obs_dim"], np.float32), np.zeros(plan["action_dim"], np.float32)
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - start < plan["seconds"]:
        for _ in range(100):
            link.publish(obs, action, 0.0, obs)
        count += 100
    taken = time.perf_counter() - start
    if not link.drain(600):
        raise TimeoutError("the learner did not store everything within 10 minutes")
    stored = time.perf_counter() - start
    return {
        "count": count,
        "taken_per_s": count / taken,
        "stored_per_s": count / stored,
        "cpu_us_each": (time.process_time() - cpu) / count * 1e6,
    }


def _tick(link: ActorLink, plan: dict[str, Any]) -> dict[str, Any]:
    """The control loop that actors run: act, publish, ask whether to hold, swap policies; rehearse while it waits."""
    obs = np.zeros(plan["obs_dim"], np.float32)
    policy = Policy.from_bytes(stamped(made_model(link.spec, HIDDEN), link.spec, 0), "the first policy")
    ticks, pacer = int(plan["seconds"] * plan["rate_hz"]), Pacer(plan["rate_hz"], ())
    cost, swapped = np.zeros(ticks), dict[int, int]()
    for i in range(ticks):
        pacer.wait(link.rehearse)
        action = policy.act(obs)
        start = time.perf_counter_ns()
        link.publish(obs, action, 0.0, obs)
        cost[i] = time.perf_counter_ns() - start
        if link.hold:
            raise TimeoutError(f"the link says hold: {link.hold}")
        newer = link.take_policy()
        if newer is not None:
            swapped[link.policy_version] = time.monotonic_ns()
            policy = newer
    return {"publish_us": (cost / 1e3).tolist(), "swapped_ns": swapped}


def _nothing(link: ActorLink, plan: dict[str, Any]) -> dict[str, Any]:
    """The same loop around nothing but a 444-byte copy: what this machine charges any tick."""
    source, target = bytes(444), bytearray(444)
    ticks, pacer = int(plan["seconds"] * plan["rate_hz"]), Pacer(plan["rate_hz"], ())
    cost = np.zeros(ticks)
    for i in range(ticks):
        pacer.wait()
        start = time.perf_counter_ns()
        target[:] = source
        cost[i] = time.perf_counter_ns() - start
    return {"publish_us": (cost / 1e3).tolist(), "swapped_ns": {}}


if __name__ == "__main__":
    main()
