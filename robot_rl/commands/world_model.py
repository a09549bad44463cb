"""`robot-rl world-model`: learn to predict the robot from its logs."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.config import chosen_kind, parse
from robot_rl.console import key_value_table, make_console
from robot_rl.data.dataset import load_dataset
from robot_rl.world_models.registry import MODEL_CONFIGS
from robot_rl.world_models.train import WorldModelConfig, train

DESCRIPTION = """Train a world model on a dataset: `robot-rl world-model ensemble|vae --data DIR --out RUN`. `ensemble`
is the one to take, `vae` the one of the paper (`robot-rl world-model vae --help` for its options).

Options of the model are dotted: `--model.epochs 100`. The run folder holds checkpoints and report.md: one-step
and open-loop errors beside naive predictors, calibration, predicted beside real. `robot-rl pretrain` augments
its batches with it by `--world-model RUN`; a model that a naive predictor beats is refused there."""


def main(argv: Sequence[str]) -> int:
    """Parse, train, and say how good it is."""
    name = chosen_kind(argv, MODEL_CONFIGS, key="kind", what="a world model", default="ensemble")
    config = parse(
        WorldModelConfig,
        argv,
        prog="robot-rl world-model",
        description=DESCRIPTION,
        defaults={"model": MODEL_CONFIGS[name]()},
    )
    verdict = train(config)
    naive = verdict.best_naive
    rows = {
        "report": str(config.out / "report.md"),
        "one-step error": f"{verdict.error('model'):.3f} std  ({naive}: {verdict.error(naive):.3f})",
        "reward error": f"{verdict.reward['model']:.3f} std",
        "90 % interval": f"holds {verdict.coverage['90%']:.1%}",
    }
    out = make_console()
    out.print(key_value_table(f"{config.kind}, {verdict.transitions:,} held-out transitions", rows))
    if verdict.usable:
        discrete = load_dataset(config.data).spec.control == "discrete"
        learner = "dqn" if discrete else "sac --config examples/small_data_pretrain.yaml"
        out.print(
            f"Next: robot-rl pretrain {learner} --data {config.data} --out RUN --world-model {config.out}", markup=False
        )
    else:
        make_console(stderr=True).print(
            f"[yellow]'{naive}' predicts better: `robot-rl pretrain` will refuse this model without --augment.force."
        )
    return 0
