"""The preset ``paper`` and the defaults, the same from Python, command line, YAML and the App's operators."""

import uuid
from dataclasses import fields, replace

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.config import PAPER, AttributionConfig, RunConfig, SelectionConfig, load, plain, preset_settings
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.plugin import install_plugin
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import ConfigError, InputError, StoreMismatchError
from motive_fo.flow.registry import settle_estimator
from motive_fo.synthetic.corpus import write_corpus

STEPS = ("flow", "motion", "attribution", "influence", "selection")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    return write_corpus(folder, train=3, queries=1, static=0, damaged=0, seed=3, size=(64, 64), seconds=1.25, fps=16)


@pytest.fixture
def dataset(database, corpus):
    name = f"presets-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    yield fiftyone().load_dataset(name)
    fiftyone().delete_dataset(name)


@pytest.fixture
def weightless(monkeypatch):
    """The paper's preset with an estimator that needs no weights."""
    monkeypatch.setitem(PAPER, "flow", {**PAPER["flow"], "estimator": "dis"})


def test_the_papers_settings_are_those_of_its_text():
    """Eq. 12 and 14 literally, t_fix = 751 and one noise, Eq. 8, Eq. 17 with both sides masked, top 10 % by votes."""
    config = RunConfig(dataset="x", preset="paper")
    assert (config.flow.estimator, config.flow.reading) == ("alltracker", "anchor")
    assert (config.motion.pooling, config.motion.camera) == ("bilinear", "keep")
    assert (config.attribution.timesteps, config.attribution.noises) == ((750.748,), (0,))
    assert (config.attribution.projection, config.attribution.dimension) == ("fastfood", 512)
    assert (config.attribution.include, config.attribution.exclude) == (("*",), ())
    assert (config.influence.mask_side, config.influence.combine) == ("both", "mean-cosine")
    assert (config.selection.by, config.selection.budget, config.selection.vote_share) == ("votes", 0.1, None)


def test_the_default_preset_is_the_defaults():
    assert RunConfig(dataset="x", preset="default") == RunConfig(dataset="x")
    default = RunConfig(dataset="x")
    for section, paper in PAPER.items():
        own = getattr(default, section)
        assert set(paper) <= {item.name for item in fields(own)}
        assert preset_settings("default", section) == {name: getattr(own, name) for name in paper}
    assert preset_settings("paper", "clip") == {}
    with pytest.raises(ConfigError, match="there is no preset 'papre': choose one of default, paper"):
        preset_settings("papre", "flow")


def test_what_is_given_apart_wins_over_the_preset(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("dataset: x\npreset: paper\nattribution: {noises: [1, 2]}\nflow: {estimator: farneback}\n")
    config = load(file)
    assert config.preset == "paper"
    assert (config.attribution.noises, config.attribution.projection) == ((1, 2), "fastfood")
    assert (config.flow.estimator, config.flow.reading) == ("farneback", "anchor")
    whole = RunConfig(dataset="x", preset="paper", attribution=AttributionConfig(), selection={"budget": 0.3})
    assert whole.attribution == AttributionConfig()  # a section given whole is taken as it is
    assert whole.selection.budget == 0.3
    assert whole.motion.pooling == "bilinear"
    file.write_text("dataset: x\npreset: papper\n")
    with pytest.raises(ConfigError, match="preset"):
        load(file)


def _by_python(dataset, corpus, preset, tmp_path):
    motive_fo.compute_motion(dataset, "r", preset=preset)
    motive_fo.compute_gradients(dataset, "r", preset=preset)
    motive_fo.score_influence(dataset, "r", preset=preset)
    motive_fo.curate(dataset, "r", preset=preset)


def _by_command_line(dataset, corpus, preset, tmp_path):
    chosen = ["--preset", preset] if preset else []
    for step in ("motion", "gradients", "influence", "curate"):
        result = CliRunner().invoke(main, [step, dataset.name, "--run", "r", *chosen])
        assert result.exit_code == 0, result.output


def _by_file(dataset, corpus, preset, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"dataset: {dataset.name}\nrun: r\n" + (f"preset: {preset}\n" if preset else ""))
    motive_fo.run(file)


def _by_operators(dataset, corpus, preset, tmp_path):
    import fiftyone.operators as foo
    from fiftyone.operators.executor import ExecutionContext
    from motive_fo_plugin.operators import ComputeGradients, ComputeMotion, Curate, ScoreInfluence

    install_plugin()
    # as the App sends a form that was left alone: every default filled in
    shown = {"reading": "step", "projection": "srht", "mask_side": "both", "combine": "mean-cosine", "budget": 0.1}
    for operator in (ComputeMotion, ComputeGradients, ScoreInfluence, Curate):
        params = {"run": "r", **shown} | ({"preset": preset} if preset else {})
        ctx = ExecutionContext(request_params={"dataset_name": dataset.name, "params": params}, executor=None)
        form = operator().resolve_input(ctx).to_json()["type"]["properties"]
        assert {choice["value"] for choice in form["preset"]["view"]["choices"]} == {"default", "paper"}
        request = {"dataset": dataset, "params": params}
        assert foo.execute_operator(f"@motive-fo/motive/{operator().name}", request).error is None


ROUTES = [_by_python, _by_command_line, _by_file, _by_operators]


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r.__name__)
@pytest.mark.parametrize("preset", [None, "paper"])
def test_a_preset_is_the_same_by_every_route(weightless, dataset, corpus, tmp_path, route, preset):
    route(dataset, corpus, preset, tmp_path)
    dataset.reload()
    record = load_run(dataset, "r")
    expected = RunConfig(dataset="x", preset=preset or "default")
    attribution = replace(expected.attribution, caption_field="caption")  # where the dataset has them
    expected = replace(expected, flow=settle_estimator(expected.flow), attribution=attribution)
    assert record.preset == (preset or "default")
    for section in STEPS:
        assert record.settings[section] == plain(getattr(expected, section)), section
    motive_fo.delete_run(dataset, "r")


