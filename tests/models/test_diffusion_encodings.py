"""Staged encoding: every clip encoded once, the encoders gone before the first gradient, the sketches unchanged."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from motive_fo.config import AttributionConfig, ClipConfig, FlowConfig, MotionConfig
from motive_fo.dataset import estimate
from motive_fo.errors import StoreError
from motive_fo.models.diffusion.model import DiffusersModel
from motive_fo.models.registry import attributed_model, load_model, model_card
from motive_fo.pipeline.encoding import DirectEncodings
from motive_fo.pipeline.gradients import GradientSettings, compute_sketch_table
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord
from motive_fo.pipeline.report import ENCODING
from motive_fo.progress import silent
from motive_fo.store.encodings import EncodingStore, clear, contents
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus
from tests.models.pipelines import CLIP


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    corpus = write_corpus(folder, train=2, queries=1, static=1, damaged=1, seed=4, size=(64, 64), seconds=1.25, fps=16)
    return [ClipRecord(path.name, path, f"a red ball {n}") for n, path in enumerate(corpus.train)]


def settings_of(folder, **changes) -> GradientSettings:
    """Settings with a model of their own, so that nothing of another test is in memory."""
    attribution = AttributionConfig(model=str(folder), device="cpu", dimension=128, **changes)
    motion = MotionSettings.build(ClipConfig(**CLIP), FlowConfig(), MotionConfig(), model_card(attribution.model))
    return GradientSettings.build(motion, attribution, attributed_model(attribution, motion.spec))


def run(path, records, settings, kept, **more):
    with RunStore(path, write=True) as store:
        report = compute_sketch_table(records, store, settings, "train", kept_encodings=kept, **more)
        table = store.sketches("train")
        ids = [record.id for record in records]
        return report, {
            name: table.read(name, ids) for name in ("sketch", "norm", "loss", "squares", "code", "decoder")
        }


def same(one, other):
    return all(
        np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
        for name in one.keys() | other.keys()
    )


@pytest.fixture(scope="module")
def folder(pipeline_folder):
    return pipeline_folder("wan")


@pytest.fixture(scope="module")
def whole(folder, records, tmp_path_factory):
    """The undisturbed run: its numbers, and the folder of its encodings."""
    place = tmp_path_factory.mktemp("whole")
    report, numbers = run(place / "r.zarr", records, settings_of(folder), place / "encodings.zarr")
    return report, numbers, place


@pytest.fixture
def other_run(whole, tmp_path):
    """The store of another run that knows the motion of all clips already."""
    path = shutil.copytree(whole[2] / "r.zarr", tmp_path / "r.zarr")
    shutil.rmtree(path / "train")
    return path


@pytest.fixture
def calls(monkeypatch):
    """What the encoders and the network are asked, in order."""
    asked = []

    def watch(name, method):
        def told(self, *args):
            asked.append(name)
            return method(self, *args)

        return told

    for name in ("encode_frames", "encode_caption", "leave_encoders"):
        monkeypatch.setattr(DiffusersModel, name, watch(name, getattr(DiffusersModel, name)))
    loaded = DiffusersModel._loaded

    def loading(self, part, precision, *device):
        asked.append(f"load {part}")
        return loaded(self, part, precision, *device)

    monkeypatch.setattr(DiffusersModel, "_loaded", loading)
    return asked


def test_kept_encodings_give_the_sketches_of_direct_ones(whole, folder, records, tmp_path, monkeypatch):
    """The oracle encodes each clip when its turn comes, as for small models."""
    report, numbers, _ = whole
    assert np.isfinite(numbers["sketch"][:, 0, 0]).all(axis=1).tolist() == [
        code in ("", "static") for code in numbers["code"]
    ]
    assert report.status["static"] == 1
    assert report.seconds["encode"] > 0
    monkeypatch.setattr(
        "motive_fo.pipeline.encoding.KeptEncodings", lambda model, staged, motion, store: DirectEncodings(model)
    )
    _, direct = run(tmp_path / "r.zarr", records, settings_of(folder), None)
    assert same(numbers, direct)


def test_several_devices_take_the_same_sketches_from_kept_encodings(whole, other_run, folder, records):
    _, numbers, place = whole
    _, again = run(other_run, records, settings_of(folder, devices=("cpu", "cpu")), place / "encodings.zarr")
    assert same(numbers, again)


def test_a_dry_run_counts_what_is_kept_and_what_it_will_take(whole, folder, records, tmp_path, monkeypatch):
    _, _, place = whole
    settings = settings_of(folder)
    work = estimate._GradientWork(settings.motion, settings.attribution)
    with RunStore(tmp_path / "r.zarr", write=True) as store:
        work.compute(records[:2], store, silent)
    assert work.tokens == 3 * 4 * 4
    assert work.memory["weights"] == 4 * sum(p.numel() for p in settings.model.outline().parameters())
    sound = [record for record, code in zip(records, whole[1]["code"], strict=True) if code in ("", "static")]
    monkeypatch.setattr(estimate, "measured_folder", lambda: tmp_path / "none")
    monkeypatch.setattr(estimate, "encodings_folder", lambda: tmp_path / "none")
    assert work.look_for_known(sound, None, []) == {"motion": 0, "encodings": 0}
    per_clip = sum(contents(place / "encodings.zarr").bytes.values()) / len(sound)
    kept = work.kept_bytes(10, len(sound), {"motion": 0, "encodings": 0})
    assert kept["encodings"] == pytest.approx(10 * per_clip, rel=0.05)
    monkeypatch.setattr(estimate, "encodings_folder", lambda: place / "encodings.zarr")
    before = sorted(tmp_path.rglob("*"))
    known = work.look_for_known(sound, RunStore(place / "r.zarr"), [])
    assert known == {"motion": len(sound), "encodings": len(sound)}
    assert sorted(tmp_path.rglob("*")) == before
    assert work.kept_bytes(10, len(sound), known)["encodings"] == 0


def test_encoders_leave_before_the_network_comes(folder, records, tmp_path, calls):
    seen = []
    progress = lambda label, done, total: seen.append((label, done, total))  # noqa: E731
    run(tmp_path / "r.zarr", records, settings_of(folder), tmp_path / "e.zarr", progress=progress)
    left, came = calls.index("leave_encoders"), calls.index("load transformer")
    assert max(n for n, call in enumerate(calls) if call.startswith("encode")) < left < came
    assert sorted(call for call in calls if call.startswith("load")) == [
        "load text_encoder", "load tokenizer", "load transformer", "load vae",
    ]  # fmt: skip
    count = len(records)
    assert (ENCODING, count, count) in seen
    assert seen[-1] == ("train gradients", count, count)


def test_a_network_that_is_there_makes_room_and_comes_back_as_it_was(folder, records, tmp_path, monkeypatch):
    """As when the queries' gradients are done and the training clips are to be encoded."""
    settings = settings_of(folder)
    network = settings.model.network
    with torch.no_grad():
        network.proj_out.weight.mul_(1.5)  # somebody's own change is not lost
    moves = []
    real = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, *args, **more: moves.append(args) or real(self, *args, **more)
    )
    asked = []
    for name in ("make_room", "encode_frames", "leave_encoders"):
        method = getattr(DiffusersModel, name)
        monkeypatch.setattr(DiffusersModel, name, lambda *a, m=method, n=name: asked.append(n) or m(*a))
    run(tmp_path / "r.zarr", records[:1], settings, tmp_path / "e.zarr")
    assert asked == ["make_room", "encode_frames", "leave_encoders"]
    assert ("cpu",) in moves
    assert settings.model.network is network
    asked.clear()
    run(tmp_path / "r.zarr", records[:1], settings_of(folder, noises=(0, 1)), tmp_path / "e.zarr")
    assert "make_room" not in asked  # nothing to encode: it stays where it is


