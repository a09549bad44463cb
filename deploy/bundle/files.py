"""The two files of a bundle, read and held against each other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

from deploy.bundle.contract import CERTIFICATE_FILE, MODEL_FILE, Contract
from robot_rl.errors import BundleError


def read_bundle(folder: Path) -> tuple[bytes, Contract]:
    """The graph's bytes, and the contract in its certificate.

    Raises:
        BundleError: If a file is missing or unreadable, or the graph is not the one that was certified.
    """
    model, certificate = _read(folder)
    return model, _verified(folder, model, certificate)


def _read(folder: Path) -> tuple[bytes, dict[str, Any]]:
    for name in (MODEL_FILE, CERTIFICATE_FILE):
        if not (folder / name).is_file():
            raise BundleError(
                f"{folder} is not a policy bundle: {name} is missing. Give the folder that was --out of "
                f"`robot-rl export`; an ONNX file made by something else carries no contract and "
                f"is not served."
            )
    file = folder / CERTIFICATE_FILE
    try:
        raw = json.loads(file.read_text())
        model = (folder / MODEL_FILE).read_bytes()
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read ({error}). Export again.") from error
    if not isinstance(raw, dict) or not {"sha256", "contract"} <= cast("dict[str, Any]", raw).keys():
        raise BundleError(f"{file} holds no 'sha256' and 'contract'. Export again.")
    return model, cast("dict[str, Any]", raw)


def _verified(folder: Path, model: bytes, certificate: dict[str, Any]) -> Contract:
    digest = hashlib.sha256(model).hexdigest()
    if digest != certificate["sha256"]:
        raise BundleError(
            f"{folder / MODEL_FILE} is not the file that was exported: its SHA-256 is {digest[:16]}…, the "
            f"certificate says {str(certificate['sha256'])[:16]}…. Copy the bundle again or export again."
        )
    return Contract.from_json(json.dumps(certificate["contract"]), str(folder / CERTIFICATE_FILE))
