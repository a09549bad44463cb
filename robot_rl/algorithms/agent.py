"""What every learner is: a policy, an update, and a state that can be saved to the last bit."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn

from robot_rl.algorithms.steps import polyak
from robot_rl.data.replay import Batch, TransitionSource
from robot_rl.data.sequences import Sequences
from robot_rl.data.stats import ObservationStats
from robot_rl.data.transition import Rows
from robot_rl.device import fast_products, restore_generator
from robot_rl.errors import CheckpointError, DivergedError
from robot_rl.nets.actor import Actor, Behaviour, Policy, Scaler
from robot_rl.nets.recurrent import RecurrentBehaviour, RecurrentPolicy
from robot_rl.spec import Spec

Metrics = dict[str, Tensor]


class Agent(nn.Module, ABC):
    """Base of the learners.

    A subclass creates its networks as attributes, `actor` among them, registers its optimisers in
    `self.optimisers`, and implements `learn`, which leaves the actor alone while `actor_frozen` is set.
    Sampling inside `learn` uses `self.generator` alone, so the state below is the whole state.

    Args:
        spec: Widths and action bounds.
        stats: Frozen observation statistics.
        seed: Of the agent's own generator.
        device: "cpu" or "cuda".
    """

    cfg: Any  # the learner's config dataclass

    def __init__(self, spec: Spec, stats: ObservationStats, seed: int, device: str) -> None:
        super().__init__()
        self.spec = spec
        self.stats = stats
        self.device = torch.device(device)
        self.scaler = Scaler(spec, stats)
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.updates = 0
        self.averaged_actor: Actor | None = None
        self.actor_frozen = False  # critics alone learn: while they get to know new data

    @abstractmethod
    def learn(self, batch: Any) -> Metrics:
        """One update on what `draw` gives, observations normalised and actions in [-1, 1]."""

    def draw(self, source: TransitionSource, generator: torch.Generator) -> Batch | Sequences:
        """What one update is made from: transitions, or pieces of episodes for learners that remember."""
        return source.sample(self.cfg.batch_size, generator)

    @property
    def version(self) -> int:
        """Of the weights, as those who act are told; it never falls."""
        return self.updates

    def witness(self, rows: Rows) -> None:
        """Transitions of one actor, in order, (N,): for learners who judge what they do by whole episodes."""

    def update(self, batch: Batch | Sequences) -> Metrics:
        """One update on a batch in the robot's units; metrics stay on the device."""
        self.updates += 1
        scaler = self.scaler
        scaled = batch._replace(obs=scaler.obs(batch.obs), action=scaler.to_unit(batch.action))
        with fast_products(self.device):
            metrics = self.learn(
                scaled._replace(next_obs=scaler.obs(scaled.next_obs)) if isinstance(scaled, Batch) else scaled
            )
        if self.averaged_actor is not None and not self.actor_frozen:
            rate = min(self.cfg.ema, self.updates / (self.updates + 10.0))  # follows closely at first
            polyak(self.averaged_actor, self._actor, 1.0 - rate)
        return metrics

    def average_actor(self, rate: float) -> None:
        """From now on an exponential average of the actor's weights acts and is exported in its place.

        Single iterates of an actor that is trained on little data differ far more in success than their
        losses tell; the average is steadier. Learning itself goes on with the actor.

        Args:
            rate: Share of the old average kept at each update, such as 0.999; 0 leaves the actor to act itself.
        """
        if rate:
            self.averaged_actor = copy.deepcopy(self._actor).requires_grad_(False)

    @property
    def _actor(self) -> Actor:
        return cast("Actor", self.get_submodule("actor"))

    @property
    def _acting(self) -> Actor:
        return self._actor if self.averaged_actor is None else self.averaged_actor

    @property
    def policy(self) -> Policy | RecurrentPolicy:
        """The deterministic policy: raw observation in, executable action out; a memory too where it has one."""
        return Policy(self._acting, self.scaler)

    @property
    def squashes(self) -> bool:
        """Whether the actor sends its mean through tanh; else it clips it."""
        return self._actor.squash_mean

    def take_over(self, former: Agent) -> None:
        """Go on from `former`, a learner of the same kind: networks, optimisers and update count.

        Raises:
            CheckpointError: If its networks have other shapes.
        """
        mine, theirs = self.state_dict(), former.state_dict()
        if self.averaged_actor is None:
            theirs = {name: value for name, value in theirs.items() if not name.startswith("averaged_actor.")}
        elif former.averaged_actor is None:
            theirs |= {f"averaged_{name}": value for name, value in theirs.items() if name.startswith("actor.")}
        odd = [
            f"{name} is {tuple(theirs[name].shape) if name in theirs else 'missing'}, wanted {tuple(value.shape)}"
            for name, value in mine.items()
            if name not in theirs or theirs[name].shape != value.shape
        ]
        if odd:
            raise CheckpointError(
                f"The pretrained networks do not fit the options given: {'; '.join(odd[:3])}. Leave out --agent "
                f"options that change the networks."
            )
        self.load_state_dict(theirs)
        state = former.training_state()
        self.load_training_state(
            state | {"generator": self.generator.get_state(), "torch_generator": torch.get_rng_state()}
        )

    def adopt(self, former: Agent) -> None:
        """Begin with the actor of `former`, a learner of another kind; everything else is new."""
        self._actor.adopt(former._acting)
        self.average_actor(getattr(self.cfg, "ema", 0.0))

    @property
    def behaviour(self) -> Behaviour | RecurrentBehaviour:
        """The policy as it collects: with its own exploration noise."""
        return Behaviour(self._acting, self.scaler)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """Deterministic executable action for raw observations, (B, S) -> (B, A)."""
        return self.policy(obs)

    def require_finite(self) -> None:
        """Refuse to keep or send weights that are lost: one NaN spreads to all within some updates.

        Raises:
            DivergedError: Naming a weight that is not finite.
        """
        for name, value in self.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise DivergedError(
                    f"Training diverged: {name} is not finite after {self.updates} updates. Lower --agent.lr, and look "
                    f"at the data with `robot-rl data doctor`. The last checkpoint is kept."
                )

    def training_state(self) -> dict[str, Tensor]:
        """Optimisers, generator and counter as named tensors; `state_dict` holds the networks."""
        state = {
            "generator": self.generator.get_state(),
            "torch_generator": torch.get_rng_state(),  # dropout draws from it
            "updates": torch.tensor(self.updates),
        }
        for name, optimiser in self.optimisers.items():
            for index, slots in cast("dict[int, dict[str, Tensor]]", optimiser.state_dict()["state"]).items():
                state |= {f"{name}.{index}.{slot}": value for slot, value in slots.items()}
        return state

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `training_state`.

        Raises:
            CheckpointError: If a tensor is missing.
        """
        rest = dict(state)
        try:
            restore_generator(self.generator, rest.pop("generator"))
            torch.set_rng_state(rest.pop("torch_generator").cpu())
            self.updates = int(rest.pop("updates"))
        except KeyError as error:
            raise CheckpointError(f"The training state lacks {error}; it was not written by this program.") from error
        for name, optimiser in self.optimisers.items():
            full = optimiser.state_dict()
            slots: dict[int, dict[str, Tensor]] = {}
            for key in [k for k in rest if k.startswith(f"{name}.")]:
                index, slot = key.removeprefix(f"{name}.").split(".")
                slots.setdefault(int(index), {})[slot] = rest[key]
            optimiser.load_state_dict({"state": slots, "param_groups": full["param_groups"]})
