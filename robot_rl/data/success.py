"""Success labels where rewards can't be trusted: what the log shows, and a replay in the simulator.

An open-loop replay drifts from the log, above all in contact, so a replay that fails proves little.
Where the logged observations themselves show the goal, they decide, and the replay stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.envs import Env, ObservedStateEnv, make_env
from robot_rl.errors import DataError, EnvError

SuccessRule = Literal["auto", "observed", "replay", "none"]


@dataclass
class SuccessLabeller:
    """Labels episodes one by one and remembers what it saw.

    Args:
        env_id: Environment with `reset_to_obs` and `shows_success` (`can_label`).
        rule: "observed" and "auto" take the label from the logged observations, "replay" from the replay; both are
            always computed. "auto" leaves episodes alone that the log labels.
    """

    env_id: str
    rule: SuccessRule
    observed: int = 0
    replayed: int = 0
    agreed: int = 0
    told: int = 0
    drift: list[float] = field(default_factory=list[float])

    def label(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The same episodes with `success` set."""
        env = make_env(self.env_id, max_episode_steps=10**9)
        env.reset(seed=0)
        simulator = cast("ObservedStateEnv", _labelling_layer(env))
        for episode in episodes:
            if self.rule == "auto" and episode.success is not None:
                self.told += 1
                yield episode
                continue
            shown = simulator.shows_success(episode.observations)
            replayed = self._replay(env, simulator, episode)
            self.observed += shown
            self.replayed += replayed
            self.agreed += shown == replayed
            yield replace(episode, success=replayed if self.rule == "replay" else shown)
        env.close()

    @property
    def note(self) -> str:
        """What a user should know about these labels."""
        told = f"success of {self.told} episodes is the log's own label" if self.told else ""
        if not self.drift:
            return told or "no episode to label"
        chosen = "the replay" if self.rule == "replay" else "the logged observations"
        return (f"{told}; else " if told else "") + (
            f"success is labelled from {chosen}: the observations show it in {self.observed} of "
            f"{len(self.drift)} episodes, an open-loop replay in {self.env_id} reaches it in {self.replayed}, and "
            f"they agree on {self.agreed}; the replays' mean observation error is {np.mean(self.drift):.3f} "
            f"(worst episode {np.max(self.drift):.3f})"
        )

    def _replay(self, env: Env, simulator: ObservedStateEnv, episode: Episode) -> bool:
        try:
            simulator.reset_to_obs(episode.observations[0])
        except EnvError as error:
            raise DataError(f"{episode.source} cannot be replayed: {error} Or use --success none.") from error
        info: dict[str, Any] = {}
        error = 0.0
        for action, wanted in zip(episode.actions, episode.observations[1:], strict=True):
            obs, _, _, _, info = env.step(action)
            error += float(np.abs(obs - wanted).mean())
        self.drift.append(error / len(episode))
        return bool(info["is_success"])


def can_label(env_id: str) -> bool:
    """Whether the environment can show a logged observation and tell success from it."""
    if not env_id:
        return False
    env = make_env(env_id)
    found = _labelling_layer(env) is not None
    env.close()
    return found


def _labelling_layer(env: Env) -> Any:
    """The wrapper that offers `reset_to_obs` and `shows_success`, wherever it sits under Gymnasium's own."""
    layer: Any = env
    while layer is not None and not {"reset_to_obs", "shows_success"} <= set(dir(type(layer))):
        layer = getattr(layer, "env", None)
    return layer