def test_another_run_encodes_and_decodes_nothing(whole, other_run, folder, records, tmp_path, calls):
    _, numbers, place = whole
    report, again = run(other_run, records, settings_of(folder), place / "encodings.zarr")
    assert [call for call in calls if call.startswith("encode")] == []
    assert [call for call in calls if call.startswith("load")] == ["load transformer"]
    assert "encode" not in report.seconds
    assert same(numbers, again)
    calls.clear()
    run(other_run, records, settings_of(folder, timesteps=(500.0,)), place / "encodings.zarr")  # a timestep more
    assert [call for call in calls if call.startswith("encode")] == []


def test_a_fine_tuned_transformer_shares_its_bases_encodings(whole, other_run, folder, records, tmp_path, calls):
    _, numbers, place = whole
    tuned = load_model(str(folder), "cpu")
    with torch.no_grad():
        tuned.network.proj_out.weight.mul_(1.1)
    tuned.network.save_pretrained(tmp_path / "tuned")
    calls.clear()
    over = settings_of(f"{folder}+{tmp_path / 'tuned'}")
    _, other = run(other_run, records, over, place / "encodings.zarr")
    assert [call for call in calls if call.startswith("encode")] == []
    assert not same(numbers, other)


def test_a_changed_caption_encodes_the_caption_alone(whole, folder, records, tmp_path, calls):
    place = shutil.copytree(whole[2], tmp_path / "copy")
    changed = [dataclasses.replace(records[0], caption="something else"), *records[1:]]
    _, numbers = run(place / "r.zarr", changed, settings_of(folder), place / "encodings.zarr")
    assert [call for call in calls if call.startswith("encode")] == ["encode_caption"]
    assert not np.array_equal(numbers["sketch"][0], whole[1]["sketch"][0])
    assert np.array_equal(numbers["sketch"][1:], whole[1]["sketch"][1:], equal_nan=True)


