"""Pieces of episodes from a replay: they never cross an end, and every transition has its turn."""

import numpy as np
import pytest
import torch

from robot_rl.data.episode import Episode
from robot_rl.data.mixture import Mixture, Pool, of_sequences
from robot_rl.data.replay import Replay
from robot_rl.data.transition import transition_dtype
from robot_rl.errors import ConfigError
from robot_rl.world_models.augment import Augmented
from tests.learning.made import make_spec

SPEC = make_spec(obs_dim=2)


def counted(lengths: list[int], **kwargs) -> list[Episode]:
    """Observation (episode, step), action (step, episode), reward step."""
    found = []
    for number, steps in enumerate(lengths):
        when = np.arange(steps + 1, dtype=np.float32)
        obs = np.stack([np.full(steps + 1, number), when], 1)
        found.append(Episode(observations=obs, actions=obs[:-1, ::-1].copy(), rewards=when[:-1], **kwargs))
    return found


def check_pieces(seen, length: int, lengths: list[int]) -> set[tuple[int, int]]:
    """Every piece runs on within one episode; returns the transitions met."""
    met = set()
    assert seen.obs.shape[0] == length + 1
    for b in range(seen.obs.shape[1]):
        steps = int(seen.valid[:, b].sum())
        assert bool((seen.valid[:steps, b] == 1).all())
        episode, start = map(int, seen.obs[0, b].tolist())
        assert steps == min(length, lengths[episode])
        for t in range(steps):
            assert seen.obs[t].tolist()[b] == [episode, start + t]
            assert seen.obs[t + 1].tolist()[b] == [episode, start + t + 1]
            assert seen.action[t].tolist()[b] == [start + t, episode]
            assert float(seen.reward[t, b]) == start + t
            met.add((episode, start + t))
    return met


@pytest.mark.parametrize("length", [2, 5, 16])
def test_pieces_stay_within_their_episode_and_reach_all_of_it(length):
    lengths = [3, 12, 5, 20]
    replay = Replay.of(SPEC, counted(lengths))
    met = check_pieces(replay.sequences(400, length, torch.Generator().manual_seed(0)), length, lengths)
    assert met == {(e, t) for e, steps in enumerate(lengths) for t in range(steps)}


def test_a_full_ring_gives_the_pieces_of_what_is_left_of_its_episodes():
    replay = Replay(SPEC, capacity=25)
    for episode in counted([10, 10, 10]):
        replay.add(episode)  # the first 5 transitions are overwritten
    seen = replay.sequences(300, 8, torch.Generator().manual_seed(0))
    firsts = {tuple(map(int, row)) for row in seen.obs[0].tolist()}
    assert min(step for episode, step in firsts if episode == 0) == 5
    assert {int(v) for v in seen.valid.sum(0)} == {5, 8}


def test_the_end_of_the_task_is_marked_and_an_unseen_next_observation_is_not_valid():
    ended = Replay.of(SPEC, counted([6], terminated=True, truncated=False))
    seen = ended.sequences(50, 6, torch.Generator().manual_seed(0))
    assert seen.mask[:, 0].tolist() == [1, 1, 1, 1, 1, 0]
    cut = Replay.of(SPEC, counted([6], final_observed=False))
    seen = cut.sequences(50, 6, torch.Generator().manual_seed(0))
    assert seen.valid[:, 0].tolist() == [1, 1, 1, 1, 1, 0]


def test_rows_of_two_actors_in_turns_are_not_taken_for_one_episode():
    rows = np.zeros(20, transition_dtype(2, 2))
    rows["obs"][:, 0] = np.repeat([0, 1, 0, 1], 5)
    rows["obs"][:, 1] = [*range(5), *range(5), *range(5, 10), *range(5, 10)]
    rows["next_obs"] = rows["obs"] + [0, 1]
    replay = Replay(SPEC, capacity=100)
    replay.extend(rows)
    seen = replay.sequences(200, 8, torch.Generator().manual_seed(0))
    assert {int(v) for v in seen.valid.sum(0)} == {5}
    assert bool((seen.obs[:, :, 0] == seen.obs[:1, :, 0]).all())


def test_mixtures_and_pools_draw_their_shares():
    logged, own = Replay.of(SPEC, counted([9])), Replay.of(SPEC, counted([9, 9])[1:])
    generator = torch.Generator().manual_seed(0)
    seen = Mixture(logged, own, 0.25).sequences(8, 4, generator)
    assert seen.obs[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    pooled = Pool(logged, own).sequences(400, 4, generator).obs[0, :, 0]
    assert 0.4 < float(pooled.mean()) < 0.6


def test_a_world_models_batches_are_refused_as_sequences():
    with pytest.raises(ConfigError, match="leave out --world-model"):
        of_sequences(Augmented.__new__(Augmented))
