"""Equal sketches of different clips, which no later step could tell apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from motive_fo.attribution.gradients import UNMASKED, Sketch
from motive_fo.errors import ClipError
from motive_fo.pipeline.record import Version
from motive_fo.store.table import Status, Table


class RepeatedSketches:
    """Notices a sketch that another clip of the table has already: the same video twice, or a model that sees no
    difference.

    The gradient's norm is the key: equal sketches have equal norms, and reading all norms is cheap.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._by_norm: dict[float, list[str]] = {}
        self._seen: dict[str, tuple[npt.NDArray[np.float32], str]] = {}
        ids = [clip_id for clip_id in table.ids if table.status(clip_id) in (Status.DONE, Status.STATIC)]
        for clip_id, norm in zip(ids, table.read("norm", ids), strict=True):
            self._by_norm.setdefault(float(norm[UNMASKED]), []).append(clip_id)

    def check(self, clip_id: str, sketch: Sketch, version: Version) -> None:
        """Raise ``ClipError`` where another clip has the same sketch; remember it otherwise."""
        norm = float(sketch.norm_2[UNMASKED])
        ours = self._table.rounded("sketch", sketch.sketch_2D)[UNMASKED]
        same_norm = self._by_norm.setdefault(norm, [])
        for other in same_norm:
            if other == clip_id:
                continue
            known, content = self._known(other)
            if np.array_equal(known, ours):
                if content == version.content:
                    raise ClipError("gradient", "duplicate_clip", f"the same video and caption as {other}")
                raise ClipError("gradient", "repeated_sketch", f"the sketch equals that of {other}, another clip")
        if clip_id not in same_norm:
            same_norm.append(clip_id)
        self._seen[clip_id] = (ours, version.content)

    def _known(self, clip_id: str) -> tuple[npt.NDArray[np.float32], str]:
        if clip_id not in self._seen:
            sketch = self._table.read("sketch", [clip_id])[0][UNMASKED]
            self._seen[clip_id] = (sketch, str(self._table.read("content", [clip_id])[0]))
        return self._seen[clip_id]
