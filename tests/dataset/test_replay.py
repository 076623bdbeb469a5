"""A run that is repeated comes out again to the bit; what was changed since is found, by clip and by reason."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner
from motive_fo_cli.main import main
from motive_fo_cli.runs import replay_command
from safetensors.torch import load_file, save_file

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.plugin import install_plugin
from motive_fo.dataset.replay import TOLERANCE
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import InputError, MotiveError
from motive_fo.models.finetuned import FORMAT, MARK, TINY_WEIGHTS
from motive_fo.pipeline.difference import relative_distance
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture(scope="module")
def own(database, tmp_path_factory):
    """A dataset whose files, captions, weights and store tests may change and put back."""
    import motive_fo.models.tiny as tiny

    folder = tmp_path_factory.mktemp("own")
    clips = write_corpus(
        folder / "clips", train=6, queries=2, static=1, damaged=1, seed=8, size=(64, 64), seconds=1.25, fps=16
    )
    model = folder / "model"
    model.mkdir()
    shutil.copy(Path(tiny.__file__).parent / "weights.safetensors", model / TINY_WEIGHTS)
    (model / MARK).write_text(json.dumps({"format": FORMAT, "base": "tiny"}))
    motive_fo.import_clips(clips.train_metadata.parent, "replayed")
    motive_fo.import_clips(clips.query_metadata.parent, "replayed", role="query")
    motive_fo.compute_gradients("replayed", attribution={"model": str(model), "timesteps": (750.748,)})
    motive_fo.score_influence("replayed")
    motive_fo.curate("replayed", selection={"budget": 0.25})
    return fiftyone().load_dataset("replayed")


def _train_rows(report):
    (name,) = (name for name in report.tables if name.startswith("train/"))
    return report.tables[name]


def test_an_untouched_run_comes_out_again_to_the_bit_and_is_left_as_it_is(own, tmp_path):
    store = Path(load_run(own, "motive").store)
    files = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    before = own.get_run_info("motive").config.record, own.get_field_schema(flat=True).keys(), own.list_saved_views()
    report = motive_fo.replay_run(own, keep=tmp_path / "again")
    assert report.verdict == "equal", report.lines()
    assert report.clips == len(own) == report.tables["motion"].equal
    assert _train_rows(report).equal == _train_rows(report).rows == own.match_tags("train").count()
    scored = own.exists("motive.rank").count()
    for part in report.scores.values():
        assert part.equal == part.queries * part.clips
        assert all(value == pytest.approx(1) for value in part.spearman.values())
    assert report.scores["motion"].clips >= scored
    ranked = own.load_saved_view("motive: selection").values("motive_id")
    assert report.selection.stored == report.selection.replayed
    assert set(report.selection.stored) == set(ranked)
    assert not report.origins
    assert not report.different
    own.reload()
    now = own.get_run_info("motive").config.record, own.get_field_schema(flat=True).keys(), own.list_saved_views()
    assert now == before
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == files
    kept = json.loads((tmp_path / "again" / "replay.json").read_text())
    assert kept["verdict"] == "equal"
    assert (tmp_path / "again" / "run.zarr" / "zarr.json").is_file()
    with pytest.raises(InputError, match="is not empty"):
        motive_fo.replay_run(own, keep=tmp_path / "again")


def test_every_change_is_named_with_its_clip_and_its_reason(own):
    """A caption, a video, a lost video and a row of the store, each of another clip, in one replay."""
    scored = own.match_tags("train").match({"motive.status": "scored"})
    ids = scored.values("motive_id")
    captioned, changed, lost, planted = ids[:4]
    files = [Path(path) for path in scored.values("filepath")]
    kept = files[1].read_bytes(), files[2].read_bytes()
    first = scored.first()
    caption, first.caption = first.caption, "something else altogether"
    first.save()
    files[1].write_bytes(files[4].read_bytes())
    files[2].unlink()
    try:
        with _planted(own, planted):
            report = motive_fo.replay_run(own, sample=10**6)
    finally:
        first.caption = caption
        first.save()
        files[1].write_bytes(kept[0])
        files[2].write_bytes(kept[1])
    moved = {row.id: row for row in report.tables["motion"].different}
    rows = {row.id: row for row in _train_rows(report).different}
    assert set(moved) == {changed, lost}, "motion reads no caption"
    assert set(rows) == {captioned, changed, lost, planted}
    other_file = f"its file has other content ({len(kept[0])} bytes before, {files[4].stat().st_size} now)"
    assert moved[changed].reasons == [other_file]
    assert (moved[lost].now, moved[lost].reasons) == ("failed missing_file", ["its file cannot be read any more"])
    assert rows[captioned].reasons == ["its caption was changed"]
    assert rows[captioned].columns["sketch"] > 0.1
    assert rows[changed].reasons == [other_file, "its motion differs"]
    assert list(rows[planted].columns) == ["sketch"]
    assert rows[planted].columns["sketch"] == pytest.approx(1 / 3, rel=1e-6)
    assert "the stored row was damaged or written by something else" in rows[planted].reasons[0]
    assert report.sample is None, "a sample of all is no sample"
    assert report.scores["motion"].beyond > 0
    assert report.verdict == "differs"
    assert not report.origins
    assert f"{captioned} in train/t750.748-n0 (" in "\n".join(report.lines())


@contextmanager
def _planted(dataset, clip_id, role="train"):
    """The clip's stored sketch is half as long again; the cosines do not see it."""
    table = zarr.open_group(Path(load_run(dataset, "motive").store) / role / "t750.748-n0", mode="a")
    place = table["id"][:].tolist().index(clip_id)
    kept = table["sketch"][place]
    table["sketch"][place] = kept * np.float32(1.5)
    yield
    table["sketch"][place] = kept


