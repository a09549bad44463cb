"""`robot-rl demo`: the whole road in a few minutes, each step by the command a user would type."""

from __future__ import annotations

import math
import shlex
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from rich.console import Console
from rich.rule import Rule

import deploy.commands.serve as serving
from deploy.bundle.policy import Policy
from deploy.commands import export as exporting
from deploy.commands import finetune as finetuning
from deploy.commands import record
from deploy.control.plot import plot_timing
from deploy.control.report import ServeReport
from robot_rl.commands import data, evaluate, pretrain, world_model
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.envs import make_env
from robot_rl.errors import ConfigError, EnvError
from robot_rl.evaluate import Evaluation
from robot_rl.memory import begin_episode

DESCRIPTION = """Make demonstrations of a Panda lifting a cube, learn a world model of them, pretrain a policy on both,
fine-tune it over the bridge while the model learns on, evaluate, export to ONNX and serve the policy at 20 Hz behind
the safety supervisor. Prints each command and leaves OUT/report.md with the figures and pictures. Some minutes on two
cores; no GPU and no display needed."""

Command = Callable[[Sequence[str]], int]

ENV, ARM = "robosuite/Lift-v1", "robosuite_panda"
MARKER = ".robot-rl-demo"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run the demo."""

    out: Path = Path("outputs/demo")  # folder for everything; one left by an earlier demo is replaced
    demonstrations: int = 50  # episodes of the scripted expert
    noise: float = 0.2  # std of the noise on its actions
    epochs: int = 30  # of the world model
    steps: int = 5_000  # gradient updates of pretraining
    interactions: int = 1_500  # control steps of online fine-tuning
    episodes: int = 20  # evaluation episodes
    serve_episodes: int = 5  # episodes served at control rate
    seed: int = 0  # of everything

    def __post_init__(self) -> None:
        for name in ("demonstrations", "epochs", "steps", "interactions", "episodes", "serve_episodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 <= self.noise < math.inf:
            raise ConfigError(f"--noise is {self.noise:g}; it must be 0 or more, and finite.")


@dataclass
class _Demo:
    config: DemoConfig
    console: Console
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    commands: list[str] = field(default_factory=list[str])

    @contextmanager
    def step(self, title: str, words: Sequence[str]) -> Generator[list[str]]:
        """Announce a command, give its arguments behind the verb, and time it."""
        command = shlex.join(["robot-rl", *words])
        self.commands.append(command)
        self.head(title)
        self.console.print(f"$ {command}", markup=False, style="cyan", soft_wrap=True)
        start = time.perf_counter()
        yield list(words[1:])
        self.seconds[title] = time.perf_counter() - start

    def head(self, title: str) -> None:
        """Begin a part of what is printed."""
        width = min(self.console.width, 80)
        self.console.print(Rule(f"[bold]{title}", align="left"), width=width)


def main(argv: Sequence[str]) -> int:
    """Run every step and write the report."""
    config = parse(DemoConfig, argv, prog="robot-rl demo", description=DESCRIPTION)
    _make_room(config.out)
    torch.set_num_threads(1)
    demo = _Demo(config, make_console())
    _learn(demo)
    evaluation = _evaluate(demo)
    parity = _export(demo)
    served = _serve(demo)
    picture = _film(demo)
    report = config.out / "report.md"
    report.write_text(_report(demo, evaluation, parity, served, picture))
    demo.head("done")
    demo.console.print(f"{sum(demo.seconds.values()):.0f} s in all; the report is {report}", markup=False)
    return 0


def _make_room(out: Path) -> None:
    if out.exists():
        if not (out / MARKER).is_file():
            raise ConfigError(f"{out} exists and was not made by the demo. Choose another --out.")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARKER).touch()


def _learn(demo: _Demo) -> None:
    """Demonstrations to a policy that is fine-tuned over the bridge."""
    c = demo.config
    logs, model, run, online = (shlex.quote(str(c.out / name)) for name in ("dataset", "world_model", "run", "online"))
    common = f"--seed {c.seed} --episode-steps 120"
    rollouts = f"--world-model {model} --augment.mode rollout --augment.horizon 3"
    third = c.interactions // 3
    lines: dict[str, tuple[Command, str]] = {
        "1. demonstrations": (
            record.main,
            f"record {ENV} --out {logs} --episodes {c.demonstrations} --noise {c.noise} --after-success 25 "
            f"--seed {c.seed}",
        ),
        "2. what is in them": (data.main, f"data info {logs}"),
        "3. are they sound": (data.main, f"data doctor {logs}"),
        "4. a world model of them": (
            world_model.main,
            f"world-model ensemble --data {logs} --out {model} --model.epochs {c.epochs} --seed {c.seed}",
        ),
        "5. pretrain": (
            pretrain.main,
            f"pretrain sac --data {logs} --out {run} {rollouts} --augment.share 0.9 --agent.bc-weight 4 "
            "--agent.alpha 0.01 --agent.first-std 0.2 --agent.critics 2 --agent.actor-every 2 --agent.ema 0.999 "
            f"--steps {c.steps} --eval-every {c.steps // 2} {common}",
        ),
        "6. fine-tune over the bridge": (
            finetuning.main,
            f"finetune sac --start {run} --out {online} {rollouts} --augment.share 0.8 --refit-every 500 "
            f"--refit-epochs 5 --steps {c.interactions} --warmup {third} --critic-warmup {third} "
            f"--eval-every {c.interactions} --eval-episodes 5 --log-every 100 {common}",
        ),
    }
    for title, (command, line) in lines.items():
        with demo.step(title, shlex.split(line)) as rest:
            command(rest)


def _evaluate(demo: _Demo) -> Evaluation:
    c = demo.config
    words = ["evaluate", str(c.out / "online"), "--episodes", str(c.episodes), "--episode-steps", "120"]
    with demo.step("7. evaluate", words) as rest:
        config = parse(evaluate.EvaluateConfig, rest, prog="robot-rl evaluate", description="")
        policy, found = evaluate.run(config)
        evaluate.print_evaluation(demo.console, config, policy, found)
    return found


def _export(demo: _Demo) -> float:
    bundle = demo.config.out / "bundle"
    with demo.step("8. export", ["export", str(demo.config.out / "online"), "--out", str(bundle)]) as rest:
        exporting.main(rest)
    return Policy.load(bundle).contract.parity.max_abs


def _serve(demo: _Demo) -> ServeReport:
    c = demo.config
    words = ["serve", str(c.out / "bundle"), "--arm", ARM, "--episodes", str(c.serve_episodes)]
    words += ["--episode-steps", "120", "--record", str(c.out / "sessions"), "--plot", str(c.out / "timing.png")]
    with demo.step("9. serve", words) as rest:
        config = parse(serving.ServeConfig, rest, prog="robot-rl serve", description="")
        report = serving.run(config)
        plot_timing(report, c.out / "timing.png")
        serving.print_report(demo.console, report)
    return report


def _film(demo: _Demo) -> str:
    """Render one episode of the exported policy; returns the report's line about it."""
    bundle, target = demo.config.out / "bundle", demo.config.out / "rollout.gif"
    demo.head("10. film one episode")
    policy = Policy.load(bundle)
    try:
        env = make_env(ENV, render_mode="rgb_array", width=320, height=240, max_episode_steps=80)
        obs, _ = env.reset(seed=1_000_000)
        frames = [np.asarray(env.render())]
    except EnvError as error:
        demo.console.print(f"no pictures: {error}", markup=False)
        return f"No film: {error}"
    begin_episode(policy)
    done = False
    while not done:
        obs, _, terminated, truncated, _ = env.step(policy.act(np.asarray(obs, np.float32)).copy())
        frames.append(np.asarray(env.render()))
        done = terminated or truncated
    env.close()
    iio.imwrite(target, np.stack(frames[::2]), duration=100, loop=0)
    iio.imwrite(demo.config.out / "rollout.png", np.hstack([frames[i] for i in (0, 20, 40, 69)]))
    demo.console.print(f"{target}", markup=False)
    return "![the exported policy](rollout.gif)"


