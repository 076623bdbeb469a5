"""Whatever a file holds, it ends in its own frames or in a code, in time, through the pool."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from motive_fo.clips.clip import Clip
from motive_fo.clips.decode import decode
from motive_fo.clips.messages import Request
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.worker import DecodePool, decode_ahead
from motive_fo.errors import ClipError
from tests.clips.damage import Odd, corpus
from tests.videos import SHARED_VIDEOS, read_numbers

SECONDS = 10.0
#: Codes that say the pool had to step in: none of these files may need it.
POOL_CODES = {"decode_timeout", "decoder_died", "internal_error"}


def wrong(odd: Odd, result: Clip | ClipError) -> str:
    """What is wrong with a result; empty if nothing is."""
    if isinstance(result, ClipError):
        return "" if result.code in odd.codes else str(result)
    if odd.numbers is not None:
        found = tuple(read_numbers(result.frames_THW3))
        return "" if found == odd.numbers else f"shows {found} instead of {odd.numbers}"
    return "" if odd.clip else "a clip, where none can be"


def in_process(path: Path, spec: ClipSpec) -> Clip | ClipError:
    try:
        return decode(path, spec)
    except ClipError as error:
        return error


def test_every_file_ends_in_its_frames_or_in_a_code(tmp_path: Path) -> None:
    files = list(corpus(tmp_path))
    assert len(files) >= 60
    assert len({odd.kind for odd in files}) >= 20
    spec = ClipSpec(0, 30, 17, 96, 128, crop="none")
    failures = []
    with DecodePool(2, seconds=SECONDS, memory=1 << 30) as pool:
        began = time.monotonic()
        for odd, result in decode_ahead(files, pool, lambda odd: Request(odd.path, spec), depth=4):
            if text := wrong(odd, result):
                failures.append(f"{odd.kind}: {odd.path.name!r}: {text}")
            assert time.monotonic() - began < SECONDS, odd.path
            began = time.monotonic()
    assert not failures, "\n".join(failures)


def test_found_odd_videos_are_as_in_process() -> None:
    spec = ClipSpec(0, 16, 17, 64, 64)
    paths = sorted((SHARED_VIDEOS / "odd").glob("*")) if SHARED_VIDEOS.is_dir() else []
    with DecodePool(2, seconds=SECONDS) as pool:
        for path, result in decode_ahead(paths, pool, lambda path: Request(path, spec)):
            here = in_process(path, spec)
            if isinstance(here, ClipError):
                assert str(result) == str(here)
                assert here.code not in POOL_CODES
            else:
                assert isinstance(result, Clip)
                assert np.array_equal(result.frames_THW3, here.frames_THW3)