def test_a_run_keeps_the_preset_it_was_begun_with(weightless, dataset):
    motive_fo.compute_gradients(dataset, "r", preset="paper", attribution={"dimension": 256})
    motive_fo.compute_gradients(dataset, "r")  # says nothing: goes on as it was
    motive_fo.score_influence(dataset, "r")
    record = load_run(dataset, "r")
    assert (record.settings["attribution"]["projection"], record.settings["attribution"]["dimension"]) == (
        "fastfood",
        256,
    )
    assert record.settings["flow"]["reading"] == "anchor"
    with pytest.raises(StoreMismatchError, match=r"flow\.reading: stored 'anchor', asked for 'step'"):
        motive_fo.compute_gradients(dataset, "r", preset="default")
    assert load_run(dataset, "r").settings["flow"]["reading"] == "anchor"
    motive_fo.delete_run(dataset, "r")


def test_a_step_that_may_be_repeated_takes_another_preset(dataset):
    motive_fo.compute_gradients(dataset, "r")
    motive_fo.score_influence(dataset, "r", influence={"mask_side": "none"})
    motive_fo.score_influence(dataset, "r", preset="paper")
    motive_fo.curate(dataset, "r", preset="paper", selection={"budget": 0.5})
    record = load_run(dataset, "r")
    assert record.settings["influence"]["mask_side"] == "both"
    assert record.settings["selection"] == plain(SelectionConfig(budget=0.5))
    assert record.preset == "default"
    motive_fo.delete_run(dataset, "r")


def test_norms_by_group_and_added_noises_through_the_dataset(dataset):
    motive_fo.compute_gradients(
        dataset, "r", attribution={"timesteps": (750.748,), "include": ["blocks.*"], "exclude": ["*.bias"]}
    )
    reports = motive_fo.compute_gradients(dataset, "r", attribution={"noises": [0, 1]})
    assert reports["train"].computed == 3
    norms = motive_fo.group_norms(dataset, "r")
    whole = dict(zip(*dataset.match_tags("train").values(["motive_id", "r.gradient_norm"]), strict=True))
    assert set(norms) == set(whole)
    for clip_id, by_group in norms.items():
        assert all(group.startswith("blocks.") for group in by_group)
        assert sum(norm**2 for norm in by_group.values()) == pytest.approx(whole[clip_id] ** 2)
    assert motive_fo.group_norms(dataset, "r", sample=1) != norms
    assert len(motive_fo.group_norms(dataset, "r", role="query", masked=True)) == 1
    motive_fo.score_influence(dataset, "r", influence={"combine": "mean-sketch"})
    with pytest.raises(ConfigError, match=r"attribution\.include: no parameter is called 'block\.\*'; there are "):
        motive_fo.compute_gradients(dataset, "other", attribution={"include": ["block.*"]})
    assert not dataset.has_sample_field("other")
    with pytest.raises(InputError, match="2 timesteps and noises"):
        motive_fo.group_norms(dataset, "r", sample=2)
    motive_fo.delete_run(dataset, "r")
