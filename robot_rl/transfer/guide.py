"""What a student takes from a teacher: the sources' view of its own observations, weighted, and their actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from robot_rl.data.sequences import Sequences
from robot_rl.errors import ConfigError
from robot_rl.latent.model import LatentModel, LatentModelConfig, symlog
from robot_rl.latent.rssm import Trace
from robot_rl.transfer.action_replay import CLIP, GUIDE, ActionReplay
from robot_rl.transfer.similarity import Kind, Similarity
from robot_rl.transfer.trials import Trials

REPLAYED = 256  # steps of the sources in each batch of the action replay


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What is taken from a teacher (`--transfer RUN`); each part can be switched off."""

    similarity: Kind = "learned"  # weights: as published, by whose model predicts what is seen, or all the same
    distill: bool = True  # draw the student's states towards the sources'
    action_replay: bool = True  # let the most similar source's actions inform the actor
    residual: bool = False  # the actor adds to the replayed action, and so begins with it
    rehearsal: int = 0  # updates of the action replay ahead of the first interaction
    trials: int = 0  # episodes for which each source's replayed action, and none, is tried; the best is kept to
    initialise: bool = False  # begin with the teacher's model itself, as a jointly trained model would
    distill_weight: float = 1.0  # of the distillation against the model's own loss
    floor: float = 0.1  # smallest weight of a source in the distillation, in [0, 1]
    replay_hidden: tuple[int, ...] = (256, 256)  # hidden layers of the action replay; the paper uses 750 wide ones
    replay_latent: int = 8  # width of its latent
    replay_sees: Literal["state", "observation"] = "state"  # the teacher's, as published; observations carry further
    replay_lr: float = 3e-4  # its learning rate
    replay_every: int = 1  # updates from one of its own to the next
    sources: tyro.conf.Suppress[tuple[str, ...]] = ()  # names of the source tasks; come with --transfer
    teacher: tyro.conf.Suppress[LatentModelConfig] = field(default_factory=LatentModelConfig)  # sizes; likewise

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor <= 1.0:
            raise ConfigError(f"--agent.transfer.floor is {self.floor:g}; it must lie in [0, 1].")
        if self.residual and not self.action_replay:
            raise ConfigError("--agent.transfer.residual adds to the replayed action, but action replay is off.")
        if self.rehearsal < 0:
            raise ConfigError(f"--agent.transfer.rehearsal is {self.rehearsal}; it must be 0 or more.")
        if self.trials < 0:
            raise ConfigError(f"--agent.transfer.trials is {self.trials}; it must be 0 or more.")
        if self.trials and not (self.residual and self.rehearsal):
            raise ConfigError(
                f"--agent.transfer.trials {self.trials} lets the replayed actions act, which needs "
                f"--agent.transfer.residual and a --agent.transfer.rehearsal of some 2,000 updates; they are "
                f"{'on' if self.residual else 'off'} and {self.rehearsal}."
            )
        if self.replay_every < 1:
            raise ConfigError(f"--agent.transfer.replay-every is {self.replay_every}; it must be at least 1.")


class SourceSteps(NamedTuple):
    """Every step of the sources as the teacher saw it, (N, ...)."""

    obs: Tensor  # (N, S), normalised by the teacher's statistics
    state: Tensor  # (N, F'), of the teacher with the step's own task
    action: Tensor  # (N, A), in [-1, 1]
    source: Tensor  # (N,) int64


