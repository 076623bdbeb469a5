"""Generated clips: the same noise for every model, gone on with after a stop, laid out for VBench."""

import json
from pathlib import Path

import numpy as np
import pytest

import motive_fo
from motive_fo.clips.decode import decode
from motive_fo.dataset.listing import read_source
from motive_fo.dataset.sources import clip_sets
from motive_fo.errors import ConfigError, InputError
from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.model import TinyModel
from motive_fo.training import generated
from motive_fo.training.generated import noise_seed, read_prompts

PROMPTS = ["a red ball rolls", "a blue box spins"]
FAST = {"sampling_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("generated") / "base"
    report = motive_fo.generate([*PROMPTS, PROMPTS[0]], place, seeds=(0, 1), config=FAST)
    assert (report.clips, report.made, report.failed) == (4, 4, {})
    return place


def test_the_folder_is_laid_out_for_vbench_and_read_back(folder):
    files = {path.name for path in (folder / "videos").iterdir()}
    prompts = json.loads((folder / "prompts.json").read_text())
    assert set(prompts) == files
    assert sorted(prompts.values()) == sorted(PROMPTS * 2)
    captions = {e.path.name: e.caption for e in read_source(folder).entries}
    assert captions == prompts, "motive import reads them too"
    (found,) = clip_sets([folder])
    assert {(clip.prompt, clip.seed) for clip in found.clips} == {(p, s) for p in PROMPTS for s in (0, 1)}
    assert all(clip.path.is_file() for clip in found.clips)


def test_a_clip_is_what_the_model_samples(folder):
    from motive_fo.models.registry import load_model

    (clip,) = [c for c in clip_sets([folder])[0].clips if (c.prompt, c.seed) == (PROMPTS[1], 1)]
    sampled = load_model("tiny", "cpu").sample(PROMPTS[1], seed=noise_seed(PROMPTS[1], 1), steps=2)
    read = decode(clip.path, CARD.default_clip).frames_THW3
    assert read.shape == sampled.shape
    assert np.abs(read.astype(int) - sampled).mean() < 4  # the encoder's loss


def test_another_prompt_changes_no_other_clip(tmp_path, monkeypatch):
    def kept(frames, fps):
        return frames.tobytes()

    monkeypatch.setattr(generated, "encode", kept)
    motive_fo.generate(PROMPTS, tmp_path / "few", config=FAST)
    motive_fo.generate(["first of all", *PROMPTS], tmp_path / "more", config=FAST)
    few = {path.name: path.read_bytes() for path in (tmp_path / "few" / "videos").iterdir()}
    more = {path.name: path.read_bytes() for path in (tmp_path / "more" / "videos").iterdir()}
    assert len(more) == 3
    assert few.items() <= more.items()
    assert len(set(more.values())) == 3


def test_a_stopped_call_is_gone_on_with(tmp_path):
    def stop(label, done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        motive_fo.generate(PROMPTS, tmp_path / "x", config=FAST, progress=stop)
    report = motive_fo.generate(PROMPTS, tmp_path / "x", config=FAST)
    assert (report.clips, report.made) == (2, 1)
    assert motive_fo.generate(PROMPTS, tmp_path / "x", config=FAST).made == 0


def test_clips_of_two_models_or_settings_are_not_mixed(folder, tmp_path):
    with pytest.raises(InputError, match="another model or of other settings"):
        motive_fo.generate(PROMPTS, folder, config={"sampling_steps": 3})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no clips of motive generate"):
        motive_fo.generate(PROMPTS, tmp_path, config=FAST)


def test_a_prompt_that_fails_stops_no_other(tmp_path, monkeypatch):
    real = TinyModel.sample

    def sample(self, caption, *args, **more):
        if caption == PROMPTS[0]:
            raise RuntimeError("out of luck")
        return real(self, caption, *args, **more)

    monkeypatch.setattr(TinyModel, "sample", sample)
    report = motive_fo.generate(PROMPTS, tmp_path / "x", config=FAST)
    assert (report.clips, report.made) == (1, 1)
    (why,) = report.failed.values()
    assert why == "RuntimeError: out of luck"
    monkeypatch.undo()
    assert motive_fo.generate(PROMPTS, tmp_path / "x", config=FAST).clips == 2


def test_size_and_length_are_asked_of_the_model(tmp_path):
    motive_fo.generate(PROMPTS[:1], tmp_path / "x", config={**FAST, "frames": 9, "height": 32, "width": 48})
    (clip,) = clip_sets([tmp_path / "x"])[0].clips
    from motive_fo.clips.probe import probe

    facts = probe(clip.path).facts
    assert (facts.frames, facts.height, facts.width) == (9, 32, 48)
    with pytest.raises(ConfigError, match="takes 4n\\+1 frames"):
        motive_fo.generate(PROMPTS, tmp_path / "y", config={"frames": 10})


def test_prompts_come_from_lines_trees_and_captions(tmp_path, monkeypatch):
    lines = tmp_path / "prompts.txt"
    lines.write_text("\ufeffone  two\n\nthree\r\none two\n", encoding="utf-8")
    assert read_prompts(lines) == ["one two", "three"]
    (tmp_path / "tree" / "spin").mkdir(parents=True)
    (tmp_path / "tree" / "spin" / "1.txt").write_text("a top\nspins\n")
    assert read_prompts(tmp_path / "tree") == ["a top spins"]
    seen = []
    monkeypatch.setattr("motive_fo.dataset.training.generate_clips", lambda prompts, *a, **k: seen.append(prompts))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "x.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="have no captions to generate from"):
        motive_fo.generate(tmp_path / "clips", tmp_path / "out")
    (tmp_path / "clips" / "metadata.jsonl").write_text('{"video": "x.mp4", "prompt": "a caption"}\n')
    motive_fo.generate(tmp_path / "clips", tmp_path / "out")
    motive_fo.generate(lines, tmp_path / "out")
    assert seen == [["a caption"], ["one two", "three"]]
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(InputError, match="holds no prompts"):
        motive_fo.generate(tmp_path / "empty.txt", tmp_path / "out")


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        motive_fo.generate(PROMPTS, tmp_path / "x", config=FAST)
