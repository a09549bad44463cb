"""`robot-rl replay FILE ...`: explain recorded sessions, and play them back in MuJoCo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import msgspec
import numpy as np
import tyro
import yaml
from rich.console import Console

from deploy.arms.schema import ArmConfig
from deploy.recorder.explain import Stretch, explain
from robot_rl.config import parse
from robot_rl.console import make_console, print_json
from robot_rl.data.session import DECISION, EPISODE, EXECUTED, OBSERVATION, POLICY, TIMING, Session, join, open_session
from robot_rl.envs import make_env
from robot_rl.errors import ConfigError, DataError

DESCRIPTION = """Say what happened in sessions recorded by `robot-rl serve`: how many commands the safety
supervisor changed, each clamp and stop with its numbers, how steady the ticks were. Sessions of simulated
arms are also played back in MuJoCo: the executed commands, from the same seeds, must lead to the recorded
observations.

    robot-rl replay outputs/sessions/2026-11-21T08-00-00_virtual_reach.mcap --film replay.gif"""
SHOWN = 30
FILM_WIDTH, FILM_HEIGHT = 320, 240


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Replay a session."""

    sessions: tyro.conf.Positional[tuple[Path, ...]]  # .mcap files, one or more
    all: bool = False  # every change, not only the first thirty
    explain_only: bool = False  # do not play it back
    film: Path | None = None  # write the first episode as a picture film, .gif
    json: bool = False  # one JSON object on standard output; of several sessions, a list in it

    def __post_init__(self) -> None:
        if self.film is not None and len(self.sessions) > 1:
            raise ConfigError(f"--film {self.film} is of one session; {len(self.sessions)} are given. Name one.")
        if self.film is not None and self.explain_only:
            raise ConfigError(f"--film {self.film} is made by playing the session back: leave out --explain-only.")
        if self.film is not None and self.film.suffix != ".gif":
            raise ConfigError(f"--film is {self.film}; films are written as .gif.")


def main(argv: Sequence[str]) -> int:
    """Parse, read, explain, play back."""
    config = parse(ReplayConfig, argv, prog="robot-rl replay", description=DESCRIPTION)
    if not config.sessions:
        raise ConfigError("`replay` takes the .mcap files of one or more sessions; it got none.")
    told: list[dict[str, Any]] = []
    for session in [open_session(path) for path in config.sessions]:  # one that is none is refused before all work
        stretches = sorted(explain(session), key=lambda s: s.first)
        facts = _facts(session)
        played = None if config.explain_only else play_back(session, config.film)
        if config.json:
            told.append({**facts, "changes": [str(s) for s in stretches], "playback": played})
        else:
            _print(make_console(), config, facts, stretches, played)
    if config.json:
        print_json(told[0] if len(told) == 1 else {"sessions": told})
    return 0


def play_back(session: Session, film: Path | None = None) -> dict[str, Any] | None:
    """Execute the recorded commands in the recorded environment.

    Args:
        session: Of a simulated arm.
        film: Where to draw the first episode; None for no film.

    Returns:
        Episodes and steps played and the largest difference of an observation, in its own units; None where
        the session does not tell an environment and seeds (a physical arm).

    Raises:
        DataError: If a film is wanted of a session that cannot be played back.
    """
    env_id = session.info.get("env") or session.spec.env_id
    if not env_id or not any(t == EPISODE and "seed" in m for t, m in session.messages()):
        if film is not None:
            raise DataError(f"{session.path} is of a physical arm: there is no simulator to film it in.")
        return None
    drawing = {"render_mode": "rgb_array", "width": FILM_WIDTH, "height": FILM_HEIGHT} if film is not None else {}
    rate_hz, fast = session.spec.rate_hz, _commands_per_step(session)
    options = {"rate_hz": round(rate_hz * fast)} if fast > 1 else {}
    env = make_env(env_id, max_episode_steps=10**9, **options, **drawing)
    spec = session.spec
    episodes = steps = 0
    worst, now = 0.0, np.zeros(spec.obs_dim, np.float32)
    frames: list[Any] = []
    for topic, message in session.messages():
        if topic == EPISODE and message["event"] == "begin":
            now, _ = env.reset(seed=int(message["seed"]))
            episodes += 1
        elif topic == OBSERVATION or (topic == EPISODE and "final" in message):
            seen = join(spec.observation, message if topic == OBSERVATION else message["final"])
            worst = max(worst, float(np.abs(now - np.array(seen)).max()))
        elif topic == EXECUTED:
            now, *_ = env.step(np.array(join(spec.action, message), np.float32))
            steps += 1
            if film is not None and episodes == 1 and steps % (2 * fast) == 1:
                frames.append(np.asarray(env.render()))
    env.close()
    if film is not None:
        if not frames:
            raise DataError(f"{session.path} holds no command of a first episode: there is nothing to film.")
        film.parent.mkdir(parents=True, exist_ok=True)
        iio.imwrite(film, np.stack(frames), duration=2000 / rate_hz, loop=0)
    return {"env": env_id, "episodes": episodes, "steps": steps, "worst_difference": worst}


def _commands_per_step(session: Session) -> int:
    """By the arm's file in the session. Counting would be wrong where an episode ended between two policy steps."""
    text = session.info.get("arm")
    try:
        return msgspec.convert(yaml.safe_load(text), ArmConfig).commands_per_step if text else 1
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise DataError(
            f"{session.path}: the arm's file in it is not readable ({error}). Explain it with --explain-only."
        ) from error


def _facts(session: Session) -> dict[str, Any]:
    verdicts: Counter[str] = Counter()
    topics: Counter[str] = Counter()
    late: list[float] = []
    policy: dict[str, Any] = {}
    for topic, message in session.messages():
        topics[topic] += 1
        if topic == DECISION:
            verdicts[message["verdict"]] += 1
        elif topic == TIMING and message["late_us"] is not None:
            late.append(message["late_us"])
        elif topic == POLICY:
            policy = message
    return {
        "file": str(session.path),
        "started": session.info["started"],
        "run": policy.get("run"),
        "weight_version": policy.get("weight_version"),
        "whole": session.is_whole(),
        "ticks": topics[DECISION],
        "verdicts": dict(verdicts),
        "late_p99_us": float(np.percentile(late, 99)) if late else None,
    }


def _print(
    out: Console,
    config: ReplayConfig,
    facts: dict[str, Any],
    stretches: list[Stretch],
    played: dict[str, Any] | None,
) -> None:
    whole = "closed properly" if facts["whole"] else "cut; read up to its last whole message"
    out.print(f"{facts['file']}: {facts['started']}, {whole}", markup=False, soft_wrap=True)
    verdicts = ", ".join(f"{n:,} {name}" for name, n in facts["verdicts"].items())
    out.print(f"{facts['run']} (version {facts['weight_version']}): {facts['ticks']:,} ticks, {verdicts}", markup=False)
    shown = stretches if config.all else stretches[:SHOWN]
    for stretch in shown:
        out.print(f"  {stretch}", markup=False, soft_wrap=True)
    if len(shown) < len(stretches):
        out.print(f"  and {len(stretches) - len(shown):,} more; --all shows them")
    if played is not None:
        out.print(
            f"played back in {played['env']}: {played['episodes']} episodes, {played['steps']:,} commands; "
            f"observations differ by at most {played['worst_difference']:.2g}",
            markup=False,
            soft_wrap=True,
        )
    if config.film is not None:
        out.print(f"film: {config.film}", markup=False, soft_wrap=True)
