"""Environment ids, given to Gymnasium as text: nothing of the simulators is imported here.

`robot_rl.envs.make_env` finds `register_envs` through the entry-point group `gymnasium.envs`. With
Gymnasium alone, import this module first: `import sim.register; gymnasium.make("robosuite/Lift-v1")`.
"""

from __future__ import annotations

import gymnasium as gym

# task: default time limit, control steps of 50 ms (callers override it with max_episode_steps)
ROBOSUITE_STEPS = {"Lift": 400, "Door": 500, "NutAssemblySquare": 500, "PickPlaceCan": 500}


def register_envs() -> None:
    """Register this project's environments; a second call changes nothing."""
    for task, steps in ROBOSUITE_STEPS.items():
        _register(f"robosuite/{task}-v1", "sim.robosuite_env:RobosuiteEnv", steps, task=task)


def _register(env_id: str, entry_point: str, steps: int, **kwargs: object) -> None:
    if env_id not in gym.registry:
        gym.register(env_id, entry_point=entry_point, max_episode_steps=steps, kwargs=kwargs)


register_envs()
