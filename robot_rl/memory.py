"""Acting functions that remember what happened since an episode began. Needs no torch: actors import it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from robot_rl.spec import Array


@runtime_checkable
class Remembering(Protocol):
    """What a recurrent policy is told beside its observations."""

    def begin_episode(self) -> None:
        """Forget: the next observation is the first of an episode."""
        ...

    def executed(self, action: Array) -> None:
        """Not the action returned last was executed, but this one, (A,)."""
        ...


def begin_episode(act: object) -> None:
    """Tell `act` that an episode begins, if it remembers any."""
    if isinstance(act, Remembering):
        act.begin_episode()


def executed(act: object, action: Array) -> None:
    """Tell `act` what was executed, if it remembers any."""
    if isinstance(act, Remembering):
        act.executed(action)
