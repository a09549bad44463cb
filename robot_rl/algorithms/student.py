"""Learners on the state of a latent world model, with or without a teacher of other tasks.

Each update draws sequences and makes three steps:

    model        world model + distillation from the teacher (`robot_rl.transfer.similarity`)
    replay       the sources' actions, given the projected states (`robot_rl.transfer.action_replay`)
    improve      actor and critic on the posterior states: by SAC (`latent-sac`) or in imagination (`dreamer`)

The structure is Vid2Act's (arXiv 2306.03360). Ours differ in that observations need not be pictures, that the teacher's
states are those at the mean of its latents, and that the actor may see the observation beside the state (`direct`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend
from robot_rl.data.mixture import of_sequences
from robot_rl.data.replay import TransitionSource
from robot_rl.data.sequences import Sequences
from robot_rl.data.stats import ObservationStats
from robot_rl.data.transition import Rows
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.latent.model import LatentModel, LatentModelConfig
from robot_rl.nets.actor import FIRST_STD, SquashedGaussianActor
from robot_rl.spec import Spec
from robot_rl.transfer.guide import Guide, TransferConfig
from robot_rl.transfer.policy import Perception, StudentBehaviour, StudentPolicy

EARNED = "transfer/earned "  # how a source's mean return on trial is named among the metrics


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """What all learners on a latent state share."""

    sequences: int = 16  # pieces of episodes in a batch
    length: int = 16  # transitions of a piece
    reward_scale: float = 1.0  # rewards are multiplied by it for actor and critics; values of 1 to 100 are learned best
    model: LatentModelConfig = field(default_factory=LatentModelConfig)  # the world model
    transfer: TransferConfig = field(default_factory=TransferConfig)  # what is taken from a teacher

    def __post_init__(self) -> None:
        if self.sequences < 1 or self.length < 2:
            raise ConfigError(
                f"--agent.sequences is {self.sequences} and --agent.length {self.length}; they must be at least 1 "
                f"and 2."
            )
        if self.reward_scale <= 0:
            raise ConfigError(f"--agent.reward-scale is {self.reward_scale:g}; it must be above 0.")


class Student(Agent):
    """World model, teacher's guide and policy; how actor and critics improve is the subclass's.

    Args:
        cfg: Options.
        spec: Widths and action bounds.
        stats: Frozen observation statistics; the teacher's where there is one.
        direct: Show the actor the observation beside the state.
        seed: Of the generator.
        device: "cpu" or "cuda".
    """

    actor_net: SquashedGaussianActor

    def __init__(
        self,
        cfg: StudentConfig,
        spec: Spec,
        stats: ObservationStats,
        *,
        direct: bool,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self._direct = direct
        self.model = LatentModel(cfg.model, spec.obs_dim, spec.action_dim)
        taken = cfg.transfer
        wanted = taken.sources and (taken.distill or taken.action_replay)
        self.guide = Guide(taken, spec.obs_dim, spec.action_dim, self.model.width) if wanted else None
        self.to(self.device)
        self.optimisers["model"] = adam(self._modelled(), cfg.model.model_lr)
        if self.guide is not None and taken.action_replay:
            self.optimisers["replay"] = adam(self.guide.replay.parameters(), taken.replay_lr)

    @abstractmethod
    def improve(self, seen: Sequences, states: Tensor, theirs: Tensor | None) -> Metrics:
        """One step of actor and critics.

        Args:
            seen: The sequences, scaled.
            states: Posterior states without gradients, (L+1, B, F).
            theirs: The teacher's, (L+1, B, K, F'); None without one.
        """

    @property
    def shown_dim(self) -> int:
        """Width of what the actor sees."""
        width = self.model.width + (self.spec.obs_dim if self._direct else 0)
        return width + (0 if self.guide is None else self.guide.width)

    def draw(self, source: TransitionSource, generator: torch.Generator) -> Sequences:
        """A batch of pieces of episodes."""
        return of_sequences(source).sequences(self.cfg.sequences, self.cfg.length, generator)

    def learn(self, batch: Sequences) -> Metrics:
        """One step of everything, on scaled sequences."""
        trace = self.model.observe(batch.obs, batch.action, None, self.generator)
        loss, metrics = self.model.loss(batch, trace)
        theirs = None
        if self.guide is not None:
            theirs, surprise = self.guide.watch(batch)
            distilled, more = self._distil(self.guide, batch, trace.state, theirs, surprise)
            loss = loss + distilled
            metrics |= more
        descend(self.optimisers["model"], loss, clip=self.cfg.model.clip)
        if "replay" in self.optimisers and self.updates % self.cfg.transfer.replay_every == 0:
            metrics |= self._replay_step()
        return metrics | self.improve(batch, trace.state.detach(), theirs)

    def begin_with(self, teacher: LatentModel) -> None:
        """Take over the weights of a jointly trained model; its inputs that name the task fall away.

        Raises:
            CheckpointError: If its sizes are not those of `--agent.model`.
        """
        own, trained = self.model.state_dict(), teacher.state_dict()
        for name, value in own.items():
            theirs = trained[name]
            if theirs.ndim == 2 and theirs.shape[1] == value.shape[1] + teacher.tasks:
                theirs = theirs[:, : value.shape[1]]  # the context stands last
            if theirs.shape != value.shape:
                raise CheckpointError(
                    f"The teacher's {name} is {tuple(theirs.shape)}, the student's {tuple(value.shape)}. Train "
                    f"the teacher with the sizes of --agent.model, or leave --agent.transfer.initialise out."
                )
            own[name] = theirs
        self.model.load_state_dict(own)

    def rehearse(self) -> None:
        """Let the action replay get to know the sources ahead of the first interaction."""
        for _ in range(self.cfg.transfer.rehearsal if "replay" in self.optimisers else 0):
            self._replay_step()

    @property
    def version(self) -> int:
        """Updates, and the turns of the trials: between those nothing else may change."""
        return self.updates + (0 if self.guide is None else self.guide.trials.turns)

    def witness(self, rows: Rows) -> None:
        """Whole episodes count for the trials; if no source is kept to, the actor explores as without a teacher."""
        if self.guide is None:
            return
        trials = self.guide.trials
        for row in rows:
            turns = trials.turns
            trials.witness(row)
            if trials.turns > turns:
                trials.since.fill_(self.version)
                if not trials.running and trials.alone:
                    self._acting_net.explore_by(FIRST_STD)

    @property
    def earnings(self) -> dict[str, float]:
        """Mean return of each source on trial, for the log."""
        return {} if self.guide is None else {EARNED + name: mean for name, mean in self.guide.trials.earnings.items()}

    @property
    def policy(self) -> StudentPolicy:
        """The deterministic policy, with a memory."""
        return StudentPolicy(self._perception(trying=False), self._acting_net)

    @property
    def behaviour(self) -> StudentBehaviour:
        """The policy as it collects, with a memory."""
        return StudentBehaviour(self._perception(trying=True), self._acting_net)

    def adopt(self, former: Agent) -> None:
        """Refused: no other learner's actor sees a latent state.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{type(self).__name__} acts on the state of its own world model; the actor of {type(former).__name__} "
            f"cannot be taken over. Leave --start out, and give the logs with --data."
        )

    def shown(self, states: Tensor, obs: Tensor, theirs: Tensor | None) -> Tensor:
        """What the actor sees, (..., F), (..., S), (..., K, F') -> (..., shown_dim)."""
        parts = [states, obs] if self._direct else [states]
        if self.guide is not None and self.guide.width and theirs is not None:
            parts.append(self.guide.hint(theirs, states, obs, self.guide.draw_z(states, self.generator), trying=True))
        return torch.cat(parts, -1)

    @property
    @abstractmethod
    def _acting_net(self) -> SquashedGaussianActor: ...

    def _perception(self, *, trying: bool) -> Perception:
        actions = self.spec.action_dim
        return Perception(self.scaler, self.model, self.guide, direct=self._direct, actions=actions, trying=trying)

    def _modelled(self) -> list[nn.Parameter]:
        parameters = list(self.model.parameters())
        if self.guide is not None:
            similarity = self.guide.similarity
            parameters += list((similarity.project if similarity.kind == "uniform" else similarity).parameters())
        return parameters

    def _distil(
        self, guide: Guide, seen: Sequences, states: Tensor, theirs: Tensor, surprise: Tensor | None
    ) -> tuple[Tensor, Metrics]:
        own = states if guide.cfg.distill else states.detach()
        there = torch.cat([torch.ones_like(seen.valid[:1]), seen.valid])
        loss, weights = guide.similarity.loss(theirs, own, there, surprise)
        named = {f"transfer/w {name}": w for name, w in zip(guide.cfg.sources, weights, strict=True)}
        return guide.cfg.distill_weight * loss, {"transfer/distillation": loss.detach()} | named

    def _replay_step(self) -> Metrics:
        if self.guide is None:
            return {}
        loss = self.guide.replay_loss(self.generator)
        descend(self.optimisers["replay"], loss)
        return {"transfer/replay": loss.detach()}
