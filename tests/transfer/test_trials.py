"""Sources take turns; what they earned decides."""

import pytest
import torch

from robot_rl.transfer.trials import Trials


def tried(returns: list[list[float]]) -> Trials:
    """Trials of which sources, and none, earned these returns."""
    trials = Trials(("one", "two"), len(returns[0]))
    for episode in range(len(returns[0])):
        for number, earned in enumerate(returns):
            assert trials.running
            assert trials.acting.tolist() == [float(number == turn) for turn in range(3)]
            assert trials.alone == (number == 2)
            trials.note(earned[episode])
    assert not trials.running
    assert torch.equal(trials.acting, trials.kept)
    return trials


def test_the_source_that_earned_most_is_kept_to():
    trials = tried([[1.0, 1.0], [0.0, 11.0], [3.0, 4.0]])
    assert trials.acting.tolist() == [0, 1, 0]
    assert trials.earnings == {"one": 1.0, "two": 5.5, "no source": 3.5}
    trials.note(-100.0)  # the trials are over
    assert trials.acting.tolist() == [0, 1, 0]
    assert trials.earned.tolist() == [[1, 1], [0, 11], [3, 4]]


def test_meanwhile_the_best_so_far_is_kept_to_whoever_acts():
    trials, kept = Trials(("one", "two"), 2), []
    for earned in (1.0, 3.0, 2.0, 9.0, 0.0):
        kept.append(int(trials.kept.argmax()))
        trials.note(earned)
    # untried: the first; then one with 1, two with 3, two; one with 1 and 9, though two acts; one
    assert kept == [0, 0, 1, 1, 0]
    assert (int(trials.kept.argmax()), int(trials.acting.argmax())) == (0, 2)


def test_one_lucky_episode_does_not_decide():
    trials = tried([[1.0, 100.0, 0.0], [2.0, 2.5, 2.0], [1.0, 1.0, 1.0]])
    assert trials.earnings == {"one": 1.0, "two": 2.0, "no source": 1.0}
    assert trials.acting.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("best", "kept"), [(3.4, False), (4.4, False), (4.6, True)])
def test_a_source_has_to_earn_more_than_none_and_chance(best: float, kept: bool):
    trials = tried([[1.0, 2.0], [best, best], [3.0, 4.0]])  # none: 3.5 in the middle; ranges of 1, 0 and 1
    assert trials.acting.tolist() == [0, kept, not kept]
    assert (trials.alone, trials.hold) == (not kept, float(kept))


def test_one_lucky_episode_without_a_source_does_not_decide_either():
    trials = tried([[5.0, 6.0, 7.0], [8.0, 9.0, 10.0], [1.0, 1.0, 20.0]])
    assert trials.acting.tolist() == [0, 1, 0]


def test_where_all_earn_the_same_the_weights_choose():
    trials = tried([[0.0, 0.0]] * 3)
    assert trials.acting.tolist() == [0, 0, 0]
    assert (trials.alone, trials.hold) == (False, 1.0)


def test_without_trials_the_weights_choose():
    trials = Trials(("one", "two"), 0)
    trials.note(5.0)
    assert not trials.running
    assert trials.acting.tolist() == [0, 0, 0]
    assert (trials.alone, trials.hold, trials.earnings) == (False, 1.0, {})


def test_the_actor_is_let_go_as_it_earns_more_than_its_source():
    trials = tried([[3.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
    assert trials.hold == 1.0
    for earned, hold in ((3.0, 1.0), (4.0, 0.5), (5.0, 0.0), (9.0, 0.0), (0.0, 1.0)):
        for _ in range(150):
            trials.note(earned)
        assert trials.hold == pytest.approx(hold, abs=1e-3)


def test_trials_go_on_where_a_checkpoint_left_them():
    first, second = Trials(("one", "two"), 2), Trials(("one", "two"), 2)
    for earned in (1.0, 2.0, 3.0, 1.0):
        first.note(earned)
    second.load_state_dict(first.state_dict())
    for trials in (first, second):
        trials.note(9.0)
        trials.note(3.0)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert second.acting.tolist() == [0, 1, 0]
