"""VBench's files read, written, and landed on samples."""

import json
import uuid

import pytest

import motive_fo
from motive_fo.config import FlowConfig
from motive_fo.dataset.sources import clip_sets
from motive_fo.errors import InputError
from motive_fo.evaluation.compare import evaluate_sets
from motive_fo.evaluation.settings import EvaluationConfig
from motive_fo.evaluation.vbench import read_results, write_results
from motive_fo.synthetic.corpus import write_corpus


def test_what_is_written_is_read_back(made, tmp_path):
    report = evaluate_sets(
        clip_sets([made[2]]), config=EvaluationConfig(resamples=100), flow=FlowConfig(estimator="dis")
    )
    found = read_results(write_results(report.sets[0], tmp_path / "c_eval_results.json"))
    assert set(found) == {"dynamic_degree", "motion_smoothness"}
    motion = report.sets[0].motion
    paths = {str(made[2] / name): each for name, each in motion.items()}
    assert found["dynamic_degree"].results == {path: float(each.dynamic) for path, each in paths.items()}
    assert found["motion_smoothness"].mean == pytest.approx(sum(each.motion_smoothness for each in motion.values()) / 2)


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}', '{"x": [0.5, [{"video_results": 1}]]}', '{"x": [NaN, []]}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError):
        read_results(tmp_path / "x.json")


@pytest.fixture
def exported(database, tmp_path):
    """A dataset of three clips and an export of two of them as VBench reads it."""
    name = f"vbench-{uuid.uuid4().hex[:8]}"
    corpus = write_corpus(tmp_path / "clips", train=3, queries=0, size=(64, 64), seconds=1.25, fps=16)
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.compute_motion(name, flow={"estimator": "dis"})
    from motive_fo.dataset.connect import fiftyone

    dataset = fiftyone().load_dataset(name)
    motive_fo.export(dataset.limit(2), tmp_path / "out", config={"layout": "vbench", "media": "copy"})
    yield dataset, tmp_path / "out", corpus
    fiftyone().delete_dataset(name)


def test_results_land_on_the_samples_they_are_about(exported, tmp_path):
    dataset, out, corpus = exported
    videos = sorted((out / "videos").iterdir())
    rows = [{"video_path": str(path), "video_results": 0.25 * n} for n, path in enumerate(videos, 1)]
    rows.append({"video_path": str(corpus.train[2]), "video_results": True})
    rows.append({"video_path": "/elsewhere/stranger.mp4", "video_results": 0.0})
    file = tmp_path / "r_eval_results.json"
    file.write_text(json.dumps({"subject_consistency": [0.5, rows]}))
    landed = motive_fo.land_vbench(dataset.name, file)
    assert landed.samples == {"subject_consistency": 3}
    assert list(landed.strangers) == ["/elsewhere/stranger.mp4"]
    dataset.reload()
    found = dict(zip(dataset.values("filepath"), dataset.values("vbench.subject_consistency"), strict=True))
    manifest = {c["source"]: c["file"] for c in json.loads((out / "motive-manifest.json").read_text())["clips"]}
    expected = {source: 0.25 * (1 + videos.index(out / file)) for source, file in manifest.items()}
    assert found == {**expected, str(corpus.train[2]): 1.0}
    motive_fo.land_vbench(dataset, file)  # again is no mistake


def test_fields_that_are_taken_and_files_of_other_clips_are_refused(exported, tmp_path):
    dataset, _, corpus = exported
    file = tmp_path / "r_eval_results.json"
    file.write_text(json.dumps({"x": [1, [{"video_path": str(corpus.train[0]), "video_results": 1}]]}))
    for field, problem in (
        ("metadata", "is a field already"),
        ("motive", "is a field already"),
        ("a b", "cannot name"),
    ):
        with pytest.raises(InputError, match=problem):
            motive_fo.land_vbench(dataset, file, field)
    file.write_text(json.dumps({"x": [1, [{"video_path": "/other.mp4", "video_results": 1}]]}))
    with pytest.raises(InputError, match="none of the 1 videos"):
        motive_fo.land_vbench(dataset, file)


def test_views_and_datasets_are_sources(exported):
    dataset, _, _ = exported
    dataset.save_view("some: two", dataset.limit(2))
    view, tag, whole = clip_sets([f"{dataset.name}:some: two", f"{dataset.name}:train", f"dataset:{dataset.name}"])
    assert [len(each.clips) for each in (view, tag, whole)] == [2, 3, 3]
    assert [each.label for each in (view, tag, whole)] == ["some: two", "train", dataset.name]
    assert clip_sets([dataset.limit(1)])[0].clips[0].prompt
    with pytest.raises(InputError, match="is no tag or saved view"):
        clip_sets([f"{dataset.name}:nothing"])
