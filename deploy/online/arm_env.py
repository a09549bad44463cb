"""An arm behind its safety supervisor as a Gymnasium environment: what an actor steps to learn on one.

A step lets the supervisor pass or change the action, commands it, waits for the next point of the control
rate's grid and measures. What was executed can differ from what was asked: `info["executed_action"]` is what a
learner has to learn from. A stop brings the arm to rest, ends the episode and stays until the operator arms
again; while `waits` gives a reason, `reset` is refused.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import ArmState, Episodic, Waking
from deploy.arms.registry import make_arm, require_same_arm
from deploy.arms.schema import ArmConfig
from deploy.control.alarms import alarms
from deploy.control.home import arm_when_still, drive_home, take_control
from deploy.control.interpolate import path_for
from deploy.control.loop import LONGEST_BRAKING_S
from deploy.control.rate import Pacer
from deploy.control.watchdog import Watchdog
from deploy.online.outcome import Judgement, outcome_for
from deploy.operator.station import Station
from deploy.safety.decision import Decision, Reason
from deploy.safety.supervisor import Supervisor
from robot_rl.errors import ArmError, ArmStoppedError, RobotRLError
from robot_rl.spec import Array, Spec

EPISODE_S = 30.0  # a physical episode's time limit where none is given
BY_HAND = (Reason.ESTOP, Reason.OPERATOR)  # only a person releases these, also on a simulated arm


class ArmEnv(gym.Env[Array, Array]):
    """One arm, connected. Rewards are the simulator's; on a physical arm see `deploy.online.outcome`.

    Args:
        config: The arm's file.
        env_id: Environment for a simulated arm; empty for the file's.
        episode_steps: Time limit, policy steps; None for the simulator's own, or 30 s on a physical arm.
        paced: Keep the control rate; a physical arm always does.
        station: The operator's.

    Raises:
        ArmError, ConfigError, EnvError: If the arm cannot be connected or is not what its file says.
    """

    def __init__(
        self,
        config: ArmConfig,
        *,
        env_id: str = "",
        episode_steps: int | None = None,
        paced: bool = False,
        station: Station | None = None,
    ) -> None:
        self._config = config
        self.station = station or Station()
        self.arm = make_arm(config, env_id=env_id, episode_steps=episode_steps)
        try:
            self.arm.connect()
            self.robot_spec: Spec = self.arm.spec
            require_same_arm(config, self.robot_spec)
        except BaseException:
            self.arm.close()
            raise
        self._sim = self.arm if isinstance(self.arm, Episodic) else None
        limits = config.limits()
        self.supervisor = Supervisor(limits)
        self._outcome = outcome_for(self.robot_spec, self.station)
        self._longest = episode_steps or max(1, round(EPISODE_S * config.rate_hz))
        self._pacer = Pacer(limits.rate_hz, (), paced=paced or self._sim is None, kept_ticks=1)
        self._path = path_for(config.interpolation, config.commands_per_step, limits, self.supervisor.action_dim)
        self._watchdog = Watchdog(0.0 if self._sim else limits.policy_timeout_s, self._tick_hangs)
        self._watchdog.__enter__()
        self.rehearsal: Callable[[], object] = lambda: None  # the caller's own, while a tick waits for its deadline
        self._seen: tuple[ArmState, NDArray[Any]] | None = None
        self._steps, self._held, self._paused, self._closed = 0, False, False, False
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.robot_spec.obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(self.robot_spec.action_low, self.robot_spec.action_high)

    @property
    def waits(self) -> str:
        """Why the next episode cannot begin yet, in words for the operator; empty when it can."""
        station, stopped = self.station, () if self._paused else self.supervisor.stopped
        by_hand = self._sim is None or (bool(stopped) and stopped[0].reason in BY_HAND)
        if (station.stop_cause or (stopped and by_hand)) and not station.wants_arm:
            why = stopped[0] if stopped else station.stop_cause
            return f"stopped: {why}; look at the arm, then arm again (key a, or `robot-rl operator SOCKET arm`)"
        if self._sim is None and self._outcome.by_hand and not station.ready:
            return "set the scene, then say so (key g, or `robot-rl operator SOCKET go`)"
        return ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """A simulator begins its episode; a physical arm drives slowly home, where its file names a home.

        Raises:
            ArmStoppedError: If it was stopped on its way home; `waits` then has a reason until somebody arms again.
            ArmError: If `waits` has a reason, or the arm does not come home.
            LimitError: If the arm cannot be armed where it stands.
        """
        super().reset(seed=seed, options=options)
        if self.waits:
            raise ArmError(f"{self.arm.name} {self.waits}.")
        self.station.released()  # before anything moves: a stop pressed from here on counts
        self._watchdog.sleep()
        self._wake()
        if self._sim is not None:
            self._sim.restart(seed)
        elif self._config.home:
            try:
                drive_home(self.arm, self._config, station=self.station)
            except ArmStoppedError as stop:
                self._held, self._paused = True, False
                self.supervisor.stop(Reason.OPERATOR, str(stop))  # `waits` says so until somebody arms again
                raise
        self._take_up()
        self.station.ready = False
        self.station.take_label()
        self._steps = 0
        return self.arm.read().obs.copy(), {}

    def resumed(self) -> Array | None:
        """Take up again after a hold: what the arm sees now, (S,); None where it was not held.

        Who steps without asking acts on what was seen before the pause.
        """
        if not self._held:
            return None
        self._wake()
        self._take_up()
        return self.arm.read().obs.copy()

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One policy period.

        Args:
            action: What the policy asks, (A,).

        Returns:
            Observation (S,), reward, whether the task ended, whether the episode was cut (time, stop), and info:
            `executed_action` (A,), `verdict`, `is_success` where known, `stopped` with the reasons of a stop.
        """
        self.resumed()
        reward, decision = 0.0, None
        for command in self._commands(action):
            decision = self._tick(command)
            reward += self._sim.reward if self._sim is not None else 0.0
            if self.supervisor.stopped or (self._sim is not None and self._sim.over):
                break
        assert decision is not None  # noqa: S101 - there is at least one command
        self.station.ready = False  # said while an episode ran: nobody can have set the next one's scene
        executed = decision.command.astype(np.float32)
        info: dict[str, Any] = {"executed_action": executed, "verdict": decision.verdict.value}
        if self.supervisor.stopped:
            info["stopped"] = [str(finding) for finding in self.supervisor.stopped]
            self._brake()
        state = self.arm.read()
        self._steps += 1
        judged, cut = self._judge(state, reward)
        if judged.success is not None:
            info["is_success"] = judged.success
        cut = cut or "stopped" in info
        if judged.over or cut:
            self.hold()
        return state.obs.copy(), judged.reward, judged.over, cut and not judged.over, info

    def hold(self) -> None:
        """Stand still until the next step or reset: the policy has nothing to say for a while."""
        self._watchdog.sleep()
        if self._held:
            return
        self._held = True
        if self._sim is None and not self.supervisor.stopped and self.supervisor.standing is not None:
            self._paused = True
            self.supervisor.stop(Reason.OPERATOR, "pause")
            self._brake()
        self.arm.hold()

    def close(self) -> None:
        """Bring the arm to rest and give it back; a second call changes nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with contextlib.suppress(RobotRLError):  # a broken connection may be why it is closed
                self.hold()
        finally:
            self._watchdog.__exit__(None, None, None)
            self.arm.close()

    def _judge(self, state: ArmState, reward: float) -> tuple[Judgement, bool]:
        """Judgement and whether the time is up; `reward` is the simulator's."""
        sim = self._sim
        if sim is None:
            return self._outcome.judge(state.obs), self._steps >= self._longest
        return Judgement(reward=reward, over=sim.terminated, success=sim.success), sim.over and not sim.terminated

    def _commands(self, action: Array) -> Generator[NDArray[Any]]:
        if self._path is None:
            yield action
            return
        self._path.aim(action)
        for _ in range(self._config.commands_per_step):
            yield self._path.next()

    def _tick(self, asked: NDArray[Any]) -> Decision:
        self._watchdog.kick()
        now = time.monotonic()
        causes = alarms(self.station, self.supervisor, self._pacer, now)
        state = self.arm.read()
        decision = self.supervisor.check(state, asked, time.monotonic(), causes)
        self.arm.command(decision.command)
        if self._sim is not None:
            self._sim.advance()
        self._seen = state, asked
        self._pacer.wait(self._rehearse)
        return decision

    def _rehearse(self) -> None:
        """The parts of the coming tick that have no effect: what they touch is in the caches then."""
        if self._seen is not None:
            self.supervisor.rehearse(*self._seen, time.monotonic())
        self.rehearsal()

    def _brake(self) -> None:
        """To rest within the limits, after a stop; a simulated arm's time stands still instead."""
        if self._sim is not None:
            return
        self._watchdog.sleep()
        nothing = np.zeros(self.supervisor.action_dim)
        for _ in range(round(LONGEST_BRAKING_S * self.supervisor.limits.rate_hz)):
            state = self.arm.read()
            if self.supervisor.at_rest and self.supervisor.is_still(state):
                break
            decision = self.supervisor.check(state, nothing, time.monotonic())
            self.arm.command(decision.command)
            self._pacer.wait()

    def _wake(self) -> None:
        if isinstance(self.arm, Waking):
            self.arm.wake()

    def _take_up(self) -> None:
        """Arm the supervisor from where the arm stands, once it stands still, and begin a new stretch of the grid."""
        arm_when_still(self.supervisor, self.arm)
        if self._path is not None:
            self._path.reset()
        take_control(self.supervisor, self.arm)
        self._held = self._paused = False
        self._pacer.pause()
        self._pacer.wait()

    def _tick_hangs(self, silence_s: float) -> None:
        """In the watchdog's thread: whoever steps has stopped to do so, so this holds the arm."""
        self.supervisor.stop(Reason.POLICY_LATE, f"no command for {silence_s * 1e3:.0f} ms")
        try:
            self.arm.hold()
        finally:
            self.supervisor.held()