class Guide(nn.Module):
    """A frozen teacher with K tasks, the similarity weights and the action replay.

    Whose actions are replayed is said by the weights, or by what the sources earned (`robot_rl.transfer.trials`).

    Args:
        cfg: Parts and sizes.
        observations: S.
        actions: A.
        student: Width of the student's state.
    """

    onehots: Tensor

    def __init__(self, cfg: TransferConfig, observations: int, actions: int, student: int) -> None:
        super().__init__()
        count = len(cfg.sources)
        self.cfg = cfg
        self.teacher = LatentModel(cfg.teacher, observations, actions, count).requires_grad_(False)
        self.register_buffer("onehots", torch.eye(count))
        self.similarity = Similarity(self.teacher.width, student, count, kind=cfg.similarity, floor=cfg.floor)
        self.observations, self.actions = observations, actions
        seen = student if cfg.replay_sees == "state" else observations
        self.replay = ActionReplay(seen, actions, count, cfg.replay_hidden, cfg.replay_latent)
        self.trials = Trials(cfg.sources, cfg.trials)
        self.steps: SourceSteps | None = None  # what the action replay learns from; not part of a checkpoint

    @property
    def width(self) -> int:
        """Of what the actor gets to see beside the state."""
        if not self.cfg.action_replay:
            return 0
        return GUIDE + (self.actions if self.cfg.residual else 0)

    @torch.no_grad()
    def features(self, obs: Tensor, actions: Tensor) -> Tensor:
        """The teacher's states with each task, without chance, (T, B, S), (T-1, B, A) -> (T, B, K, F')."""
        return self._by_source(self._observe(obs, actions).state, len(obs))

    @torch.no_grad()
    def watch(self, seen: Sequences) -> tuple[Tensor, Tensor | None]:
        """The teacher's states with each task, and how wrong it was about what came.

        Args:
            seen: T - 1 transitions of B pieces, scaled.

        Returns:
            States (T, B, K, F'); for "predicted" weights also the error, (T, B, K): the negative log-likelihood, up to
            a constant, of each observation before it was seen and of the reward that came with it, in nats.
        """
        trace, count = self._observe(seen.obs, seen.action), len(seen.obs)
        states = self._by_source(trace.state, count)
        if self.cfg.similarity != "predicted":
            return states, None
        expected = torch.cat([trace.state[..., : self.teacher.cfg.deter], trace.prior.mean], -1)
        many = seen.obs.repeat_interleave(len(self.onehots), 1)
        error = 0.5 * (self.teacher.decoder(expected) - many).square().sum(-1)
        told = self.teacher.reward(trace.state[1:]).squeeze(-1)
        came = symlog(seen.reward).repeat_interleave(len(self.onehots), 1)
        error[1:] += 0.5 * (told - came).square()
        return states, self._by_source(error, count)

    def follow(self, states: Tensor, action: Tensor, obs: Tensor) -> Tensor:
        """The teacher's states after another step, (B, K, F'), (B, A), (B, S) -> (B, K, F')."""
        count = len(self.onehots)
        many = [x.unsqueeze(1).expand(-1, count, -1) for x in (action, obs)]
        context = self.onehots.expand(obs.shape[0], count, count)
        return self.teacher.correct(states, many[0], many[1], context)

    def expect(self, states: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        """The teacher's states as it imagines them after `action`, (B, K, F'), (B, A), (B, K, Z) -> (B, K, F')."""
        count = len(self.onehots)
        context = self.onehots.expand(action.shape[0], count, count)
        return self.teacher.rssm.imagine(states, action.unsqueeze(1).expand(-1, count, -1), context, noise)

    def hint(self, theirs: Tensor, own: Tensor, obs: Tensor, z: Tensor, *, trying: bool) -> Tensor:
        """What the actor sees beside its state: g of the most similar source, or of the one that paid most.

        Args:
            theirs: The teacher's states, (..., K, F').
            own: The student's, (..., F).
            obs: Normalised observations, (..., S).
            z: (..., Z).
            trying: Whether it is the turn of whoever is on trial; else that of the best so far.
        """
        which = self.trials.acting if trying else self.trials.kept
        best = self.similarity.weights(theirs, own).argmax(-1)  # (...,)
        chosen = torch.where(which.sum() > 0, which[:-1], F.one_hot(best, len(self.onehots)).to(own.dtype))
        guide = self.replay.guide(self._replayed((theirs * chosen.unsqueeze(-1)).sum(-2), obs), chosen, z)
        shown = torch.cat([guide, self.replay.proposal(guide)], -1) if self.cfg.residual else guide
        return shown * (1.0 - which[-1])

    def draw_z(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """z for states (..., F), drawn and clipped."""
        shape = (*like.shape[:-1], self.cfg.replay_latent)
        return torch.randn(shape, generator=generator, device=like.device).clamp_(-CLIP, CLIP)

    def replay_loss(self, generator: torch.Generator) -> Tensor:
        """The action replay's loss on a batch of the sources' steps.

        Raises:
            ConfigError: If the sources' steps were not given.
        """
        if self.steps is None:
            raise ConfigError("Action replay learns from the sources' steps: give --transfer RUN on resuming too.")
        rows = torch.randint(len(self.steps.action), (REPLAYED,), generator=generator, device=generator.device)
        with torch.no_grad():
            seen = self._replayed(self.steps.state[rows], self.steps.obs[rows])
        return self.replay.loss(seen, self.steps.source[rows], self.steps.action[rows], generator)

    def _observe(self, obs: Tensor, actions: Tensor) -> Trace:
        """The teacher with each task goes through sequences, those of a piece side by side, (T, B K, ...)."""
        count, rows = len(self.onehots), obs.shape[1]
        context = self.onehots.repeat(rows, 1)  # (B K, K)
        many_obs, many_actions = obs.repeat_interleave(count, 1), actions.repeat_interleave(count, 1)
        return self.teacher.observe(many_obs, many_actions, context, None)

    def _by_source(self, x: Tensor, length: int) -> Tensor:
        """(T, B K, ...) -> (T, B, K, ...)."""
        return x.view(length, -1, len(self.onehots), *x.shape[2:])

    def _replayed(self, state: Tensor, obs: Tensor) -> Tensor:
        """What the action replay sees of a source, (..., F'), (..., S)."""
        return obs if self.cfg.replay_sees == "observation" else self.similarity.project(state)
