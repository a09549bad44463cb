from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from deploy.bundle.contract import CERTIFICATE_FILE, METADATA_KEY, MODEL_FILE, Contract, require_fit
from deploy.bundle.export import export_policy
from deploy.bundle.parity import _rounding
from deploy.bundle.policy import Policy
from deploy.commands.export import ExportConfig
from robot_rl.checkpoint import TrainedPolicy
from robot_rl.errors import BundleError, ConfigError, ParityError, SpecMismatch
from robot_rl.spec import Entry, Spec

Bundle = tuple[Path, Contract]


def test_bundle_computes_what_the_module_does_at_batch_one(bundle: Bundle, trained: TrainedPolicy) -> None:
    policy = Policy.load(bundle[0])
    module = copy.deepcopy(trained.module).eval()
    rng = np.random.default_rng(7)
    for _ in range(50):
        obs = rng.normal(0, 2, trained.spec.obs_dim).astype(np.float32)
        expected = module(torch.from_numpy(obs)[None])[0].detach().numpy()
        np.testing.assert_allclose(policy.act(obs), expected, atol=1e-5)


def test_actions_of_far_out_observations_stay_within_the_spec(bundle: Bundle, trained: TrainedPolicy) -> None:
    policy = Policy.load(bundle[0])
    action = policy.act(np.full(trained.spec.obs_dim, 1e6, np.float32))
    assert (action >= trained.spec.action_low - 1e-6).all()
    assert (action <= trained.spec.action_high + 1e-6).all()


def test_act_fills_the_same_buffer_each_time(bundle: Bundle, trained: TrainedPolicy) -> None:
    policy = Policy.load(bundle[0] / MODEL_FILE)
    first = policy.act(np.zeros(trained.spec.obs_dim, np.float32))
    kept = first.copy()
    second = policy.act(np.ones(trained.spec.obs_dim, np.float32))
    assert first is second
    assert not np.array_equal(second, kept)


def test_certificate_counts_what_was_compared(bundle: Bundle) -> None:
    parity = bundle[1].parity
    assert (parity.samples_recorded, parity.samples_random) == (300, 2048)
    assert 0 < parity.max_abs <= 1e-5
    assert parity.max_abs == max(parity.max_abs_recorded, parity.max_abs_random)


def test_contract_survives_the_file(bundle: Bundle, trained: TrainedPolicy) -> None:
    contract = Policy.load(bundle[0]).contract
    assert contract == bundle[1]
    assert contract.spec == trained.spec
    assert contract.stats_digest == trained.stats.digest
    assert (contract.weight_version, contract.algorithm, contract.run) == (1234, "bc", "reach")


def test_graph_is_one_file_with_free_batch_and_no_traces_of_the_machine(bundle: Bundle) -> None:
    content = (bundle[0] / MODEL_FILE).read_bytes()
    model = onnx.load_model_from_string(content)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert not any(t.data_location == TensorProto.EXTERNAL for t in model.graph.initializer)
    assert str(Path(__file__).parents[2]).encode() not in content


def test_export_leaves_dropout_out_and_the_module_as_it_was(bundle: Bundle, trained: TrainedPolicy) -> None:
    assert trained.module.training
    model = onnx.load(bundle[0] / MODEL_FILE)
    assert "Dropout" not in {node.op_type for node in model.graph.node}


def test_existing_folder_is_not_overwritten(bundle: Bundle, trained: TrainedPolicy) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        export_policy(trained, bundle[0], [])


class Drifting(nn.Module):
    """Differs between eager and exported: tracing sees another branch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        shift = 1e-3 if torch.compiler.is_compiling() else 0.0
        return self.inner(obs) + shift


def test_parity_outside_tolerance_leaves_nothing_behind(tmp_path: Path, trained: TrainedPolicy) -> None:
    drifting = replace(trained, module=Drifting(trained.module))
    with pytest.raises(ParityError, match=r"differs from PyTorch by 0\.001.*--tolerance"):
        export_policy(drifting, tmp_path / "out", [])
    assert list(tmp_path.iterdir()) == []


class Silent(nn.Module):
    """Turns into NaN, which compares false with everything."""

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, :7] / 0.0 - obs[:, :7] / 0.0


def test_nan_never_counts_as_parity(tmp_path: Path, trained: TrainedPolicy) -> None:
    with pytest.raises(ParityError):
        export_policy(replace(trained, module=Silent()), tmp_path / "out", [])


class NotANumberFarOut(nn.Module):
    """A policy that is one within some standard deviations alone."""

    def __init__(self, policy: nn.Module, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.policy = policy
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        distance = ((obs - self.mean) / self.std).square().mean(-1, keepdim=True)
        return self.policy(obs) + 0.0 * torch.sqrt(16.0 - distance)


def test_an_action_that_is_no_number_far_out_is_not_excused_as_rounding(tmp_path: Path, trained: TrainedPolicy) -> None:
    module = NotANumberFarOut(trained.module, trained.stats.mean, trained.stats.std)
    with pytest.raises(ParityError, match=r"by inf on extreme ones"):
        export_policy(replace(trained, module=module), tmp_path / "b", [])
    assert not (tmp_path / "b").exists()


def copy_of(bundle: Bundle, to: Path) -> Path:
    shutil.copytree(bundle[0], to)
    return to


def resign(folder: Path, content: bytes) -> None:
    """Write another model and make the certificate's hash fit it."""
    (folder / MODEL_FILE).write_bytes(content)
    raw = json.loads((folder / CERTIFICATE_FILE).read_text())
    raw["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / CERTIFICATE_FILE).write_text(json.dumps(raw))


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_changed_byte_is_noticed(bundle: Bundle, tmp_path: Path, position: int) -> None:
    folder = copy_of(bundle, tmp_path / "b")
    content = bytearray((folder / MODEL_FILE).read_bytes())
    content[position] ^= 1
    (folder / MODEL_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=r"not the file that was exported.*export again"):
        Policy.load(folder)


def test_half_a_model_with_a_fitting_hash_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = copy_of(bundle, tmp_path / "b")
    resign(folder, (folder / MODEL_FILE).read_bytes()[:2000])
    with pytest.raises(BundleError, match=r"policy\.onnx: ONNX Runtime refuses it"):
        Policy.load(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, CERTIFICATE_FILE])