def test_another_weight_is_named_as_the_reason(own):
    weights = Path(load_run(own, "motive").section("attribution").model) / TINY_WEIGHTS
    kept = weights.read_bytes()
    tensors = load_file(weights)
    name = max(tensors, key=lambda each: tensors[each].numel())
    tensors[name] = torch.roll(tensors[name], 1, 0)
    save_file(tensors, weights)
    try:
        report = motive_fo.replay_run(own, sample=2)
    finally:
        weights.write_bytes(kept)
    assert report.verdict == "differs"
    (origin,) = report.origins
    assert origin.startswith("model.weights_sha256: ")
    assert {tuple(row.reasons) for row in _train_rows(report).different} == {
        ("settings, weights or machine are others now",)
    }


def test_a_sample_by_command_and_by_operator(own):
    import fiftyone.operators as foo

    Path(own.match_tags("train").first().filepath).touch()  # another time is no other content
    command = ["runs", "replay", own.name, "motive", "--sample", "3", "--seed", "4", "--json", "-q"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["verdict"], said["sample"], said["selection"]) == ("equal", 3, None)
    assert said["tables"]["train/t750.748-n0"]["equal"] == 3
    assert said["scores"]["motion"]["clips"] == 3
    (tolerance,) = (param for param in replay_command.params if param.name == "tolerance")
    assert tolerance.default == TOLERANCE == signature(motive_fo.replay_run).parameters["tolerance"].default
    install_plugin()
    query = own.match_tags("query").first().motive_id
    with _planted(own, query, "query"):
        result = CliRunner().invoke(main, [*command[:4], "--sample", "1", "-q"])
        assert result.exit_code == 1, result.output
        assert f"different: {query} in query/t750.748-n0 (sketch by 0.33 of its length): its file" in result.stdout
        assert (
            "does not come out again: 3 clips, 1 training clip drawn with seed 0; different: 1 clip\n" in result.stdout
        )
    assert "comes out again, equal to the bit: 3 clips, 1 training clip drawn with seed 0" in foo.get_operator(
        "@motive-fo/motive/replay_run"
    )(own, sample=1)


def test_what_cannot_be_compared_for_a_sample_is_said_and_so_is_a_selection_of_earlier_scores(own):
    motive_fo.score_influence(own, influence={"center": "mean"})
    try:
        report = motive_fo.replay_run(own, sample=2)
        assert report.origins == [
            "votes, ranks and selection are of an earlier influence: run the step 'curate' again",
        ]
        assert not report.scores
        assert report.notes == ["cosines are not compared: center mean looks at all training clips, not at a sample"]
    finally:
        motive_fo.score_influence(own, influence={"center": "none"})
        motive_fo.curate(own)


def test_motion_alone_can_be_repeated_and_a_clip_that_is_gone_is_named(dataset):
    motive_fo.compute_motion(dataset.match_tags("train").limit(3))
    first = dataset.match_tags("train").first()
    gone = first.motive_id
    assert motive_fo.replay_run(dataset).verdict == "equal"
    dataset.delete_samples([first])
    report = motive_fo.replay_run(dataset)
    assert report.gone == [gone] == report.tables["motion"].only_stored
    assert report.sentence().endswith("does not come out again: 3 clips; different: 1 clip")
    dataset.delete_samples(dataset.match_tags("train"))
    assert len(motive_fo.replay_run(dataset).gone) == 3


def test_wrong_use_names_the_way_out(dataset, own):
    with pytest.raises(InputError, match="has no run 'motive'"):
        motive_fo.replay_run(dataset)
    with pytest.raises(InputError, match="give 1 or more"):
        motive_fo.replay_run(own, sample=0)
    with pytest.raises(InputError, match="0 for equality"):
        motive_fo.replay_run(own, tolerance=float("nan"))
    with pytest.raises(InputError, match="is in the store of the run"):
        motive_fo.replay_run(own, keep=Path(load_run(own, "motive").store) / "again")
    with pytest.raises(MotiveError, match=r"GPUs? here"):
        motive_fo.replay_run(own, device="cuda:99")


def test_the_distance_of_rows_by_hand():
    stored = np.asarray([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [np.nan, 1.0], [0.0, 0.0]])
    replayed = np.asarray([[3.0, 4.5], [0.0, 0.0], [np.nan, 1.0], [1.0, np.nan], [0.0, 1.0]])
    assert relative_distance(stored, replayed).tolist() == [0.1, 0.0, 0.0, np.inf, np.inf]
