"""The sketches of one role (``train`` or ``query``): a table for each timestep and noise, read together.

On disk, a group with the attributes ``identity`` (settings that all its sketches share), ``parameter_groups`` (names of
the groups whose squared norms are stored), ``samples`` (timesteps and noises of the last gradient step) and one table
for each sample, ``t750.748-n0``, whose rows are done or not done by themselves. So a timestep or noise that is added
later is a table that is added, and one that is no longer asked for stays and can still be scored with.

A sample is one draw of the diffusion objective: a timestep and the seed of a noise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import zarr

from motive_fo.errors import StoreError
from motive_fo.store.chunks import children, holds_anything, remove
from motive_fo.store.damage import damaged_part, part_of
from motive_fo.store.identity import Identity, require_equal
from motive_fo.store.table import Column, Status, Table

_NAME: Final = re.compile(r"t(.+)-n(\d+)")
_AGAIN: Final = "Remove it (motive store verify STORE --repair) and run the gradient step again, which writes it"
_WORST_FIRST: Final = (Status.PENDING, Status.FAILED, Status.STATIC, Status.DONE)
_PLACE: Final = np.argsort(_WORST_FIRST)  # of each status in that order


class Sample(NamedTuple):
    """One draw of the objective: a position in the noise schedule (0 to 1000) and the seed of a noise."""

    timestep: float
    noise: int

    def __str__(self) -> str:
        return f"timestep {self.timestep:g}, noise {self.noise}"

    @property
    def table(self) -> str:
        """Name of its table."""
        return f"t{float(self.timestep)!r}-n{self.noise}"


def samples_of(timesteps: Iterable[float], noises: Iterable[int]) -> list[Sample]:
    """Every timestep with every noise, each once, in the order given."""
    seeds = list(noises)
    return list(dict.fromkeys(Sample(float(t), int(n)) for t in timesteps for n in seeds))


class SketchTables:
    """The tables of some samples of one role, in the samples' order. Opened through ``RunStore.sketches``.

    Args:
        samples: which ones; those of the last gradient step where open.
        columns, identity, groups: for writing: columns of each table, settings all sketches share, and the names of
            the parameter groups.

    Raises:
        StoreError: there are no sketches, or not of these samples.
        StoreMismatchError: a field of the identity differs (writing).
    """

    def __init__(
        self,
        parent: zarr.Group,
        role: str,
        samples: Sequence[Sample] | None = None,
        columns: Mapping[str, Column] | None = None,
        identity: Identity | None = None,
        groups: Sequence[str] = (),
    ) -> None:
        self.role = role
        group = part_of(parent, role, _AGAIN)
        if columns is None:
            if group is None:
                raise StoreError(f"the run has no gradients of {role} clips yet: run the gradient step first")
            self._group = group
        else:
            self._group = parent.require_group(role) if group is None else group
            self._claim(identity or {}, samples or (), groups)
        self.samples = list(samples) if samples is not None else self.in_use(parent, role)
        if columns is None:
            missing = [sample for sample in self.samples if sample not in self.stored]
            if missing or not self.samples:
                there = "; ".join(str(sample) for sample in self.stored) or "none"
                asked = "; ".join(str(sample) for sample in missing) or "any"
                raise StoreError(
                    f"the run has no gradients of {role} clips at {asked}; it has: {there}. "
                    "Run the gradient step with them, or choose among these"
                )
        # each checks its own identity, the sample included
        self.tables = {
            sample: Table(
                self._group,
                sample.table,
                columns,
                None if columns is None else {**(identity or {}), "timestep": sample.timestep, "noise": sample.noise},
            )
            for sample in self.samples
        }

    def _claim(self, identity: Identity, samples: Sequence[Sample], groups: Sequence[str]) -> None:
        known = cast(dict[str, Any], self._group.attrs.asdict())
        if known.get("identity"):
            require_equal(known["identity"], identity, f"the sketches of {self.role} clips of this run")
        wanted = {"identity": identity, "parameter_groups": list(groups), "samples": [list(each) for each in samples]}
        wanted = json.loads(json.dumps(wanted))
        if any(known.get(key) != value for key, value in wanted.items()):
            self._group.attrs.update(wanted)

    @staticmethod
    def in_use(parent: zarr.Group, role: str) -> list[Sample]:
        """The samples of the role's last gradient step; they may have no tables yet."""
        group = part_of(parent, role, _AGAIN)
        known = {} if group is None else group.attrs.asdict()
        try:
            return [Sample(float(t), int(n)) for t, n in cast(list[Any], known.get("samples", []))]
        except (TypeError, ValueError, OverflowError):
            raise StoreError(
                f"the attribute 'samples' of the store's {role} clips is damaged: run the gradient step again, which "
                "writes it"
            ) from None

    @staticmethod
    def shared_identity(parent: zarr.Group, role: str) -> dict[str, Any]:
        """Settings that all sketches of a role share; empty where there are none, or they are lost."""
        group = part_of(parent, role, _AGAIN)
        said = {} if group is None else group.attrs.asdict().get("identity", {})
        return said if isinstance(said, dict) else {}

    @staticmethod
    def describe_again(parent: zarr.Group, role: str, table: str) -> None:
        """Write the ``zarr.json`` of a table that lost its own: its settings are those that all sketches of the role
        share, its timestep and noise are its name.

        Raises:
            StoreDamageError: those settings are lost too.
        """
        group, match = part_of(parent, role, _AGAIN), _NAME.fullmatch(table)
        shared = SketchTables.shared_identity(parent, role)
        if group is None or match is None or not shared:
            raise damaged_part(parent, f"{role}/zarr.json", "it is missing", _AGAIN)
        remove(group, f"{table}/zarr.json")
        identity = {**shared, "timestep": float(match[1]), "noise": int(match[2])}
        group.create_group(table, attributes={"identity": identity})

    @property
    def stored(self) -> list[Sample]:
        """Every sample that has a table, of whatever settings, in order of timestep and noise."""
        return _stored(self._group)

    @staticmethod
    def all_stored(parent: zarr.Group, role: str) -> list[Sample]:
        """``stored`` of a role, none where there are no sketches."""
        group = part_of(parent, role, _AGAIN)
        return [] if group is None else _stored(group)

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that all sketches of the role share."""
        return cast(dict[str, Any], self._group.attrs.asdict().get("identity", {}))

    @property
    def groups(self) -> list[str]:
        """Names of the parameter groups, in the order of the column ``squares``."""
        return [str(name) for name in cast(list[Any], self._group.attrs.asdict().get("parameter_groups", []))]

    @property
    def ids(self) -> list[str]:
        """Clips that have a row in every table, in the order they came."""
        return [clip_id for clip_id in next(iter(self.tables.values())).ids if clip_id in self]

    def __contains__(self, clip_id: str) -> bool:
        return all(clip_id in table for table in self.tables.values())

    def status(self, clip_id: str) -> Status:
        """The clip's state over all samples: PENDING where one is missing, else FAILED where one failed, and so on."""
        states = {table.status(clip_id) for table in self.tables.values()}
        return next(status for status in _WORST_FIRST if status in states)

    def states(self, ids: Sequence[str]) -> npt.NDArray[np.uint8]:
        """``status`` of many clips at once."""
        each_SN = np.stack([table.states(ids) for table in self.tables.values()])
        return np.asarray(np.asarray(_WORST_FIRST, np.uint8)[_PLACE[each_SN].min(0)])

    def read(self, column: str, ids: Sequence[str]) -> npt.NDArray[Any]:
        """One column of the clips, all of which must be in every table.

        Returns:
            numbers: (N, S, ...), S samples; text (code, message, ...): (N,) as ``object``, of the sample that decides
            the clip's state.
        """
        parts = [table.read(column, ids) for table in self.tables.values()]
        if parts[0].dtype != object:
            return _by_clip(parts)
        deciding = [self._deciding(clip_id) for clip_id in ids]
        return np.asarray([parts[s][n] for n, s in enumerate(deciding)], dtype=object)

    def places(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Rows of the clips in each table, to read them block by block: (S, N), -1 where there is none."""
        return np.stack([table.places(ids) for table in self.tables.values()])

    def read_places(self, column: str, places_SN: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """One column of numbers for rows by ``places``: (N, S, ...)."""
        pairs = zip(self.tables.values(), places_SN, strict=True)
        return _by_clip([table.read_places(column, places_N) for table, places_N in pairs])

    def expect_places(self, column: str, places_SN: npt.NDArray[np.int64]) -> None:
        """Have rows fetched from disk ahead of ``read_places``."""
        for table, places_N in zip(self.tables.values(), places_SN, strict=True):
            table.expect_places(column, places_N)

    def _deciding(self, clip_id: str) -> int:
        status = self.status(clip_id)
        return next(s for s, table in enumerate(self.tables.values()) if table.status(clip_id) == status)

    def flush(self) -> None:
        """Write what waits in memory."""
        for table in self.tables.values():
            table.flush()


def _by_clip(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """S arrays (N, ...) as one (N, S, ...), which of a single one is no copy."""
    return parts[0][:, None] if len(parts) == 1 else np.stack(parts, axis=1)


def _stored(group: zarr.Group) -> list[Sample]:
    found = (_NAME.fullmatch(name) for name in children(group) if holds_anything(group, name))
    return sorted(Sample(float(match[1]), int(match[2])) for match in found if match)
