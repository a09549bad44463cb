"""Where a teacher meets a student."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from robot_rl.algorithms.agent import Agent
from robot_rl.algorithms.student import Student, StudentConfig
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.transfer.guide import Guide
from robot_rl.transfer.store import Teacher


def with_teacher(cfg: Any, teacher: Teacher) -> StudentConfig:
    """A learner's options, with the sizes and sources of `teacher` filled in.

    Raises:
        ConfigError: If that learner has no latent state to teach.
    """
    if not isinstance(cfg, StudentConfig):
        raise ConfigError(
            f"--transfer {teacher.run} teaches learners with a latent world model: use latent-sac or dreamer."
        )
    return replace(cfg, transfer=replace(cfg.transfer, sources=teacher.sources, teacher=teacher.model.cfg))


def learn_from(agent: Agent, teacher: Teacher, *, fresh: bool) -> None:
    """Give a student its teacher.

    Args:
        agent: Built by the options of `with_teacher`.
        teacher: Its teacher.
        fresh: Also take over its weights, and rehearse; a resumed student has done so.

    Raises:
        CheckpointError: If the student was taught by another, or its model is to begin with one of other sizes.
    """
    if not isinstance(agent, Student):
        return
    guide = agent.guide
    if fresh and agent.cfg.transfer.initialise:
        agent.begin_with(teacher.model)
    if guide is None:
        return
    if fresh:
        guide.teacher.load_state_dict(teacher.model.state_dict())
    elif not _same(guide, teacher):
        raise CheckpointError(
            f"The run was taught by another teacher, of {', '.join(guide.cfg.sources)}; {teacher.run} is one of "
            f"{', '.join(teacher.sources)}. Resume with the --transfer it began with."
        )
    if guide.cfg.action_replay:
        guide.steps = teacher.source_steps(str(agent.device))
    if fresh:
        agent.rehearse()


def _same(guide: Guide, teacher: Teacher) -> bool:
    own, theirs = guide.teacher.state_dict(), teacher.model.state_dict()
    return guide.cfg.sources == teacher.sources and all(
        own[name].shape == value.shape and torch.equal(own[name], value) for name, value in theirs.items()
    )
