"""`robot-rl pretrain`: offline training."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.algorithms.registry import CONFIGS
from robot_rl.config import chosen_kind, parse
from robot_rl.console import key_value_table, make_console
from robot_rl.pretrain import PretrainConfig, pretrain
from robot_rl.transfer.teacher import TeacherConfig, train_teacher

DESCRIPTION = """Train a policy offline on a dataset:
`robot-rl pretrain bc|td3-bc|awac|iql|sac|dqn|latent-sac|dreamer --data DIR --out RUN`,
or a teacher of several source tasks: `robot-rl pretrain teacher --sources DIR DIR ... --out RUN`.

Options of the learner are dotted: `--agent.discount 0.97`. Every option of one learner is shown by
`robot-rl pretrain awac --help`. The run folder holds the resolved config, metrics, TensorBoard events, a
picture of the learning curve and checkpoints; `--resume` goes on from the last of them, bit for bit.
`--world-model RUN` takes a share of each batch from a model made by `robot-rl world-model`. What a teacher knows is
taken over by `robot-rl finetune latent-sac|dreamer --transfer RUN`."""

TEACHER = "teacher"
ABOUT_TEACHERS = """Train one world model of several source tasks, which a new task can learn from:
`robot-rl pretrain teacher --sources DIR DIR ... --out RUN`.

The sources' observations and actions must agree; what differs is the task. Nothing is evaluated here: losses are also
given for episodes that were kept out. `--resume` goes on from the last checkpoint."""


def main(argv: Sequence[str]) -> int:
    """Parse, train, and say where things are."""
    if argv and argv[0] == TEACHER:
        return _teach(argv[1:])
    name = chosen_kind(argv, CONFIGS, key="algorithm", what="a learner", default="bc")
    config = parse(
        PretrainConfig,
        argv,
        prog="robot-rl pretrain",
        description=DESCRIPTION,
        defaults={"agent": CONFIGS[name]()},
    )
    results = pretrain(config)
    out = make_console()
    rows = {"run": str(config.out), "curve": str(config.out / "learning_curve.png")}
    if "eval/return" in results:
        rows["return"] = with_interval(results, "eval/return", "{:.1f}")
    if "eval/success" in results:
        rows["success"] = with_interval(results, "eval/success", "{:.0%}")
    out.print(key_value_table(f"{config.algorithm}, {config.steps:,} updates", rows))
    out.print(f"Next: robot-rl evaluate {config.out}   or   robot-rl export {config.out} --out BUNDLE", markup=False)
    return 0


def _teach(argv: Sequence[str]) -> int:
    config = parse(TeacherConfig, argv, prog="robot-rl pretrain teacher", description=ABOUT_TEACHERS)
    found = train_teacher(config)
    rows = {"run": str(config.out), "curve": str(config.out / "learning_curve.png")}
    for name in ("observation", "reward"):
        rows[f"{name}, kept-out episodes"] = f"{found[f'held_out/{name}']:.3g}  (training {found[f'model/{name}']:.3g})"
    out = make_console()
    out.print(key_value_table(f"teacher of {len(config.sources)} tasks, {config.steps:,} updates", rows))
    out.print(f"Next: robot-rl finetune latent-sac --transfer {config.out} --env TARGET --out RUN", markup=False)
    return 0


def with_interval(results: dict[str, float], name: str, form: str) -> str:
    """A figure of an evaluation with its 95 % interval, each formatted by `form`."""
    low, high = form.format(results[f"{name}_low"]), form.format(results[f"{name}_high"])
    return f"{form.format(results[name])}  (95 % interval {low} to {high})"
