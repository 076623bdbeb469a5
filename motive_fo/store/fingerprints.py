"""Where the figures of a run come from: a digest of the settings behind each part of its store, and who computed it.

Two parts with one digest were computed with the same settings, from the weights' sums to the decoder. Only attributes
are read, no rows but the scoring's ids: it costs the same for any number of clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import zarr
from zarr.errors import GroupNotFoundError

from motive_fo.errors import StoreDamageError
from motive_fo.store.damage import damaged_part, is_damage, sentence, whole_array
from motive_fo.store.identity import fingerprint
from motive_fo.store.place import place_of
from motive_fo.store.scores import AGAIN

SCORING: Final = "influence"


@dataclass(frozen=True)
class Origin:
    """What a part of a store was computed from and by.

    Attributes:
        digest: of its settings, twelve hexadecimal digits, as ``motive store info`` shows them. Of a scoring: of its
            settings, of the sketches it used, and of the ids of its clips and queries.
        settings: those settings.
        history: package versions, device and time of every computation, oldest first; empty for a scoring.
    """

    digest: str
    settings: Mapping[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)


def origins(path: str | Path) -> dict[str, Origin]:
    """Part of the store -> its origin: ``motion``, ``train/t750.748-n0`` and its kin, ``influence``. Empty parts, and a
    folder that is no store, have none.

    Raises:
        StoreDamageError: attributes, or the ids of the scoring, are lost or altered.
    """
    place = place_of(path)
    try:
        root = place.open(write=False)
    except (GroupNotFoundError, FileNotFoundError):
        return {}
    found: dict[str, Origin] = {}
    try:
        tables = {"motion": root["motion"]} if "motion" in root else {}
        for role in ("query", "train"):
            if role in root:
                tables |= {f"{role}/{name}": table for name, table in sorted(cast(zarr.Group, root[role]).groups())}
        for name, table in tables.items():
            said = cast(dict[str, Any], table.attrs.asdict())
            if said.get("identity"):
                found[name] = Origin(fingerprint(said["identity"]), said["identity"], said.get("provenance", []))
        scoring = place.current(root, SCORING)
        if scoring is not None:
            found[SCORING] = _scoring(root, scoring, found)
    except Exception as error:
        if isinstance(error, StoreDamageError) or not is_damage(error):
            raise
        what = f"a zarr.json cannot be read ({sentence(error)})"
        raise damaged_part(root, "attributes", what, "motive store verify says which") from error
    return found


def _scoring(root: zarr.Group, scoring: str, tables: Mapping[str, Origin]) -> Origin:
    settings = cast(dict[str, Any], cast(zarr.Group, root[scoring]).attrs.asdict().get("settings", {}))
    used = [f"t{float(timestep)!r}-n{noise}" for timestep, noise in settings.get("samples", [])]
    behind: dict[str, Any] = {
        "settings": settings,
        "sketches": {
            f"{role}/{name}": tables[f"{role}/{name}"].digest
            for role in ("query", "train")
            for name in used
            if f"{role}/{name}" in tables
        },
        "ids": {key: _digest(whole_array(root, scoring, key, AGAIN)) for key in ("query_id", "train_id")},
    }
    return Origin(fingerprint(behind), settings)


def _digest(ids: list[str]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for clip_id in ids:
        total.update(str(clip_id).encode("utf-8", "surrogatepass") + b"\0")
    return total.hexdigest()
