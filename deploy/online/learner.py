"""The learner process: takes what actors deliver, updates, publishes weights.

No actor waits for it, unless `max_lead` says how far they may be ahead: a fast simulator would collect a whole
run with the policy it began with.

Transitions are in the run's replay log before they are acknowledged, so that a killed learner resumes from
its last checkpoint and takes up every transition that arrived since.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.bridge.learner import LearnerHub
from deploy.bridge.messages import EpisodeEnd
from deploy.bridge.peers import ActorStatus
from deploy.network.address import DEFAULT_ADDRESS
from deploy.network.keys import DEFAULT_FOLDER
from deploy.online.lead import Lead
from deploy.online.weights import WeightExporter
from robot_rl.algorithms.agent import Metrics
from robot_rl.errors import BridgeError, ConfigError
from robot_rl.online_run import FinetuneConfig, OnlineRun

WAIT_S = 0.05
ROWS_AT_ONCE = 1024
GOODBYE_S = 3.0  # actors get this long to hear that the run is over


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(FinetuneConfig):
    """Learn from the transitions of actors."""

    bind: str = DEFAULT_ADDRESS  # address for actors; beyond loopback keys are needed
    key: str = ""  # name of this learner's key pair from `robot-rl keys new`; empty on loopback
    keys: Path = DEFAULT_FOLDER  # folder of keys
    publish_every: float = 1.0  # least time between two versions of the weights, s
    max_lead: int = 0  # interactions that actors may be ahead of the updates, then they pause; 0: any number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.publish_every <= 0:
            raise ConfigError(f"--publish-every is {self.publish_every:g} s; it must be above 0.")
        if self.max_lead < 0:
            raise ConfigError(f"--max-lead is {self.max_lead}; it must be 0 (no limit) or more.")


@dataclass(frozen=True, kw_only=True)
class LearnerView:
    """What a dashboard shows of a running learner.

    Args:
        interactions: Transitions taken into training.
        waiting: Transitions in the log that are not in training yet.
        updates: Gradient updates online.
        updates_per_s: Over the last second or so.
        version: Newest weights published.
        scalars: Latest episodes, last evaluation, last metrics.
        actors: Each as last heard.
        counters: Of the bridge.
        doing: In a word; why nothing can be stored, where that is so.
    """

    interactions: int
    waiting: int
    updates: int
    updates_per_s: float
    version: int
    scalars: dict[str, float]
    actors: list[ActorStatus]
    counters: dict[str, int]
    doing: str


def learn(
    run: OnlineRun,
    hub: LearnerHub,
    config: LearnerConfig,
    *,
    stop: threading.Event,
    show: Callable[[LearnerView], None],
    watch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Learn until `config.steps` interactions were taken or `stop` is set; then save.

    Args:
        run: Opened by the caller, who closes it.
        hub: Writes to `run.log`; the caller closes it.
        config: Options.
        stop: Set to end after the current update.
        show: Called some times a second.
        watch: Called as often; raises if something the run depends on has gone.

    Returns:
        The last evaluation's scalars.
    """
    return _Loop(run, hub, config, show, watch).run_until(stop)


def is_done(run: OnlineRun, config: LearnerConfig) -> bool:
    """Whether all interactions were taken and, where actors keep to a lead, all updates made."""
    return run.finished and (not config.max_lead or run.learner.owed <= 0)


