"""The policy of a student: a recurrent world model, its teacher's view and the actor, in one graph.

Its memory, (B, M): [begun, student's state, teacher's states of K sources, last executed action].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robot_rl.latent.model import LatentModel
from robot_rl.nets.actor import Scaler, SquashedGaussianActor
from robot_rl.nets.recurrent import RecurrentBehaviour, RecurrentPolicy
from robot_rl.transfer.guide import Guide


class Perception(nn.Module):
    """From observation and memory to what the actor sees.

    Args:
        scaler: Units.
        model: The student's world model.
        guide: What it takes from a teacher, if anything.
        direct: Show the actor the observation beside the state.
        actions: A.
        trying: Let sources act that are on trial; else the best so far.
    """

    def __init__(
        self,
        scaler: Scaler,
        model: LatentModel,
        guide: Guide | None,
        *,
        direct: bool,
        actions: int,
        trying: bool,
    ) -> None:
        super().__init__()
        self.scaler, self.model, self.direct, self.trying = scaler, model, direct, trying
        self.guide = guide if guide is not None and guide.width else None
        theirs = 0 if self.guide is None else len(self.guide.cfg.sources) * self.guide.teacher.width
        self.widths = [1, model.width, theirs, actions]

    @property
    def state_dim(self) -> int:
        """M."""
        return sum(self.widths)

    def forward(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What the actor sees, and the memory without the action that is about to be chosen, (B, ...)."""
        begun, state, theirs, action = memory.split(self.widths, -1)
        last = begun * self.scaler.to_unit(action)  # before the first step nothing was done
        seen = self.scaler.obs(obs)
        state = self.model.correct(state, last, seen, None)
        shown = [state, seen] if self.direct else [state]
        kept = [torch.ones_like(begun), state]
        if self.guide is not None:
            states = self.guide.follow(theirs.unflatten(-1, (-1, self.guide.teacher.width)), last, seen)
            z = state.new_zeros(obs.shape[0], self.guide.cfg.replay_latent)
            shown.append(self.guide.hint(states, state, seen, z, trying=self.trying))
            kept.append(states.flatten(1))
        return torch.cat(shown, -1), torch.cat(kept, -1)


class StudentPolicy(RecurrentPolicy):
    """Deterministic."""

    def __init__(self, perception: Perception, actor: SquashedGaussianActor) -> None:
        super().__init__(perception.state_dim)
        self.perception, self.actor = perception, actor

    def forward(self, obs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Executable action and memory."""
        shown, kept = self.perception(obs, state)
        action = self.perception.scaler.from_unit(self.actor(shown))
        return action, torch.cat([kept, action], -1)


class StudentBehaviour(RecurrentBehaviour):
    """Exploring."""

    def __init__(self, perception: Perception, actor: SquashedGaussianActor) -> None:
        super().__init__(perception.state_dim)
        self.perception, self.actor = perception, actor

    def forward(self, obs: Tensor, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Executable action and memory."""
        shown, kept = self.perception(obs, state)
        action = self.perception.scaler.from_unit(self.actor.explore(shown, noise))
        return action, torch.cat([kept, action], -1)
