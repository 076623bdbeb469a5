"""The pictures of a run's report: queries with the clips at both ends of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from motive_fo.clips.worker import DecodePool
from motive_fo.dataset.motion_report import motion_settings
from motive_fo.dataset.run_facts import Facts
from motive_fo.errors import ClipError, MotiveError
from motive_fo.pipeline.motion import MotionSettings, known_frames
from motive_fo.progress import Progress
from motive_fo.report.run_page import SeenQuery
from motive_fo.report.strip import ShownClip, masked_strip, strip
from motive_fo.store.table import Status

_CAPTION: Final = 600  # characters of a caption that are shown with each of its pictures


def seen_queries(facts: Facts, shown: int, queries: int, progress: Progress) -> list[SeenQuery]:
    """The first queries by group and id, each with the ``shown`` clips at both ends of its scores, decoded again."""
    order = sorted(range(len(facts.queries)), key=lambda q: (facts.queries[q].group or "", facts.queries[q].id))
    pictures = _Pictures(facts, motion_settings(facts.record))
    seen = []
    with pictures.settings.pool() as pool:
        for done, q in enumerate(order[:queries]):
            progress("report", done, min(queries, len(order)))
            query, scores = facts.queries[q], facts.scores_of(q)
            ranked = [facts.made.ranking.ids[n] for n in np.argsort(-scores, kind="stable")]
            cosine = dict(zip(facts.made.ranking.ids, scores, strict=True))
            most, least = ranked[:shown], ranked[::-1][: min(shown, max(0, len(ranked) - shown))]
            group = f"{query.group}: " if query.group else ""
            avoid = " (to avoid)" if facts.candidates.avoid_Q[q] else ""
            ends = [
                [clip for i in end if (clip := pictures.of(i, f"cosine {cosine[i]:.3f}", pool)) is not None]
                for end in (most, least)
            ]
            seen.append(SeenQuery(f"{group}{query.id}{avoid}", pictures.of(query.id, "the query", pool), *ends))
    progress("report", min(queries, len(order)), min(queries, len(order)))
    return seen


class _Pictures:
    """Strips of clips, each decoded once however many queries show it."""

    def __init__(self, facts: Facts, settings: MotionSettings) -> None:
        self.settings = settings
        self._facts = facts
        self._strips: dict[str, Sequence[Any] | None] = {}

    def of(self, clip_id: str, words: str, pool: DecodePool) -> ShownClip | None:
        """A clip with its pictures; None where its file cannot be read any more."""
        if clip_id not in self._strips:
            self._strips[clip_id] = self._draw(clip_id, pool)
        strips = self._strips[clip_id]
        if strips is None:
            return None
        mean = self._facts.statistic("mean", [clip_id])
        motion = f", {mean[0]:.2f} px per frame" if mean else ""
        return ShownClip(clip_id, _shortened(self._facts.clips[clip_id].caption), words + motion, strips)

    def _draw(self, clip_id: str, pool: DecodePool) -> Sequence[Any] | None:
        clip = self._facts.clips.get(clip_id)
        if clip is None:
            return None
        try:
            frames = pool.decode(self.settings.request(clip)).frames_THW3
        except (ClipError, MotiveError):
            return None
        strips = [strip(frames, f"frames of {clip_id}", height=72)]
        if clip_id in self._facts.motion and self._facts.motion.status(clip_id) == Status.DONE:
            mask = known_frames(self._facts.motion.read("mask", [clip_id])[0])
            strips.append(masked_strip(frames, mask, f"motion mask of {clip_id} over its frames"))
        return strips


def _shortened(caption: str) -> str:
    return caption if len(caption) <= _CAPTION else f"{caption[:_CAPTION]}… ({len(caption)} characters)"