class _Loop:
    def __init__(
        self,
        run: OnlineRun,
        hub: LearnerHub,
        config: LearnerConfig,
        show: Callable[[LearnerView], None],
        watch: Callable[[], None],
    ) -> None:
        self.run, self.hub, self.config = run, hub, config
        self.show, self.watch = show, watch
        self.exporter = WeightExporter(run.learner.agent, config.algorithm, config.out.resolve().name)
        self.version = -1
        self.published_at = self.shown_at = float("-inf")
        self.metrics: Metrics = {}
        self.rate, self.counted = 0.0, (time.monotonic(), run.learner.done)
        self.logged = self.evaluated = run.learner.interactions
        self.lead = Lead(config.max_lead)

    def run_until(self, stop: threading.Event) -> dict[str, float]:
        run, learner = self.run, self.run.learner
        if run.state is None or "episode" in run.state:  # from now on it is a run with actors
            run.save()
        self.publish()
        if run.unseen:
            self.evaluate()
        while not self.finished and not stop.is_set():
            took = self.take()
            self.hold_back()
            if learner.owed > 0:
                self.metrics = learner.update()
            elif not took:
                self.hub.wait_rows(learner.interactions + 1, WAIT_S)
            self.follow_up()
        if self.finished:
            self.evaluate()
        run.save()
        self.publish(at_once=True)
        if run.finished:
            self.say_goodbye()
        return run.results

    @property
    def finished(self) -> bool:
        return is_done(self.run, self.config)

    def hold_back(self) -> None:
        """Let actors pause or go on."""
        learner, was = self.run.learner, self.lead.pausing
        ahead = len(self.run.log) - learner.interactions + learner.owed / self.config.utd
        if self.lead.too_long(ahead) and not was:
            self.hub.pause("training catches up")
        elif was and not self.lead.pausing:
            self.hub.resume()

    def take(self) -> int:
        """Move new transitions into training; how many."""
        learner = self.run.learner
        if self.hub.failure:
            raise BridgeError(self.hub.failure)
        room = min(ROWS_AT_ONCE, self.config.steps - learner.interactions)
        if len(self.run.log) <= learner.interactions or room <= 0:
            return 0
        rows = self.hub.new_rows(learner.interactions, room)
        agent = learner.agent
        turns = agent.version - agent.updates
        learner.take(rows)
        if agent.version - agent.updates > turns:  # it acts differently without an update: another's turn
            self.publish(at_once=True)
        return len(rows)

    def follow_up(self) -> None:
        """Whatever is due between updates."""
        run, config, now = self.run, self.config, self.run.learner.interactions
        self.publish()
        if now - self.logged >= config.log_every:
            self.logged = now
            run.write_metrics(self.metrics)
        if now - self.evaluated >= config.eval_every and not run.finished:
            self.evaluated = now
            self.evaluate()
        if run.checkpoint_due:
            run.save()
        if time.monotonic() - self.shown_at > 0.25:
            self.refresh("learning" if run.learner.owed else "waiting for transitions")

    def publish(self, *, at_once: bool = False) -> None:
        """Give actors the newest weights, unless they have them or it is too soon."""
        agent = self.run.learner.agent
        version = agent.version
        soon = time.monotonic() - self.published_at < self.config.publish_every
        if version == self.version or (soon and not at_once):
            return
        agent.require_finite()
        self.hub.publish_weights(self.exporter.model(version), version)
        self.version, self.published_at = version, time.monotonic()

    def evaluate(self) -> None:
        self.refresh("evaluating")
        if self.lead.most:
            self.hub.pause("evaluating")
        self.run.evaluate()
        if self.lead.most and not self.lead.pausing:
            self.hub.resume()

    def refresh(self, doing: str) -> None:
        self.watch()
        for news in self.hub.news():
            if isinstance(news.message, EpisodeEnd):
                end = news.message
                self.run.recent.add(end.total_reward, None if end.success < 0 else bool(end.success))
        self.shown_at = now = time.monotonic()
        learner, (then, before) = self.run.learner, self.counted
        if now - then > 1.0:
            self.rate, self.counted = (learner.done - before) / (now - then), (now, learner.done)
        view = LearnerView(
            interactions=learner.interactions,
            waiting=len(self.run.log) - learner.interactions,
            updates=learner.done,
            updates_per_s=self.rate,
            version=max(0, self.version),
            scalars=self.run.scalars,
            actors=self.hub.actors(),
            counters=self.hub.counters,
            doing=self.hub.trouble or doing,
        )
        self.show(view)

    def say_goodbye(self) -> None:
        """Tell actors to end, and take what they still have into the log."""
        self.hub.stop("all interactions were taken")
        deadline = time.monotonic() + GOODBYE_S
        while time.monotonic() < deadline and any(a.alive and a.silent_s < 1.0 for a in self.hub.actors()):
            time.sleep(0.05)
