"""Splits that share episodes: a validation score then says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from robot_rl.data.doctor.facts import Gathered
from robot_rl.data.doctor.finding import Finding

_HELD_OUT = re.compile(r"(^|[_-])(valid|validation|val|test|eval|holdout)$")
_REMEDY = "take the episodes out of the held-out split; --fix does"


def leaking_pairs(splits: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """Training and held-out splits that belong together, such as `20_train` and `20_valid`."""
    for name in splits:
        ending = _HELD_OUT.search(name)
        if ending is None:
            continue
        partner = name[: ending.start()] + ending[1] + "train"
        if partner in splits:
            yield partner, name


def check_splits(splits: Mapping[str, tuple[int, ...]], seen: Gathered, total: int) -> Iterator[Finding]:
    """What is wrong with the named parts of a dataset."""
    digest = {f.index: f.digest for f in seen.facts}
    for name, members in splits.items():
        beyond = sorted(i for i in members if not 0 <= i < total)
        if beyond:
            what = f"split '{name}' names episode {beyond[0]}, but there are {total}"
            yield Finding(severity="error", check="splits", what=what, remedy="import the logs again")
        if len(set(members)) < len(members):
            what = f"split '{name}' names an episode twice"
            yield Finding(severity="warning", check="splits", what=what, remedy="name each episode once")
    for train, held in leaking_pairs(splits):
        shared = sorted(set(splits[train]) & set(splits[held]))
        if shared:
            what = f"'{train}' and '{held}' share {len(shared)} episodes, first episode {shared[0]}"
            yield Finding(severity="error", check="split leak", what=what, remedy=_REMEDY)
        known = {digest[i]: i for i in splits[train] if i in digest}
        twins = [(i, known[digest[i]]) for i in splits[held] if digest.get(i) in known and i not in splits[train]]
        if twins:
            what = f"episode {twins[0][0]} of '{held}' repeats episode {twins[0][1]} of '{train}' ({len(twins)} such)"
            yield Finding(severity="error", check="split leak", what=what, remedy=_REMEDY)