def test_other_frames_are_another_latent(whole, folder, records, tmp_path, calls):
    place = shutil.copytree(whole[2] / "encodings.zarr", tmp_path / "e.zarr")
    late = dataclasses.replace(records[0], start=0.1)
    run(tmp_path / "r.zarr", [late], settings_of(folder), place)
    assert [call for call in calls if call.startswith("encode")] == ["encode_frames"]


def test_damaged_encodings_are_made_again(whole, other_run, folder, records, tmp_path, calls):
    kept = shutil.copytree(whole[2] / "encodings.zarr", tmp_path / "e.zarr")
    latents = sorted((kept / "latents").glob("*/*/x0/c/**/*"))
    chunks = [path for path in latents if path.is_file()]
    data = bytearray(chunks[0].read_bytes())
    data[3] ^= 0x10  # one flipped bit
    chunks[0].write_bytes(data)
    chunks[1].write_bytes(b"")
    shutil.rmtree(next((kept / "captions").glob("*/*")))
    _, numbers = run(other_run, records, settings_of(folder), kept)
    assert same(numbers, whole[1])
    assert calls.count("encode_frames") == 2
    assert calls.count("encode_caption") == 1


def test_encodings_thrown_away_while_they_are_needed_are_made_again(whole, other_run, folder, records, tmp_path):
    kept = shutil.copytree(whole[2] / "encodings.zarr", tmp_path / "e.zarr")

    def clearing(label, done, total):
        if label == "train gradients" and done == 2:
            clear(kept)

    _, numbers = run(other_run, records, settings_of(folder), kept, progress=clearing)
    assert same(numbers, whole[1])


