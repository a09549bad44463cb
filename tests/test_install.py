"""What is installed: the console command, the torch-free robot side, the files that travel along."""

import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROBOT_SIDE = [
    "robot_rl.spec",
    "robot_rl.errors",
    "robot_rl.config",
    "robot_rl.data.stats",
    "deploy.bundle.contract",
    "deploy.bundle.policy",
    "deploy.control.rate",
    "deploy.safety.supervisor",
    "deploy.control.controller",
    "deploy.arms.mujoco",
    "deploy.commands.serve",
    "deploy.commands.replay",
    "deploy.recorder",
    "deploy.arms.franka",
    "deploy.server.server",
    "deploy.server.client",
    "deploy.commands.actor",
    "robot_rl.intervene",
    "robot_rl.data.success_net",
]
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" or name.startswith("torch."):
            raise ImportError("torch is not on the robot")
sys.meta_path.insert(0, Refuse())
import importlib
importlib.import_module(sys.argv[1])
"""


def test_the_console_command_lists_its_verbs() -> None:
    command = Path(sys.executable).with_name("robot-rl")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    for verb in ("data", "record", "pretrain", "evaluate", "export", "serve", "bench", "demo"):
        assert f"  {verb} " in done.stdout


@pytest.mark.parametrize("module", ROBOT_SIDE)
def test_the_robot_side_imports_without_torch(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TORCH, module], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_arm_files_and_models_are_packaged() -> None:
    names = {f.name for f in importlib.resources.files("hardware_configs").iterdir()}
    assert {"virtual.yaml", "robosuite_panda.yaml"} <= names
    assert "virtual_arm.xml" in {f.name for f in importlib.resources.files("sim").joinpath("assets").iterdir()}


def test_a_shadowing_package_is_refused_in_words(tmp_path: Path) -> None:
    """`sim` is a common name: one that comes first on the path must not be used by mistake."""
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "__init__.py").write_text("")
    run = "from robot_rl.cli import main; sys.exit(main(['bench', 'x']))"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {run}"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Python finds package 'sim'" in done.stderr
