"""Environment ids, given to Gymnasium as text: nothing of the simulators is imported here.

`robot_rl.envs.make_env` finds `register_envs` through the entry-point group `gymnasium.envs`. With
Gymnasium alone, import this module first: `import sim.register; gymnasium.make("robosuite/Lift-v1")`.
"""

from __future__ import annotations

import dataclasses

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

from sim import dmc_tasks, metaworld_tasks

ROBOSUITE = "sim.robosuite_env:RobosuiteEnv"
# task: default time limit, control steps of 50 ms (callers override it with max_episode_steps)
ROBOSUITE_STEPS = {"Lift": 400, "Door": 500, "NutAssemblySquare": 500, "PickPlaceCan": 500}
ADROIT_STEPS = 200
METAWORLD_STEPS = 100  # of 25 ms
LOCOMOTION = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
# Gymnasium's own environments and what is put around them
WRAPPED = {env_id: WrapperSpec("NamedJoints", "sim.locomotion:NamedJoints", {}) for env_id in LOCOMOTION} | {
    "CartPole-v1": WrapperSpec("CartPole", "sim.classic_control:CartPole", {}),
    "Acrobot-v1": WrapperSpec("Acrobot", "sim.classic_control:Acrobot", {}),
}


def register_envs() -> None:
    """Register this project's environments; a second call changes nothing.

    Adroit's ids are upstream's own: ours take their place, also where Gymnasium-Robotics was there first.
    """
    for task, steps in ROBOSUITE_STEPS.items():
        _register(f"robosuite/{task}-v1", ROBOSUITE, steps, kwargs={"task": task})
        _register(
            f"robosuite-shared/{task}-v1",
            ROBOSUITE,
            steps,
            kwargs={"task": task, "shared": True, "reward_shaping": True},
        )
    for task in metaworld_tasks.TASKS:
        env_id = metaworld_tasks.env_id_of(task)
        _register(env_id, "sim.metaworld_env:MetaWorldEnv", METAWORLD_STEPS, kwargs={"task": task})
    for task, steps in dmc_tasks.TASKS.items():
        _register(dmc_tasks.env_id_of(task), "sim.dmc_env:DMCEnv", steps, kwargs={"task": task})
    _register("VirtualArm-v1", "sim.virtual_arm:VirtualArm", 200)
    for task in ("Door", "Pen"):
        _register(
            f"AdroitHand{task}-v1",
            f"sim.adroit:make_{task.lower()}",
            ADROIT_STEPS,
            wrapper=WrapperSpec(task, f"sim.adroit:{task}", {}),
        )
    for env_id, wrapper in WRAPPED.items():
        spec = gym.registry[env_id]
        if wrapper not in spec.additional_wrappers:
            gym.registry[env_id] = dataclasses.replace(spec, additional_wrappers=(*spec.additional_wrappers, wrapper))


def _register(
    env_id: str,
    entry_point: str,
    steps: int,
    *,
    kwargs: dict[str, object] | None = None,
    wrapper: WrapperSpec | None = None,
) -> None:
    known = gym.registry.get(env_id)
    if known is not None and known.entry_point == entry_point:
        return
    gym.registry.pop(env_id, None)
    gym.register(
        env_id,
        entry_point=entry_point,
        max_episode_steps=steps,
        kwargs=kwargs or {},
        additional_wrappers=() if wrapper is None else (wrapper,),
    )


register_envs()