def test_encodings_that_are_not_kept_leave_nothing(whole, other_run, folder, records, tmp_path):
    (tmp_path / "r.zarr.encodings").mkdir()  # of a run that was killed
    (tmp_path / "r.zarr.encodings" / "x").write_text("left over")
    _, numbers = run(other_run, records, settings_of(folder), None)
    assert same(numbers, whole[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.zarr", "r.zarr.lock"]


def test_a_clip_that_cannot_be_encoded_is_recorded(folder, records, tmp_path, monkeypatch):
    real = DiffusersModel.encode_caption

    def refuse(self, caption):
        if caption.endswith("1"):
            raise ValueError("no such word")
        return real(self, caption)

    monkeypatch.setattr(DiffusersModel, "encode_caption", refuse)
    settings = settings_of(folder)
    report, numbers = run(tmp_path / "r.zarr", records, settings, tmp_path / "e.zarr")
    assert report.codes["encode_failed"] == 1
    assert numbers["code"][1] == "encode_failed"
    monkeypatch.setattr(DiffusersModel, "encode_caption", real)
    report, numbers = run(tmp_path / "r.zarr", records, settings, tmp_path / "e.zarr", retry_failed=True)
    assert "encode_failed" not in report.codes
    assert np.isfinite(numbers["loss"][1, 0, 0])


def test_parameter_names_are_kept_once(whole, folder):
    names = RunStore(whole[2] / "r.zarr").read_parameters()
    assert names == {name: p.numel() for name, p in sorted(load_model(str(folder), "cpu").outline().named_parameters())}
    assert len(list((whole[2] / "r.zarr").rglob("parameters"))) == 1
    with pytest.raises(StoreError, match="no gradients yet"), RunStore(whole[2] / "new.zarr", write=True) as store:
        store.read_parameters()


_CHILD = """
import sys
from tests.models.test_diffusion_encodings import *
names = sys.argv[4:]
records = [ClipRecord(p.rsplit("/")[-1], __import__("pathlib").Path(p), f"a red ball {n}") for n, p in enumerate(names)]
settings = settings_of(sys.argv[3])
print("ready", flush=True)
tell = lambda *a: print(*a, flush=True)
run(sys.argv[1], records, settings, __import__("pathlib").Path(sys.argv[2]), progress=tell)
print("finished", flush=True)
"""


@pytest.mark.slow
def test_killed_while_encoding_then_resumed_equals_undisturbed(whole, folder, records, tmp_path):
    files = [str(record.path) for record in records]
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "r.zarr"), str(tmp_path / "e.zarr"), str(folder), *files]
    for stop_after in (2, 4, 6):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for lines, _ in enumerate(process.stdout, 1):
                if lines >= stop_after:
                    time.sleep(0.02)
                    process.send_signal(signal.SIGKILL)
                    break
            process.stdout.read()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    _, numbers = run(tmp_path / "r.zarr", records, settings_of(folder), tmp_path / "e.zarr")
    assert same(numbers, whole[1])


# --- the folder -------------------------------------------------------------------------------------------------------


def test_contents_and_clearing(whole, tmp_path):
    kept = shutil.copytree(whole[2] / "encodings.zarr", tmp_path / "e.zarr")
    held = contents(kept)
    assert held.entries == {"latents": 3, "captions": 3}
    assert all(0 < size < 1e6 for size in held.bytes.values())
    assert clear(kept) == held
    assert not kept.exists()
    assert contents(kept).entries == clear(kept).entries == {"latents": 0, "captions": 0}


def test_another_folder_is_never_cleared(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="not a folder of encodings"):
        clear(tmp_path / "mine")
    with RunStore(tmp_path / "run.zarr", write=True), pytest.raises(StoreError, match="no folder of encodings"):
        clear(tmp_path / "run.zarr")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_an_entry_is_there_whole_or_not_at_all(tmp_path):
    store = EncodingStore(tmp_path / "e.zarr")
    values = {"x0": np.arange(6, dtype=np.float32).reshape(1, 2, 3)}
    store.write("latents", "ab12", values, {"decoder": "x"})
    store.write("latents", "ab12", {"x0": np.zeros((1, 2, 3), np.float32)}, {"decoder": "y"})  # the first one stays
    entry = store.read("latents", "ab12")
    assert entry is not None
    assert np.array_equal(entry.arrays["x0"], values["x0"])
    assert entry.facts["decoder"] == "x"
    assert store.read("latents", "ab13") is None
    assert [path.name for path in (tmp_path / "e.zarr" / "latents" / "ab").iterdir()] == ["ab12"]
    leftover = tmp_path / "e.zarr" / "latents" / "ab" / "part-1"
    leftover.mkdir()
    EncodingStore(tmp_path / "e.zarr")
    assert leftover.exists()  # perhaps somebody is writing it
    import os

    os.utime(leftover, (1, 1))
    EncodingStore(tmp_path / "e.zarr")
    assert not leftover.exists()
