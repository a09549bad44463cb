"""How good a world model is on held-out episodes, beside predictors that know nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robot_rl.data.episode import Episode
from robot_rl.data.replay import Batch, Replay
from robot_rl.world_models.fit import halves
from robot_rl.world_models.model import WorldModel
from robot_rl.world_models.naive import Predictor, last_state, linear

HORIZONS = (1, 2, 3, 5, 10, 20)  # steps of the open-loop errors
COVERAGES = (0.5, 0.8, 0.9, 0.95)  # intervals of which the coverage is measured
BINS = 10  # of the reliability curve


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Held-out figures; errors are root mean squares in standard deviations of the observations.

    Args:
        transitions: How many the figures rest on.
        by_dimension: Predictor -> one-step error of every dimension, (S,).
        open_loop: Predictor -> error after k steps for each k in `horizons`.
        horizons: The steps k that held-out episodes are long enough for.
        reward: Predictor -> root mean square error of the reward, in its own standard deviations.
        ends: Terminations held out, predicted among them, and predicted where there was none.
        coverage: Nominal -> observed share of held-out values inside the predicted interval.
        reliability: (expected, observed) error of tenths of the transitions, by rising uncertainty.
        rank_correlation: Spearman's, of uncertainty and error.
    """

    transitions: int
    by_dimension: dict[str, list[float]]
    open_loop: dict[str, list[float]]
    horizons: tuple[int, ...]
    reward: dict[str, float]
    ends: tuple[int, int, int]
    coverage: dict[str, float]
    reliability: list[tuple[float, float]]
    rank_correlation: float

    def error(self, predictor: str) -> float:
        """One-step error over all dimensions."""
        squared = [e * e for e in self.by_dimension[predictor]]
        return (sum(squared) / len(squared)) ** 0.5

    @property
    def best_naive(self) -> str:
        """The better of the predictors that the model must beat."""
        return min((n for n in self.by_dimension if n != "model"), key=self.error)

    @property
    def usable(self) -> bool:
        """Whether the model beats both naive predictors."""
        return self.error("model") < self.error(self.best_naive)


@torch.no_grad()
def judge(model: WorldModel, training: Sequence[Episode], held_out: Sequence[Episode]) -> Verdict:
    """Measure `model` on episodes that it was not trained on."""
    device = str(model.device)
    rows = Replay.of(model.spec, held_out, device).transitions()
    known = model.normalised(Replay.of(model.spec, training, device).transitions())
    draws = torch.Generator(model.device).manual_seed(1)
    naive: dict[str, Predictor] = {"last state": last_state, "linear": linear(known)}
    unit = model.normalised(rows)
    ours = model.step(rows.obs, rows.action, draws)
    alive = unit.mask > 0 if bool((unit.mask > 0).any()) else torch.ones_like(unit.mask, dtype=torch.bool)
    predicted = {"model": model.scaler.obs(ours.next_obs)}
    predicted |= {name: predict(unit.obs, unit.action) for name, predict in naive.items()}
    open_loop, horizons = _open_loop(model, held_out, naive, draws)
    coverage, reliability, correlation = _calibration(model, halves(rows)[1], draws)
    return Verdict(
        transitions=len(rows.obs),
        by_dimension={n: (p - unit.next_obs)[alive].square().mean(0).sqrt().tolist() for n, p in predicted.items()},
        open_loop=open_loop,
        horizons=horizons,
        reward={
            "model": _rms((ours.reward - rows.reward) / model.reward_std),
            "mean": _rms(unit.reward),
        },
        ends=_ends(ours.terminated, rows.mask),
        coverage=coverage,
        reliability=reliability,
        rank_correlation=correlation,
    )


def _open_loop(
    model: WorldModel, episodes: Sequence[Episode], naive: dict[str, Predictor], draws: torch.Generator
) -> tuple[dict[str, list[float]], tuple[int, ...]]:
    """Errors after k steps of a predictor fed with its own predictions and the real actions."""
    horizons = tuple(k for k in HORIZONS if any(e.transitions >= k for e in episodes))
    errors: dict[str, list[float]] = {name: [] for name in ("model", *naive)}
    for k in horizons:
        obs, actions, goal = _windows(model, episodes, k)
        state = dict.fromkeys(errors, obs)
        for t in range(k):
            action = model.encode(actions[:, t])
            for name, predict in naive.items():
                state[name] = predict(state[name], action)
            state["model"] = model.guess(state["model"], action, draws).next_obs
        for name, value in state.items():
            errors[name].append(_rms(value - goal))
    return errors, horizons


def _windows(model: WorldModel, episodes: Sequence[Episode], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised first and last observation, and the k actions between, of windows half overlapping."""
    firsts: list[Tensor] = []
    actions: list[Tensor] = []
    goals: list[Tensor] = []
    for episode in episodes:
        obs, action = torch.tensor(episode.observations), torch.tensor(episode.actions)
        for start in range(0, episode.transitions - k + 1, max(1, k // 2)):
            firsts.append(obs[start])
            actions.append(action[start : start + k])
            goals.append(obs[start + k])
    to_unit = model.scaler.obs
    return (
        to_unit(torch.stack(firsts).to(model.device)),
        torch.stack(actions).to(model.device),
        to_unit(torch.stack(goals).to(model.device)),
    )


def _calibration(
    model: WorldModel, rows: Batch, draws: torch.Generator
) -> tuple[dict[str, float], list[tuple[float, float]], float]:
    unit = model.normalised(rows)
    found = model.guess(unit.obs, unit.action, draws)
    error = found.next_obs - unit.next_obs
    std = (model.error_floor + model.error_slope * found.spread.square()).sqrt()
    z = (error / std.clamp_min(1e-9)).abs()
    normal = torch.distributions.Normal(0.0, 1.0)
    coverage = {
        f"{c:.0%}": float((z <= float(normal.icdf(torch.tensor(0.5 + c / 2)))).float().mean()) for c in COVERAGES
    }
    expected, observed = std.square().mean(-1), error.square().mean(-1)
    order = expected.argsort()
    bins = [
        (float(expected[part].mean().sqrt()), float(observed[part].mean().sqrt()))
        for part in order.tensor_split(BINS)
        if len(part)
    ]
    return coverage, bins, _spearman(expected, observed)


def _ends(probability: Tensor, mask: Tensor) -> tuple[int, int, int]:
    ended, said = mask == 0, probability > 0.5
    return int(ended.sum()), int((ended & said).sum()), int((~ended & said).sum())


def _spearman(a: Tensor, b: Tensor) -> float:
    if len(a) < 2 or float(a.std()) < 1e-12 or float(b.std()) < 1e-12:
        return 0.0
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
    return float(torch.corrcoef(ranks)[0, 1])


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
