"""What must be equal for two computations to be comparable, and what is only worth knowing.

*Identity* is every setting that changes the numbers. A table refuses to continue under another one.
*Provenance* is who computed: package versions, device, time. It is recorded, and a change is only noted.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from motive_fo.errors import StoreMismatchError

FORMAT_VERSION = 2

Identity = Mapping[str, Any]

_PACKAGES = ("motive-fo", "torch", "numpy", "zarr", "av", "decord", "opencv-python-headless")


def flatten(identity: Identity, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names, lists and tuples alike."""
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, list | tuple) else value
    return flat


def require_equal(stored: Identity, asked: Identity, what: str) -> None:
    """Raise ``StoreMismatchError`` naming every field that differs, both values and the ways out."""
    old, new = flatten(stored), flatten(asked)
    unlike = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if unlike:
        fields = "; ".join(f"{key}: stored {old.get(key)!r}, asked for {new.get(key)!r}" for key in unlike)
        raise StoreMismatchError(
            f"{what} was computed with other settings ({fields}). "
            "Set them back, choose another run name, or delete the run first (motive runs delete)"
        )


def provenance(device: str) -> dict[str, Any]:
    """Versions, machine kind and time of this computation."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "packages": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def fingerprint(identity: dict[str, Any]) -> str:
    """Digest of settings: twelve hexadecimal digits."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()
