"""Replay, mixture and statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.episode import Episode
from robot_rl.data.mixture import Mixture
from robot_rl.data.replay import Replay
from robot_rl.data.stats import ObservationStats, observation_stats
from robot_rl.data.transition import transition_dtype
from robot_rl.errors import ConfigError, DataError
from tests.learning.made import make_episodes, make_spec

SPEC = make_spec()


def numbered(start: int, steps: int, **ends: bool) -> Episode:
    """Observations count up from `start`, so every transition can be told."""
    obs = np.repeat(np.arange(start, start + steps + 1)[:, None], 5, 1)
    return Episode(observations=obs, actions=np.zeros((steps, 2)), rewards=np.arange(steps), **ends)


def test_transitions_never_cross_an_end() -> None:
    replay = Replay.of(SPEC, [numbered(0, 4), numbered(100, 3)])
    batch = replay.sample(500, torch.Generator().manual_seed(0))
    assert torch.equal(batch.next_obs, batch.obs + 1)


def test_only_termination_stops_bootstrapping() -> None:
    ended = Replay.of(SPEC, [numbered(0, 1, terminated=True, truncated=False)])
    cut = Replay.of(SPEC, [numbered(0, 1, terminated=False, truncated=True)])
    generator = torch.Generator().manual_seed(0)
    assert ended.sample(1, generator).mask.item() == 0.0
    assert cut.sample(1, generator).mask.item() == 1.0


def test_a_transition_without_next_observation_is_never_drawn() -> None:
    replay = Replay.of(SPEC, [numbered(0, 3, final_observed=False), numbered(10, 2)])
    assert len(replay) == 4
    drawn = set(replay.sample(400, torch.Generator().manual_seed(0)).obs[:, 0].tolist())
    assert drawn == {0.0, 1.0, 10.0, 11.0}


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(3, 25))
def test_the_ring_keeps_the_newest_transitions_in_order(lengths: list[int], capacity: int) -> None:
    replay = Replay(SPEC, capacity)
    expected: list[float] = []
    for index, steps in enumerate(lengths):
        replay.add(numbered(100 * index, steps))
        expected += [100.0 * index + t for t in range(steps)]
    stored = [float(o[0]) for e in replay.episodes() for o in e.observations[:-1]]
    assert stored == expected[-capacity:]


def test_episodes_of_two_actors_come_apart_again() -> None:
    spec = make_spec()
    one, two = (np.zeros(5, transition_dtype(spec.obs_dim, spec.action_dim)) for _ in range(2))
    for rows, first in ((one, 0), (two, 100)):
        rows["obs"][:, 0], rows["next_obs"][:, 0] = first + np.arange(5), first + 1 + np.arange(5)
    one["truncated"][-1] = two["terminated"][2] = 1
    replay = Replay(spec, 20)
    replay.extend(np.concatenate([one[:2], two[:2], one[2:4], two[2:3], one[4:], two[3:4]]))
    replay.extend(one[:1])  # an actor that was killed in its episode ...
    replay.extend(one[:2])  # ... and begins another one
    found = list(replay.episodes())
    places = [episode.observations[:, 0].tolist() for episode in found]
    assert places == [[100, 101, 102, 103], [0, 1, 2, 3, 4, 5], [103, 104], [0, 1], [0, 1, 2]]
    assert [episode.terminated for episode in found] == [True, False, False, False, False]
    assert list(Replay(spec, 20).episodes()) == []


def test_a_replay_gives_back_its_episodes() -> None:
    episodes = make_episodes()
    for before, after in zip(episodes, Replay.of(SPEC, episodes).episodes(), strict=True):
        assert np.array_equal(before.observations, after.observations)
        assert np.array_equal(before.actions, after.actions)
        assert (before.terminated, before.truncated) == (after.terminated, after.truncated)


@pytest.mark.parametrize(("share", "offline"), [(0.0, 0), (0.25, 16), (0.5, 32), (1.0, 64)])
def test_a_mixture_holds_its_share(share: float, offline: int) -> None:
    old, new = Replay.of(SPEC, [numbered(0, 50)]), Replay.of(SPEC, [numbered(1000, 50)])
    batch = Mixture(old, new, share).sample(64, torch.Generator().manual_seed(0))
    assert int((batch.obs[:, 0] < 1000).sum()) == offline
    assert len(batch.obs) == 64


def test_a_mixture_draws_offline_until_there_is_online_data() -> None:
    batch = Mixture(Replay.of(SPEC, [numbered(0, 5)]), Replay(SPEC, 10), 0.0).sample(8, torch.Generator())
    assert len(batch.obs) == 8


def test_shares_outside_zero_to_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"offline_share is 1\.2"):
        Mixture(Replay(SPEC, 1), Replay(SPEC, 1), 1.2)


def test_an_empty_replay_says_so() -> None:
    with pytest.raises(DataError, match="empty"):
        Replay(SPEC, 5).sample(1, torch.Generator())


def test_statistics_equal_numpys_over_all_observations() -> None:
    episodes = make_episodes(count=5)
    everything = np.concatenate([e.observations for e in episodes])
    stats = observation_stats(episodes)
    assert np.allclose(stats.mean, everything.mean(0), rtol=1e-5)
    assert np.allclose(stats.std, everything.std(0), rtol=1e-5)


def test_a_constant_dimension_is_scaled_by_one() -> None:
    stats = observation_stats(
        [Episode(observations=np.full((4, 2), 7.0), actions=np.zeros((3, 1)), rewards=np.zeros(3))]
    )
    assert stats.std.tolist() == [1.0, 1.0]
    assert stats.normalise(np.full(2, 7.0, np.float32)).tolist() == [0.0, 0.0]


def test_unusable_statistics_are_refused() -> None:
    with pytest.raises(DataError, match="zero scale"):
        ObservationStats(np.zeros(2, np.float32), np.zeros(2, np.float32))
