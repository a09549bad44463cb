"""MuJoCo's compiled bindings, which carry no types: `from sim.mj import mujoco` sees them as Any."""

from __future__ import annotations

import importlib
from typing import Any

mujoco: Any = importlib.import_module("mujoco")
