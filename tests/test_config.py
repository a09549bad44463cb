"""YAML and command line become one typed, frozen config."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from robot_rl.algorithms.awac import AWACConfig
from robot_rl.cli import main
from robot_rl.config import from_mapping, load_yaml, parse, save_yaml
from robot_rl.errors import ConfigError
from robot_rl.pretrain import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    data: Path
    count: int = 3
    inner: Inner = field(default_factory=Inner)


def read(argv: list[str]) -> Outer:
    return parse(Outer, argv, prog="test", description="A test.")


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("count: 5\ninner: {rate: 2}\n")
    assert read(["--data", "d", "--config", str(file), "--count", "7"]) == Outer(
        data=Path("d"), count=7, inner=Inner(rate=2.0)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cuont: 5", "unknown key 'cuont'. Did you mean 'count'?"),
        ("inner: {raet: 5}", "unknown key 'raet'. Did you mean 'rate'?"),
        ("count: many", "count: Expected `int`, got `str`"),
        ("- a list", "holds a list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(["--data", "d", "--config", str(file)])
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"c\.yaml is not valid YAML"):
        load_yaml(tmp_path / "c.yaml")


@dataclass(frozen=True, kw_only=True)
class Pair:
    low: float = 0.0
    high: float = 1.0
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError(f"low {self.low} is above high {self.high}")


def test_a_file_is_held_against_the_command_line_not_before_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("low: 2.0\n")
    words = ["--config", str(file)]
    assert parse(Pair, [*words, "--high", "3"], prog="p", description="d") == Pair(low=2.0, high=3.0)
    with pytest.raises(ConfigError, match=r"low 2\.0 is above high 1\.0"):
        parse(Pair, words, prog="p", description="d")


def test_a_missing_required_key_is_named() -> None:
    with pytest.raises(ConfigError, match="key 'data' is missing"):
        from_mapping(Outer, {}, "x.yaml")


def test_a_saved_config_reads_back_equal(tmp_path: Path) -> None:
    made = PretrainConfig(
        algorithm="awac", data=Path("d"), out=Path("o"), agent=AWACConfig(temperature=0.5, weighting="exp")
    )
    save_yaml(made, tmp_path / "config.yaml")
    raw = load_yaml(tmp_path / "config.yaml")
    assert from_mapping(PretrainConfig, raw, "file", defaults={"agent": AWACConfig()}) == made


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--help"], 0),
        ([], 2),
        (["pretrian"], 2),
        (["pretrain", "--help"], 0),
        (["pretrain", "sac"], 2),
        (["pretrain", "bc", "--data", "nowhere", "--out", "o"], 2),
        (["pretrain", "bc", "--stepz", "3"], 2),
        (["evaluate", "nowhere"], 2),
        (["evaluate", "nowhere", "--seed", "-1"], 2),
        (["pretrain", "bc", "--data", "d", "--out", "o", "--threads", "0"], 2),
        (["demo", "--episodes", "0"], 2),
        (["locomotion", "--out", "o", "--plan.seed", "-1"], 2),
        (["bench", "nothing"], 2),
    ],
)
def test_exit_statuses(argv: list[str], status: int) -> None:
    assert main(argv) == status


def test_a_seed_beyond_what_generators_take_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "bc", "--data", "d", "--out", "o", "--seed", str(2**64)]) == 2
    assert f"--seed is {2**64}; it must be {2**31} or less" in capsys.readouterr().err


def test_an_unknown_learner_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    main(["pretrain", "awak", "--data", "d", "--out", "o"])
    assert "'awak' is not a learner. Did you mean 'awac'?" in capsys.readouterr().err