def _report(demo: _Demo, found: Evaluation, parity: float, served: ServeReport, picture: str) -> str:
    low, high = found.success_interval or (0.0, 0.0)
    period, work = served.period, served.compute
    success = "unknown" if served.success_rate is None else f"{served.success_rate:.0%}"
    changed = sum(n for name, n in served.verdicts.items() if name != "passed")
    times = "\n".join(f"| {title} | {seconds:.0f} |" for title, seconds in demo.seconds.items())
    commands = "\n".join(demo.commands)
    return f"""# From demonstrations to a served policy

{picture}

| | |
|---|---|
| demonstrations | {demo.config.demonstrations} by the scripted expert, noise {demo.config.noise} |
| success, evaluated | {found.success_rate:.0%} of {demo.config.episodes} episodes ({low:.0%} to {high:.0%}) |
| success, served at {served.rate_hz:g} Hz | {success} of {served.episodes} episodes |
| ONNX against PyTorch | {parity:.1e} largest difference |
| period, p50 / p99 / max | {period.p50 / 1e3:.2f} / {period.p99 / 1e3:.2f} / {period.max / 1e3:.2f} ms |
| work, p50 / p99 / max | {work.p50 / 1e3:.2f} / {work.p99 / 1e3:.2f} / {work.max / 1e3:.2f} ms, without physics |
| deadlines missed | {served.missed} of {served.ticks} |
| commands changed by the supervisor | {changed} of {served.ticks} |

## Learning
A held-out demonstration beside what the [world model](world_model/report.md) predicts from its first state:

![predicted beside real](world_model/rollout.png)

From the demonstrations and the policy's own steps in that model:

![learning curve](run/learning_curve.png)

Over the bridge, {demo.config.interactions:,} control steps of the robot's own:

![online learning curve](online/learning_curve.png)

## Control
![tick timing](timing.png)

## Commands
```
{commands}
```

| step | seconds |
|---|---|
{times}
"""
