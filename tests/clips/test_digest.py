from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from motive_fo.clips.digest import content_digest, file_stamp


def test_digest_is_blake2b_of_all_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) * 2 + 17)
    (tmp_path / "a").write_bytes(data)
    assert content_digest(tmp_path / "a") == hashlib.blake2b(data, digest_size=32).hexdigest()


def test_digest_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert content_digest(tmp_path / "a") == hashlib.blake2b(digest_size=32).hexdigest()


def test_stamp_changes_with_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 10**9))
    before = file_stamp(path)
    assert (before.size, before.mtime_ns) == (3, 10**9)
    assert file_stamp(path) == before
    os.utime(path, ns=(1, 10**9 + 1000))
    assert file_stamp(path) != before


def test_copy_has_the_same_digest_and_another_content_another(tmp_path: Path) -> None:
    for name, data in (("a", b"x" * 5000), ("b", b"x" * 5000), ("c", b"x" * 4999 + b"y")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (content_digest(tmp_path / name) for name in "abc")
    assert a == b != c


@pytest.mark.skipif(os.name != "posix", reason="named pipes and devices")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    """Found by the robustness benchmark: a named pipe among the clips blocked the whole run, a device never ended."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.mp4", tmp_path / "device.mp4", tmp_path, tmp_path / "a\0b.mp4"):
        for read in (file_stamp, content_digest):
            with pytest.raises(OSError, match=r"regular|null byte"):
                read(path)