def test_missing_file_is_named(bundle: Bundle, tmp_path: Path, name: str) -> None:
    folder = copy_of(bundle, tmp_path / "b")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing.*robot-rl export"):
        Policy.load(folder)


def test_foreign_onnx_carries_no_contract(bundle: Bundle, tmp_path: Path) -> None:
    folder = copy_of(bundle, tmp_path / "b")
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["obs"], ["action"])
    ends = value("obs", TensorProto.FLOAT, [1, 20]), value("action", TensorProto.FLOAT, [1, 20])
    graph = helper.make_graph([node], "g", [ends[0]], [ends[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    resign(folder, model.SerializeToString())
    with pytest.raises(BundleError, match="carries no contract"):
        Policy.load(folder)
    helper.set_model_props(model, {METADATA_KEY: bundle[1].to_json()})
    resign(folder, model.SerializeToString())
    with pytest.raises(BundleError, match=r"the graph has \[\('action', .*20,\)\)\].*7 numbers"):
        Policy.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "version 99, this program reads 1"),
        ({"spec_digest": "0"}, "spec does not match its own hash"),
        ({"parity": {}}, "not readable"),
    ],
)
def test_altered_contract_is_refused(bundle: Bundle, change: dict[str, object], message: str) -> None:
    raw = json.loads(bundle[1].to_json()) | change
    with pytest.raises(BundleError, match=message):
        Contract.from_json(json.dumps(raw), "certificate.json")


def test_contract_with_failed_parity_is_refused(bundle: Bundle) -> None:
    worse = replace(bundle[1], parity=replace(bundle[1].parity, max_abs=2e-5))
    with pytest.raises(BundleError, match=r"2\.00e-05, above its tolerance 1\.00e-05"):
        Contract.from_json(worse.to_json(), "certificate.json")
    nan = replace(bundle[1], parity=replace(bundle[1].parity, max_abs=float("nan"))).to_json()
    with pytest.raises(BundleError, match="above its tolerance"):
        Contract.from_json(nan, "certificate.json")


def with_action(spec: Spec, **changes: object) -> Spec:
    return replace(spec, action=(replace(spec.action[0], **changes),))


def test_fitting_arm_passes(bundle: Bundle, reach_spec: Spec) -> None:
    require_fit(bundle[1], reach_spec, "virtual")


def test_arms_that_do_not_fit_are_refused_in_words(bundle: Bundle, reach_spec: Spec) -> None:
    names = reach_spec.action[0].names
    gone = reach_spec.observation[:-1]
    cases = {
        r"rate: policy 'reach' runs at 50 Hz, arm 'x' at 100 Hz": replace(reach_spec, rate_hz=100.0),
        r"speaks 'joint_position', arm 'x' 'torque'": replace(reach_spec, control="torque"),
        r"orders joint1, joint2.*arm 'x' joint7, joint6": with_action(reach_spec, names=names[::-1]),
        r"is in rad, arm 'x' in deg": with_action(reach_spec, unit="deg"),
        r"spans .* arm 'x' \(-9\.0": with_action(reach_spec, low=(-9.0,) * 7),
        r"observation entries: .*\(20 numbers\); arm 'x'.*\(17 numbers\)": replace(reach_spec, observation=gone),
    }
    for message, spec in cases.items():
        with pytest.raises(SpecMismatch, match=message) as caught:
            require_fit(bundle[1], spec, "x")
        assert "retrain on data recorded with 'x'" in str(caught.value)


def test_policy_without_a_rate_is_not_served(bundle: Bundle) -> None:
    blank = Spec((Entry("o", ("a",)),), (Entry("a", ("a",)),))
    with pytest.raises(BundleError, match="does not state its control rate"):
        require_fit(replace(bundle[1], spec=blank), blank, "x")


def test_serving_imports_no_torch() -> None:
    code = "import sys, deploy.commands.serve, sim.virtual_arm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_tolerance_that_lets_everything_pass_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tolerance inf; both must be above 0, and finite"):
        ExportConfig(out=tmp_path, tolerance=float("inf"))


def test_rounding_is_that_of_any_order_of_summation() -> None:
    # In one order these three products add up exactly in float32, in another the 1 is lost: neither tells of the other.
    exact, lossy = (nn.Linear(3, 1, bias=False) for _ in range(2))
    with torch.no_grad():
        exact.weight.copy_(torch.tensor([[3e7, -3e7, 1.0]]))
        lossy.weight.copy_(torch.tensor([[1.0, 3e7, -3e7]]))
    ones = np.ones((1, 3), np.float32)
    for module in (exact, lossy):
        assert 0.25 < _rounding(module, ones) < 30.0
    near = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        near.weight.fill_(0.5)
    assert _rounding(near, ones) < 1e-6  # nothing cancels, nothing is excused
