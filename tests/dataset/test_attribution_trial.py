"""A trial of a run's ranking on its own dataset with the embedded model: what it changes, keeps, says and refuses."""

from __future__ import annotations

import json
import uuid

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.dataset.attribution_trial import STEP, Trial
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.errors import ConfigError, InputError
from motive_fo.models.registry import load_model
from motive_fo.quality import clip_trainings
from motive_fo.quality.clip_trainings import ClipTrainings
from motive_fo.synthetic.corpus import write_corpus

FEW = {"trial": True, "trial_steps": 1, "batch": 2, "repeats": 3, "learning_rate": 1e-3, "clips": 0}
OPTIONS = ["--trial", "--trial-steps", "1", "--batch", "2", "--repeats", "3", "--learning-rate", "1e-3", "--quiet"]


@pytest.fixture(scope="module", autouse=True)
def _one_timestep():
    """Losses at one timestep instead of four."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clip_trainings, "_MEASURED", (0.6,))
        yield


@pytest.fixture(scope="module")
def scored(database, tmp_path_factory):
    """A scored run with nine queries of two kinds, one of them to be avoided."""
    folder = tmp_path_factory.mktemp("tried")
    corpus = write_corpus(folder, train=8, queries=9, seed=8, size=(64, 64), seconds=1.25, fps=16)
    name = f"tried-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    dataset = fiftyone().load_dataset(name)
    motive_fo.mark_queries(dataset.match_tags("query").limit(1), avoid=True)
    dataset.set_values("kind", [("even", "odd")[n % 2] for n in range(len(dataset))])
    motive_fo.compute_gradients(
        name, attribution={"dimension": 128, "timesteps": (750.748,)}, flow={"estimator": "dis"}
    )
    motive_fo.score_influence(name)
    motive_fo.curate(name, selection={"budget": 0.25})
    yield dataset
    fiftyone().delete_dataset(name)


@pytest.fixture
def counted(monkeypatch):
    """Trainings as they are done: the places of their clips."""
    done = []
    train = ClipTrainings.train
    monkeypatch.setattr(
        ClipTrainings, "train", lambda self, clips, *more: done.append(clips.tolist()) or train(self, clips, *more)
    )
    return done


def _fields(dataset):
    dataset.reload()
    fields = [field for field in dataset.get_field_schema(flat=True) if field not in ("last_modified_at", "tags")]
    return {field: repr(dataset.values(field)) for field in fields}, dataset.list_saved_views()


def test_it_trains_on_what_halves_select_and_changes_neither_dataset_nor_model(scored, counted):
    before = _fields(scored)
    weights = load_model("tiny", "cpu").identity()
    found = motive_fo.evaluate_attribution(scored, by="kind", config=FEW)
    assert found.training is None
    tried = found.trial
    assert tried.verdict in ("use it", "take more draws", "do not")
    assert found.findings[0].lower().startswith(tried.verdict)
    assert (tried.queries, tried.clips, tried.chosen, tried.shown) == (8, 8, 2, 2)
    assert set(tried.falls) == {"random clips", "selection", "own kind's choice", "other queries' choice"}
    assert sorted(map(sorted, tried.kinds)) == [["even"], ["odd"]]
    assert any(abs(each.value) > 1e-4 for each in tried.falls.values()), "training changes losses"
    assert 0 < len(counted) <= 3 * 7
    assert _fields(scored) == before
    assert load_model("tiny", "cpu").identity() == weights


def test_the_same_trial_gives_the_same_figures_and_is_not_trained_again(scored, counted):
    first = motive_fo.evaluate_attribution(scored, config={**FEW, "seed": 3})
    assert first.trial.own is None, "no groups, no kinds"
    assert "two kinds or groups" in " ".join(first.findings)
    done = len(counted)
    assert motive_fo.evaluate_attribution(scored, config={**FEW, "seed": 3}).trial == first.trial
    assert len(counted) == done
    record = load_run(scored, "motive")
    del record.steps[STEP]
    save_run(scored, record)
    assert motive_fo.evaluate_attribution(scored, config={**FEW, "seed": 3}).trial == first.trial
    assert len(counted) == 2 * done


def test_stopped_in_between_it_goes_on_where_it_was(scored, counted):
    config = {**FEW, "seed": 4}

    def stop(label, done, total):
        if label == "trial trainings" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        motive_fo.evaluate_attribution(scored, config=config, progress=stop)
    motive_fo.evaluate_attribution(scored, config=config)
    assert len(counted) == len({(tuple(clips), n // 3) for n, clips in enumerate(counted)}) <= 9


def test_groups_of_queries_are_kinds_too(scored, monkeypatch):
    seen = []
    monkeypatch.setattr(Trial, "cost", lambda self: seen.append(self.plan().kinds))
    queries = scored.match_tags("query")
    scored.set_values("motive_group", dict(zip(queries.values("id"), ["one", "two"] * 4, strict=True)), key_field="id")
    try:
        motive_fo.estimate_trial(scored, config=FEW)
    finally:
        scored.delete_sample_field("motive_group")
    assert sorted(seen[0]) == [["one"], ["two"]]


def test_a_dry_run_says_what_it_takes_and_writes_nothing(scored):
    before = load_run(scored, "motive").steps
    cost = motive_fo.estimate_trial(scored, config={**FEW, "seed": 9})
    assert (cost.trainings, cost.steps, cost.batch, cost.done) == (9, 1, 2, 0)
    assert cost.losses == 3 * (8 + 4 + 4)
    assert cost.seconds > 0
    assert load_run(scored, "motive").steps == before
    said = CliRunner().invoke(main, ["evaluate", "attribution", scored.name, *OPTIONS, "--seed", "9", "--dry-run"])
    assert said.exit_code == 0, said.output
    assert "9 trainings of 1 steps of 2 clips" in said.output
    refused = CliRunner().invoke(main, ["evaluate", "attribution", scored.name, "--dry-run"])
    assert refused.exit_code == 2
    assert "ask for --trial too" in refused.output


def test_the_command_prints_table_and_verdict_and_the_report_has_them(scored, tmp_path, monkeypatch):
    command = ["evaluate", "attribution", scored.name, *OPTIONS, "--seed", "3"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "trial: 8 queries, 2 of 8 clips chosen, 3 trainings of 1 steps on 2 clips of each set"
    assert lines[1].startswith("trained on")
    row = next(line for line in lines if line.startswith("selection"))
    data = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    fall = data["trial"]["falls"]["selection"]
    assert f"{fall['value']:.2f} ({fall['low']:.2f} to {fall['high']:.2f})" in row
    assert data["findings"][0] in lines
    monkeypatch.setattr("motive_fo.dataset.run_report.seen_queries", lambda *more: [])  # they are decoded again
    page = motive_fo.write_report(scored, tmp_path / "report.html", shown=1, queries=1).read_text()
    assert data["findings"][0] in page


@pytest.mark.parametrize(
    ("config", "error", "problem"),
    [
        ({"repeats": 2}, ConfigError, "quality.repeats"),
        ({"lora": 4}, ConfigError, "leave --lora out"),
        ({"learning_rate": 1e30}, InputError, "not finite"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_the_way_out(scored, config, error, problem):
    with pytest.raises(error, match=problem):
        motive_fo.evaluate_attribution(scored, config={**FEW, **config})


def test_too_few_queries_are_said_before_anything_is_trained(scored, counted, monkeypatch):
    monkeypatch.setattr("motive_fo.dataset.attribution_trial.FEWEST", 5)
    with pytest.raises(InputError, match=r"8 scored queries to follow are too few.*10 or more"):
        motive_fo.evaluate_attribution(scored, config=FEW)
    assert not counted


def test_a_clip_that_is_gone_is_told_and_stops_nothing(scored, monkeypatch):
    from motive_fo.quality import examples

    real = examples._decoded

    def one_fails(records, *more):
        for n, (record, made) in enumerate(real(records, *more)):
            yield record, RuntimeError("no memory") if n == 10 else made  # a clip: the queries come first

    monkeypatch.setattr(examples, "_decoded", one_fails)
    found = motive_fo.evaluate_attribution(scored, config={**FEW, "seed": 12})
    assert found.trial.queries == 8
    assert any("1 clips take no part in the trial" in note and "no memory" in note for note in found.notes)
