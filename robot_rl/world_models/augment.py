"""Augmentation: a share of every batch comes from a world model. One place, any learner, offline or online.

    next-state  logged transitions whose s' alone is the model's, as published; r and the end stay logged
    consistent  logged (s, a); s', r and the end are the model's
    rollout     up to `horizon` steps of the learner's own exploring policy in the model, from logged states;
                steps of which the model is less sure than of `gate` of the held-out data are left out: logged
                transitions take their place
    noise       logged transitions with Gaussian noise on s' of the model's own error: is it the model, or
                is it smoothing?

Where an end is predicted, the next value counts by the probability that the task goes on; or the environment's own
rule decides from the predicted observation (`ends`), and no model has to learn it from the few ends in a log.

Predictions are made in blocks, of which batches then draw, each prediction `reuse` times on average: one
large product in place of many small ones. With `reuse` 1 every prediction is fresh, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.algorithms.agent import Agent
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Batch, TransitionSource
from robot_rl.device import fast_products, restore_generator
from robot_rl.envs import make_env
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.spec import Array
from robot_rl.world_models.fit import refit
from robot_rl.world_models.model import Prediction, WorldModel
from robot_rl.world_models.store import load_model

Mode = Literal["next-state", "consistent", "rollout", "noise"]
ExploreFn = Callable[[Tensor, Tensor], Tensor]
"""Observation (B, S), standard normal noise (B, A) -> executable action (B, A)."""
EndsFn = Callable[[Tensor], Tensor]
"""Observation (B, S) -> whether arriving there ends the task, (B,) of 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How a world model enters the batches."""

    mode: Mode = "next-state"  # what is generated
    share: float = 0.5  # of each batch that is generated, in [0, 1]
    horizon: int = 1  # steps of a rollout, 1 to 3
    gate: float = 0.9  # rollouts keep what is as sure as this share of held-out data, in (0, 1]
    block: int = 4096  # predictions made at a time
    reuse: float = 4.0  # times a prediction is drawn, on average
    ends: Literal["model", "task"] = (
        "model"  # who says whether a predicted step ends the task; "task" is the environment
    )
    force: bool = False  # use a model that a naive predictor beats

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"--augment.share is {self.share:g}; it must lie in [0, 1].")
        if not 1 <= self.horizon <= 3:
            raise ConfigError(f"--augment.horizon is {self.horizon}; it must be 1, 2 or 3: errors add up beyond.")
        if not 0 < self.gate <= 1:
            raise ConfigError(f"--augment.gate is {self.gate:g}; it must lie in (0, 1].")
        if self.block < 1 or self.reuse <= 0:
            raise ConfigError(f"--augment.block is {self.block} and --augment.reuse {self.reuse:g}; both must be > 0.")

    def require_logged(self, reward: str) -> None:
        """Refuse predicted rewards where another rule than the logged one is learned from.

        Raises:
            ConfigError: If the mode predicts rewards and `reward` is not "logged".
        """
        if reward != "logged" and self.mode in ("consistent", "rollout"):
            raise ConfigError(
                f"--augment.mode {self.mode} takes rewards from the world model, which knows the logged ones, "
                f"but --reward is {reward}. Use --augment.mode next-state."
            )


class Augmented:
    """A source of batches of which a share is generated.

    Args:
        base: Where real transitions come from, and states to start from.
        model: The world model.
        cfg: How it is used.
        explore: The learner's exploring policy, for rollouts.
        ends: The task's own rule for where it ends; None leaves it to the model.
    """

    def __init__(
        self,
        base: TransitionSource,
        model: WorldModel,
        cfg: AugmentConfig,
        explore: ExploreFn,
        ends: EndsFn | None = None,
    ) -> None:
        self.base = base
        self.model = model.eval()
        self.cfg = cfg
        self.refits = 0
        self._explore = explore
        self._ends = ends
        self._origin = torch.tensor(list(model.digest), dtype=torch.uint8)  # of the model as it came
        self._block: Batch | None = None
        self._left = 0.0  # rows that may still be drawn from the block

    def __len__(self) -> int:
        return len(self.base)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` transitions, `round(share * size)` of them generated, those last."""
        count = round(self.cfg.share * size)
        if count == 0:
            return self.base.sample(size, generator)
        if self._block is None or self._left < count:
            self._block = self._generate(generator)
            self._left = max(self.cfg.block * self.cfg.reuse, count)
        self._left -= count
        block = self._block
        # What the gate kept out is made up for by real transitions, and not by drawing the few that passed ever again.
        count = round(count * min(1.0, len(block.obs) / self.cfg.block))
        if count == 0:
            return self.base.sample(size, generator)
        picked = torch.randint(len(block.obs), (count,), generator=generator, device=block.obs.device)
        made = Batch(*(column[picked] for column in block))
        if count == size:
            return made
        real = self.base.sample(size - count, generator)
        return Batch(*(torch.cat(pair) for pair in zip(real, made, strict=True)))

    def refit(self, episodes: Sequence[Episode], epochs: int) -> float:
        """Go on training the model on all data seen so far; returns its held-out error.

        Raises:
            DataError: If there are fewer than two episodes.
        """
        error = refit(self.model, episodes, epochs=epochs)
        self.model.eval()
        self.refits += 1
        self._block, self._left = None, 0.0  # predictions of the model as it was
        return error

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs to go on with the same batches; the model's weights once they were refitted."""
        state = {
            "augment.left": torch.tensor(self._left, dtype=torch.float64),
            "augment.refits": torch.tensor(self.refits),
            "augment.model": self._origin,
        }
        if self.refits:
            state |= {f"augment.weights.{name}": value for name, value in self.model.state_dict().items()}
            state["augment.generator"] = self.model.generator.get_state()
        if self._block is not None:
            state |= {f"augment.block.{name}": column for name, column in self._block._asdict().items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`.

        Raises:
            CheckpointError: If the state was left by another world model, or by a run without one.
        """
        if "augment.model" not in state:
            raise CheckpointError("The run was trained without --world-model; resume it without one.")
        if not torch.equal(state["augment.model"].cpu(), self._origin):
            raise CheckpointError(
                "The run was trained with another world model than the one given. Give --world-model the same run, "
                "or start anew with another --out."
            )
        self._left, self.refits = float(state["augment.left"]), int(state["augment.refits"])
        if self.refits:
            weights = {k.removeprefix("augment.weights."): v for k, v in state.items() if "augment.weights." in k}
            self.model.load_state_dict(weights)
            restore_generator(self.model.generator, state["augment.generator"])
        device = self.model.device
        columns = {n: state[f"augment.block.{n}"].to(device) for n in Batch._fields if f"augment.block.{n}" in state}
        self._block = Batch(**columns) if columns else None

    def _ended(self, found: Prediction) -> Tensor:
        """How likely each predicted step ends the task, (B,)."""
        return found.terminated if self._ends is None else self._ends(found.next_obs)

    @torch.no_grad()
    def _generate(self, generator: torch.Generator) -> Batch:
        with fast_products(self.model.device):
            return self._generated(generator)

    def _generated(self, generator: torch.Generator) -> Batch:
        real = self.base.sample(self.cfg.block, generator)
        if self.cfg.mode == "noise":
            noise = torch.randn(real.next_obs.shape, generator=generator, device=real.next_obs.device)
            return real._replace(next_obs=real.next_obs + self.model.error_rms * noise)
        if self.cfg.mode == "rollout":
            return self._rollout(real.obs, generator)
        found = self.model.step(real.obs, real.action, generator)
        if self.cfg.mode == "next-state":
            return real._replace(next_obs=found.next_obs)
        return real._replace(next_obs=found.next_obs, reward=found.reward, mask=1 - self._ended(found))

    def _rollout(self, obs: Tensor, generator: torch.Generator) -> Batch:
        """Steps of the policy in the model, as many for each row as the gate and the task allow."""
        limit = self.model.gate(self.cfg.gate)
        pieces: list[Batch] = []
        for _ in range(self.cfg.horizon):
            noise = torch.randn(len(obs), self.model.spec.action_dim, generator=generator, device=obs.device)
            action = self._explore(obs, noise)
            found = self.model.step(obs, action, generator)
            sure = found.uncertainty <= limit
            ended = self._ended(found)
            mask = 1 - ended
            step = Batch(obs, action, found.reward, mask, found.next_obs, torch.zeros_like(mask))
            pieces.append(Batch(*(column[sure] for column in step)))
            obs = found.next_obs[sure & (ended <= 0.5)]
            if len(obs) == 0:
                break
        return Batch(*(torch.cat(column) for column in zip(*pieces, strict=True)))


def augmented(base: TransitionSource, run: Path, cfg: AugmentConfig, agent: Agent) -> Augmented:
    """`base` with a share from the world model of `run`, for `agent`.

    Raises:
        CheckpointError: If the run is not a world model's, or not at its end.
        ConfigError: If a naive predictor beats the model, unless forced, or the task has no rule for its end.
        EnvError: If the environment that knows where the task ends cannot be made.
        SpecMismatch: If it was trained for another robot.
    """
    ends = _rule_of(agent.spec.env_id) if cfg.ends == "task" else None
    with torch.random.fork_rng(devices=[]):  # building it draws from the generator that dropout has, also on resuming
        trained, _ = load_model(run, device=str(agent.device))
    model = trained.require_usable(force=cfg.force)
    model.spec.require_match(
        agent.spec, f"the world model in {run}", "the learner", "Train one on the learner's data: robot-rl world-model."
    )
    return Augmented(base, model, cfg, exploring(agent), ends)


def exploring(agent: Agent) -> ExploreFn:
    """The exploring policy of `agent` as it is whenever it is called; dropout belongs to the updates."""

    def explore(obs: Tensor, noise: Tensor) -> Tensor:
        agent.eval()
        action = agent.behaviour(obs, noise)
        agent.train()
        return action

    return explore


def _rule_of(env_id: str) -> EndsFn:
    """Where the task of an environment ends, as it tells itself."""
    if not env_id:
        raise ConfigError(
            "--augment.ends task asks the environment where its task ends, but the logs name none. Use "
            "--augment.ends model."
        )
    env = make_env(env_id)
    if not env.has_wrapper_attr("task_ends"):
        raise ConfigError(
            f"--augment.ends task needs an environment that tells from an observation whether its task ends there; "
            f"'{env_id}' does not. Use --augment.ends model."
        )
    rule: Callable[[Array], NDArray[np.bool_]] = env.get_wrapper_attr("task_ends")
    env.close()
    return lambda obs: torch.as_tensor(rule(obs.cpu().numpy()), dtype=torch.float32, device=obs.device)
