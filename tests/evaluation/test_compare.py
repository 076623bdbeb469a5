"""Sets measured and compared, from files; a clip that fails is named and stops nothing."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

import motive_fo
from motive_fo.clips.decode import decode
from motive_fo.config import FlowConfig
from motive_fo.dataset.sources import clip_sets
from motive_fo.errors import InputError
from motive_fo.evaluation.clips import ClipSet
from motive_fo.evaluation.compare import clip_spec, evaluate_sets
from motive_fo.evaluation.measure import METRICS
from motive_fo.evaluation.page import comparison_table, evaluation_page, failure_lines, set_table, settled
from motive_fo.evaluation.settings import EvaluationConfig
from motive_fo.synthetic.corpus import write_video

FAST = {"resamples": 200}
DIS = {"estimator": "dis"}


@pytest.fixture(scope="module")
def report(made):
    return motive_fo.evaluate(list(made), config=FAST, flow=DIS)


def test_sets_keep_their_names_and_failures(report, made):
    assert [each.clips.label for each in report.sets] == ["a", "b", "c"]
    assert [len(each.motion) for each in report.sets] == [3, 3, 2]
    ((name, why),) = report.sets[2].failed.items()
    assert name == "videos/clip-1_s0.mp4"
    assert why.startswith("not_video")
    assert failure_lines(report) == [f"c: {name}: {why}"]


def test_a_failed_clip_takes_its_partner_out_of_the_comparison(report):
    whole, less = report.comparisons
    assert (whole.first, whole.second, whole.paired_by) == ("a", "b", "prompt and seed")
    assert whole.differences["speed"].count == 3
    assert less.differences["speed"].count == 2
    one, other = report.sets[0].motion, report.sets[2].motion
    expected = sum(one[name].speed - other[name].speed for name in other) / 2
    assert less.differences["speed"].value == pytest.approx(expected)


def test_a_clip_scores_the_same_in_any_company(report, made):
    alone = motive_fo.evaluate([made[1]], config=FAST, flow=DIS)
    assert alone.sets[0].motion == report.sets[1].motion
    assert alone.comparisons == ()


def test_the_report_is_plain_data_and_a_page_that_escapes(report):
    data = json.loads(json.dumps(report.as_dict()))
    assert [len(each["scores"]) for each in data["sets"]] == [3, 3, 2]
    assert set(data["sets"][0]["summary"]) == set(METRICS)
    head, rows = set_table(report)
    assert len(head) == len(rows[0]) == 2 + len(METRICS)
    assert len(comparison_table(report)[1]) == 2
    page = evaluation_page("a </title><script>", report)
    assert "</title><script>" not in page
    assert page.count("data:image/svg+xml") == len(METRICS)
    assert "videos/clip-1_s0.mp4" in page


def test_a_clear_difference_is_said_and_an_equal_set_is_not(made, tmp_path):
    (one,) = clip_sets([made[0]])
    frozen = []
    for clip in one.clips:
        frames = decode(clip.path, clip_spec(clip.path, 0.0, EvaluationConfig())).frames_THW3
        path = tmp_path / Path(clip.name).name
        write_video(path, frames[:1].repeat(9, axis=0), 16)
        frozen.append(replace(clip, path=path))
    sets = [one, ClipSet("again", one.clips), ClipSet("frozen", tuple(frozen))]
    same, still = settled(evaluate_sets(sets, config=EvaluationConfig(**FAST), flow=FlowConfig(**DIS)))
    assert same == "a against again: no difference shown (95% intervals, each measure by itself)"
    assert "higher speed" in still
    assert "lower motion smoothness" in still


def test_long_and_large_clips_are_cut_and_scaled(tmp_path, moving):
    path = tmp_path / "large.mp4"
    write_video(path, cv2.resize(moving[0], (640, 320))[None].repeat(20, axis=0), 8)
    spec = clip_spec(path, 0.0, EvaluationConfig(seconds=2, short_side=64))
    assert (spec.frames, spec.fps, spec.height, spec.width, spec.crop) == (16, 8, 64, 128, "none")
    assert clip_spec(path, 0.0, EvaluationConfig(seconds=60)).frames == 20


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        (["no-such-folder"], "no-such-folder is no folder or listing here"),
        ([], "sets to compare need names"),
    ],
)
def test_wrong_sources_are_refused(sources, problem):
    with pytest.raises(InputError, match=problem):
        motive_fo.evaluate(sources)


def test_a_set_of_which_nothing_can_be_measured_is_refused(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of the 1 clips of bad can be measured, the first: x.mp4 \(not_video"):
        motive_fo.evaluate([tmp_path / "bad"], flow=DIS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no clips in"):
        motive_fo.evaluate([tmp_path / "empty"])
    with pytest.raises(InputError, match="name the sources in a list"):
        motive_fo.evaluate(str(tmp_path))
