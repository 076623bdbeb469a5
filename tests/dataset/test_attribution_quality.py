"""Checking the scores of a run on its own dataset: labels, steps, what is refused, what is kept."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.dataset.attribution_quality import STEP
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.labels import labels_of
from motive_fo.dataset.patch_steps import STEP as PATCHES
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.errors import ConfigError, InputError
from motive_fo.quality import tail_patch
from motive_fo.synthetic.corpus import write_corpus

FEW = {"clips": 8, "queries": 3, "resamples": 100}


@pytest.fixture(scope="module")
def scored(database, tmp_path_factory):
    """A scored run whose clips say in three ways what they show."""
    folder = tmp_path_factory.mktemp("judged")
    corpus = write_corpus(folder, train=12, queries=4, static=1, seed=8, size=(64, 64), seconds=1.25, fps=16)
    name = f"judged-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution={"dimension": 128}, flow={"estimator": "dis"})
    motive_fo.score_influence(name)
    fo = fiftyone()
    dataset = fo.load_dataset(name)
    half = [n % 2 for n in range(len(dataset))]
    dataset.set_values("kind", [("even", "odd")[n] for n in half])
    dataset.set_values("judged", [fo.Classification(label=("even", "odd")[n]) for n in half])
    dataset.set_values("speed", [float(n) for n in half])
    dataset.set_values("alone", ["same"] * len(dataset))
    dataset.set_values("mixed", [str(n) if n < 3 else None for n in range(len(dataset))])
    for n, sample in enumerate(dataset):
        sample.tags.append(("even", "odd")[n % 2])
        sample.save()
    yield dataset
    fo.delete_dataset(name)


def test_both_checks_are_made_and_kept_with_the_run(scored):
    seen = []
    found = motive_fo.evaluate_attribution(scored, by="kind", config=FEW, progress=lambda *each: seen.append(each))
    assert found.retrieval.kinds == 2
    assert found.retrieval.queries == 4
    assert found.training.clips == 8
    assert found.training.queries == 3
    assert found.training.failed == {}
    for rows in (found.retrieval.by_score, found.training.by_score):
        assert list(rows)[:4] == ["motion influence", "whole-clip influence", "random ids", "permuted ids"]
        assert {"flow magnitude", "HOOF", "mask only"} <= set(rows)
    assert -1 <= found.training.by_score["motion influence"].value <= 1
    assert (PATCHES, 0, 8) in seen
    assert (PATCHES, 8, 8) in seen
    kept = load_run(scored, "motive").steps[STEP]
    assert kept["findings"] == found.findings
    assert len(found.findings) >= 4
    said = CliRunner().invoke(main, ["runs", "show", scored.name]).output
    assert f"step {STEP}: 8 clips" in said


def test_labels_come_from_texts_classifications_and_tags_alike(scored):
    values = [
        motive_fo.evaluate_attribution(scored, by=by, config={"clips": 0}).retrieval.by_score
        for by in ("kind", "judged", "tags")
    ]
    assert values[0] == values[1] == values[2]


def test_steps_that_were_taken_are_not_taken_again(scored, monkeypatch):
    first = motive_fo.evaluate_attribution(scored, config=FEW)
    taken = []
    falls = tail_patch.TailPatch.falls
    monkeypatch.setattr(tail_patch.TailPatch, "falls", lambda self, example: taken.append(1) or falls(self, example))
    again = motive_fo.evaluate_attribution(scored, config=FEW)
    assert not taken
    assert again.training == first.training
    record = load_run(scored, "motive")
    gone = next(iter(record.steps[PATCHES]["contents"]))
    del record.steps[PATCHES]["contents"][gone]
    save_run(scored, record)
    third = motive_fo.evaluate_attribution(scored, config=FEW)
    assert len(taken) == 1
    assert third.training == first.training
    motive_fo.evaluate_attribution(scored, config={**FEW, "step": 2e-3})
    assert len(taken) == 9  # other steps are other numbers


def test_stopped_in_between_it_goes_on_where_it_was(scored, monkeypatch):
    config = {**FEW, "step_loss": "motion"}
    taken = []
    falls = tail_patch.TailPatch.falls

    def counted(self, example):
        if len(taken) == 5:
            raise KeyboardInterrupt
        taken.append(example.mask_Fhw is not None)
        return falls(self, example)

    monkeypatch.setattr(tail_patch.TailPatch, "falls", counted)
    with pytest.raises(KeyboardInterrupt):
        motive_fo.evaluate_attribution(scored, config=config)
    monkeypatch.setattr(tail_patch.TailPatch, "falls", lambda self, example: taken.append(True) or falls(self, example))
    stopped = motive_fo.evaluate_attribution(scored, config=config)
    assert taken == [True] * 8  # five and three, all with the mask
    monkeypatch.setattr(tail_patch.TailPatch, "falls", falls)
    record = load_run(scored, "motive")
    del record.steps[PATCHES]
    save_run(scored, record)
    assert motive_fo.evaluate_attribution(scored, config=config).training == stopped.training


def test_a_clip_that_fails_is_told_and_stops_nothing(scored, monkeypatch):
    falls, seen = tail_patch.TailPatch.falls, []

    def one_fails(self, example):
        seen.append(example)
        if len(seen) == 2:
            raise RuntimeError("CUDA out of memory")
        return falls(self, example)

    monkeypatch.setattr(tail_patch.TailPatch, "falls", one_fails)
    found = motive_fo.evaluate_attribution(scored, config={**FEW, "clips": 10, "seed": 5})
    assert found.training.clips == 9
    (why,) = found.training.failed.values()
    assert "CUDA out of memory" in why
    assert any("no step on 1 clips" in note for note in found.notes)


@pytest.mark.parametrize(
    ("by", "config", "error", "problem"),
    [
        (None, {"clips": 0}, InputError, "nothing is asked for"),
        (None, {"clips": 5}, InputError, "ask for 8 or more, or 0"),
        (None, {"step": 2}, ConfigError, "quality.step"),
        ("gone", {"clips": 0}, InputError, "no field 'gone'"),
        ("frames.gone", {"clips": 0}, InputError, "no field 'frames.gone'"),
        ("speed", {"clips": 0}, InputError, "holds FloatField, no labels"),
        ("alone", {"clips": 0}, InputError, "1 different labels"),
        ("mixed", {"clips": 0}, InputError, "0 of 4 queries share a label"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_way_out(scored, by, config, error, problem):
    before = load_run(scored, "motive").steps
    with pytest.raises(error, match=problem):
        motive_fo.evaluate_attribution(scored, by=by, config=config)
    assert load_run(scored, "motive").steps == before


def test_a_run_that_is_not_there_and_too_few_queries_are_refused(scored, monkeypatch):
    with pytest.raises(InputError, match="has no run 'other'"):
        motive_fo.evaluate_attribution(scored, "other", by="kind")
    monkeypatch.setattr("motive_fo.dataset.attribution_quality._FEWEST_QUERIES", 5)
    with pytest.raises(InputError, match="4 scored queries say nothing for sure: 5 or more"):
        motive_fo.evaluate_attribution(scored, by="kind", config={"clips": 0})


def test_the_command_prints_tables_and_what_they_show(scored):
    arguments = ["evaluate", "attribution", scored.name, "--by", "kind", "--clips", "8", "--queries", "3"]
    result = CliRunner().invoke(main, [*arguments, "--resamples", "100", "--quiet"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "retrieval: 4 queries, 12 clips, 2 kinds by 'kind'"
    assert lines[1].split()[:4] == ["scores", "by", "P@5", "P@10"]
    assert any(line.startswith("attainable") for line in lines)
    assert "training steps: 3 queries, 8 clips" in lines
    assert any(line.startswith("One step on each of 8 clips: ") for line in lines)
    data = json.loads(CliRunner().invoke(main, [*arguments, "--resamples", "100", "--quiet", "--json"]).stdout)
    table = next(line for line in lines if line.startswith("motion influence"))
    assert f"{data['retrieval']['by_score']['motion influence']['ndcg_20']['value']:.2f}" in table.split()
    refused = CliRunner().invoke(main, ["evaluate", "attribution", scored.name, "--by", "gone"])
    assert refused.exit_code == 2
    assert "no field 'gone'" in refused.output


def test_labels_are_sets_of_texts(scored):
    ids = set(np.asarray(scored.values("motive_id")).tolist())
    tags = labels_of([scored], "tags", ids)
    assert set(tags.values()) == {frozenset({"even"}), frozenset({"odd"})}  # not train, not query
    assert labels_of([scored], "mixed", ids).keys() < ids
