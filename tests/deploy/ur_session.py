"""One session on a UR arm, in a process of its own: ur_rtde does not outlive its own faults (it has crashed when a new
interface was opened in a process where an earlier one had lost its controller).

    python -m tests.deploy.ur_session CONFIG BUNDLE SECONDS HANGS_AT HANGS_S

Prints `driving` once commands flow, and a line of JSON at the end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy.arms.config import load_arm
from deploy.arms.registry import make_arm
from deploy.bundle.contract import Contract
from deploy.bundle.policy import Policy
from deploy.control.controller import serve
from deploy.control.plan import ServePlan
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import RobotRLError


class Turns:
    """Asks for where the arm was first, its base turning slowly by 0.2 rad/s; may hang once."""

    def __init__(self, contract: Contract, hangs_at: int, hangs_s: float) -> None:
        self.contract, self.calls = contract, 0
        self.hangs_at, self.hangs_s = hangs_at, hangs_s
        self.home: Any = None

    def act(self, obs: Any) -> Any:
        self.home = np.array(obs[:6], np.float64) if self.home is None else self.home
        self.calls += 1
        if self.calls == 5:
            print("driving", flush=True)  # noqa: T201 - the line the parent waits for
        if self.calls == self.hangs_at:
            time.sleep(self.hangs_s)
        asked = self.home.copy()
        asked[0] += 0.2 * self.calls / 50
        return asked

    def warm_up(self) -> None:
        pass


def session(config_file: str, bundle: str, seconds: float, hangs_at: int, hangs_s: float) -> dict[str, Any]:
    config = load_arm(config_file)
    arm: Any = make_arm(config)
    policy: Any = Turns(Policy.load(Path(bundle)).contract, hangs_at, hangs_s)
    said: dict[str, Any] = {"error": "", "ending": "", "reasons": {}, "verdicts": {}}
    try:
        arm.connect()
        report = serve(policy, arm, Supervisor(config.limits()), ServePlan(duration_s=seconds))
        said |= {"ending": report.ending.value, "reasons": report.reasons, "verdicts": report.verdicts}
    except RobotRLError as error:
        said["error"] = f"{type(error).__name__}: {error}"
    begun = time.monotonic()
    arm.close()
    arm.close()
    return {**said, "close_s": time.monotonic() - begun}


if __name__ == "__main__":
    found = session(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    print(json.dumps(found), flush=True)  # noqa: T201
