"""The synthetic corpus on disk: it decodes, it repeats byte by byte, and its damaged files are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from motive_fo.errors import ConfigError
from motive_fo.synthetic.corpus import DAMAGES, Corpus, write_corpus, write_video
from motive_fo.synthetic.scene import MOTIONS, OBJECT_MOTIONS, render, sample_scene

ARGUMENTS = {
    "train": 13,
    "queries": 9,
    "seed": 3,
    "size": (96, 128),
    "seconds": 1.5,
    "fps": 24.0,
    "damaged": 5,
    "static": 2,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"), **ARGUMENTS)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_good_files_decode(corpus: Corpus) -> None:
    for path in (*corpus.train, *corpus.queries):
        if path not in corpus.damaged:
            assert decoded(path).shape == (36, 96, 128, 3)


def test_files_play_in_a_browser(corpus: Corpus) -> None:
    """H.264, yuv420p, and the index before the pictures."""
    path = corpus.train[0]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_metadata_names_every_clip(corpus: Corpus) -> None:
    for metadata, paths in ((corpus.train_metadata, corpus.train), (corpus.query_metadata, corpus.queries)):
        rows = [json.loads(line) for line in metadata.read_text(encoding="utf-8").splitlines()]
        assert [metadata.parent / row["video"] for row in rows] == list(paths)
        assert all(row["prompt"] for row in rows)
    assert len(corpus.train) == 20
    assert len(corpus.queries) == 9


def test_motions_are_spread(corpus: Corpus) -> None:
    names = [path.stem.split("_")[1] for path in corpus.train[:13]]
    assert set(names) == set(MOTIONS) - {"still"}
    assert [path.stem.split("_")[1] for path in corpus.queries] == list(OBJECT_MOTIONS)


def test_damaged_files_fail(corpus: Corpus) -> None:
    assert sorted(corpus.damaged.values()) == sorted(DAMAGES)
    for path, kind in corpus.damaged.items():
        if kind == "too_short":
            assert len(decoded(path)) == 5
        else:
            with pytest.raises(av.FFmpegError):
                decoded(path)


def test_static_files_do_not_move(corpus: Corpus) -> None:
    assert len(corpus.static) == 2
    for path in corpus.static:
        frames = decoded(path).astype(int)
        assert np.abs(frames - frames[0]).mean() < 1


def test_pixels_survive_the_file(corpus: Corpus, tmp_path: Path) -> None:
    frames = render(sample_scene(8), frames=8, fps=24, height=128, width=128)
    write_video(tmp_path / "clip.mp4", frames, 24)
    assert np.abs(decoded(tmp_path / "clip.mp4").astype(int) - frames).mean() < 8


def test_same_arguments_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    again = write_corpus(tmp_path, **ARGUMENTS)
    for first, second in zip((*corpus.train, *corpus.queries), (*again.train, *again.queries), strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes(), first.name
    assert corpus.train_metadata.read_bytes() == again.train_metadata.read_bytes()


def test_a_larger_corpus_begins_with_the_smaller_one(corpus: Corpus, tmp_path: Path) -> None:
    more = write_corpus(tmp_path, **{**ARGUMENTS, "train": 15, "queries": 1, "static": 0, "damaged": 0})
    for first, second in zip(corpus.train[:13], more.train[:13], strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_another_seed_another_corpus(corpus: Corpus, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, **{**ARGUMENTS, "seed": 4, "train": 2, "queries": 0, "damaged": 0, "static": 0})
    assert other.train[0].read_bytes() != corpus.train[0].read_bytes()


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_corpus(
        tmp_path, train=2, queries=1, size=(64, 64), progress=lambda label, done, total: calls.append((done, total))
    )
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_impossible_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="even"):
        write_corpus(tmp_path, train=1, queries=0, size=(65, 64))
    with pytest.raises(ConfigError, match="6 or more"):
        write_corpus(tmp_path, train=1, queries=0, seconds=0.1)
    with pytest.raises(ConfigError, match="0 or more"):
        write_corpus(tmp_path, train=-1, queries=0)
