"""Every operator without a browser: its form, what it refuses, what it does, from Python too."""

import asyncio
import re
import time
import uuid
from pathlib import Path

import pytest

import motive_fo
from motive_fo.dataset.jobs import read_job
from motive_fo.dataset.plugin import install_plugin
from motive_fo.dataset.run_record import list_runs, load_run
from motive_fo.synthetic.corpus import write_corpus

PLUGIN = "@motive-fo/motive"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operators")
    return write_corpus(folder, train=6, queries=2, damaged=1, seed=9, size=(64, 64), seconds=1.25, fps=16)


@pytest.fixture(scope="module")
def scored(database, corpus):
    """A dataset with a scored and curated run, which the tests only look at."""
    install_plugin()
    dataset = _import(corpus, f"scored-{uuid.uuid4().hex[:8]}")
    motive_fo.compute_gradients(dataset, attribution={"dimension": 128})
    motive_fo.score_influence(dataset)
    motive_fo.curate(dataset, selection={"budget": 0.4})
    dataset.reload()
    return dataset


@pytest.fixture
def dataset(database, corpus):
    import fiftyone as fo

    install_plugin()
    made = _import(corpus, f"operators-{uuid.uuid4().hex[:8]}")
    yield made
    fo.delete_dataset(made.name)


def _import(corpus, name):
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    import fiftyone as fo

    return fo.load_dataset(name)


def _operator(name):
    import fiftyone.operators as foo

    return foo.get_operator(f"{PLUGIN}/{name}")


def _form(name, dataset, **params):
    """Properties of the form, and (property, sentence) of all that is wrong with what was filled in."""
    from fiftyone.operators.executor import ExecutionContext

    request = {"dataset_name": dataset.name, "params": params}
    properties = _operator(name).resolve_input(ExecutionContext(request_params=request)).to_json()["type"]["properties"]
    wrong = {key: shown["error_message"] for key, shown in properties.items() if shown["invalid"]}
    return properties, wrong


def _notice(properties):
    return properties["notice"]["view"]["description"]


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "field", "problem"),
    [
        ("compute_motion", {"frames": 16}, "frames", "takes 4n+1 frames"),
        ("compute_motion", {"height": 65}, "height", "multiples of"),
        ("compute_motion", {"fps": -1}, "fps", "greater than 0"),
        ("compute_motion", {"run": "no name"}, "run", "cannot name a run"),
        ("compute_motion", {"run": "caption"}, "run", "already a field"),
        ("compute_motion", {"model": "gone"}, "model", "gone"),
        ("compute_motion", {"fps": 8}, "fps", "choose another run name"),
        ("compute_gradients", {"timesteps": "750,high"}, "timesteps", "not a list of numbers"),
        ("compute_gradients", {"timesteps": "1001"}, "timesteps", "1000"),
        ("compute_gradients", {"query": "nothing"}, "query", "is no tag, saved view or dataset"),
        ("compute_gradients", {"caption_field": "words"}, "caption_field", "no text field 'words'"),
        ("score_influence", {"run": "missing"}, "run", "has no run 'missing'"),
        ("score_influence", {"train": "nothing"}, "train", "is no tag or saved view"),
        ("curate", {"budget": 0}, "budget", "greater than 0"),
        ("curate", {"budget": 1.5}, "budget", "less than or equal to 1"),
        ("curate", {"quotas": "tag:stock<0.2"}, "quotas", "a quota reads"),
        ("curate", {"run": "missing"}, "run", "has no run 'missing'"),
        ("mark_queries", {"group": "a,b"}, "group", "without commas"),
        ("report", {"file": "/etc"}, "file", "is a folder"),
        ("report", {"file": "/etc/passwd/r.html"}, "file", "is a file, not a folder"),
        ("export", {"folder": {"absolute_path": "/etc/passwd/x"}}, "folder", "is a file"),
        ("import_clips", {"source": {"absolute_path": "/no/such/folder"}}, "source", "there is no /no/such/folder"),
        ("import_clips", {"windows": 0}, "windows", "more than 0 seconds"),
        ("show_run", {"run": "missing"}, "run", "has no run 'missing'"),
        ("delete_run", {"confirm": "wrong"}, "confirm", "type motive to delete it"),
        ("delete_overlays", {}, "run", "has no overlays"),
        ("sort_by_gradients", {}, "run", "map sketches"),
        ("map_sketches", {"method": "umap"}, "method", "pip install umap-learn"),
    ],
)
def test_what_is_wrong_is_said_in_the_form_at_its_field(scored, monkeypatch, name, params, field, problem):
    monkeypatch.setattr("motive_fo_plugin.operators.pictures.find_spec", lambda package: None)
    _, wrong = _form(name, scored, **params)
    assert problem in wrong.get(field, ""), wrong


def test_a_form_left_alone_is_valid_and_says_what_will_be_written(scored):
    for name, words in {
        "compute_motion": ("motive.status", "failed", "motive.zarr", "9 clips"),
        "compute_gradients": ("motive.gradient_norm", "kB of sketches"),
        "score_influence": ("motive.influence", "cosines"),
        "curate": ("motive.selected", "motive: selection"),
        "write_overlays": ("grey pictures", "motive_motion_mask", "kB"),
        "map_sketches": ("motive_map", "motive_similarity"),
        "mark_queries": ("9 clips", "query"),
    }.items():
        properties, wrong = _form(name, scored)
        assert wrong == {}, name
        for word in words:
            assert word in _notice(properties), (name, word)


def test_how_long_it_takes_is_told_from_the_runs_rate_else_the_machines_else_not(scored, monkeypatch):
    properties, _ = _form("compute_gradients", scored, run="other")
    assert "as this machine's last run took" in _notice(properties)
    properties, _ = _form("compute_gradients", scored)
    assert "as this run last took" in _notice(properties)
    monkeypatch.setattr("motive_fo.dataset.rates._read", dict)
    properties, _ = _form("compute_motion", scored, run="other")
    assert "was not measured on this machine yet" in _notice(properties)


def test_settings_are_folded_away_until_asked_for(scored):
    closed, _ = _form("compute_motion", scored, advanced=False)
    opened, _ = _form("compute_motion", scored, advanced=True)
    assert {"run", "model", "fps", "frames", "advanced"} <= set(closed)
    assert not {"crop", "estimator", "preset"} & set(closed)
    assert {"crop", "estimator", "preset", "static_floor"} <= set(opened)
    assert "pixels per frame" in opened["static_floor"]["view"]["description"]
    assert len(closed) < 10


def test_what_is_folded_away_again_is_not_used(dataset):
    _operator("compute_motion")(dataset, run="folded", advanced=False, crop="none")
    assert load_run(dataset, "folded").settings["clip"]["crop"] == "center"
    _operator("compute_motion")(dataset, run="opened", crop="none")
    assert load_run(dataset, "opened").settings["clip"]["crop"] == "none"


def test_a_keystroke_asks_the_database_for_no_aggregation(scored, monkeypatch):
    import fiftyone as fo

    names = ("compute_motion", "compute_gradients", "score_influence", "curate", "mark_queries", "write_overlays")
    for name in names:
        _form(name, scored)
    asked = []
    keep = fo.Dataset._aggregate
    monkeypatch.setattr(fo.Dataset, "_aggregate", lambda self, *a, **k: asked.append(a) or keep(self, *a, **k))
    for name in names:
        _form(name, scored, run="motiv")
        _form(name, scored, run="motive", frames=5)
    assert asked == []


def test_every_operator_has_its_icons_and_the_buttons_are_where_they_belong(scored):
    import fiftyone.operators as foo
    from fiftyone.operators.executor import ExecutionContext

    ctx = ExecutionContext(request_params={"dataset_name": scored.name, "params": {}})
    folder = install_plugin()
    places = {}
    for operator in foo.list_operators(builtin=False):
        if operator.plugin_name != PLUGIN or not hasattr(operator, "step"):
            continue
        for path in (operator.config.light_icon, operator.config.dark_icon):
            assert (folder / path.lstrip("/")).read_text().startswith("<svg"), path
        placement = operator.resolve_placement(ctx)
        if placement is not None:
            places[operator.name] = placement.to_json()["place"]
            icons = placement.to_json()["view"]
            assert (folder / icons["darkIcon"].lstrip("/")).is_file()
            assert (folder / icons["lightIcon"].lstrip("/")).is_file()
    assert places["mark_queries"] == "samples-grid-actions"
    assert set(places) == {
        "mark_queries",
        "import_clips",
        "curate",
        "export",
        "sort_by_gradients",
        "open_workspace",
    }


# -- from Python ------------------------------------------------------------------------------------------------------


def test_every_step_from_python(dataset, corpus, tmp_path):
    said = {
        "import_clips": _operator("import_clips")(dataset, source=corpus.train_metadata.parent),
        "mark_queries": _operator("mark_queries")(dataset.match_tags("query"), group="wanted"),
        "compute_motion": _operator("compute_motion")(dataset.match_tags("train"), run="sdk"),
        "compute_gradients": _operator("compute_gradients")(dataset, run="sdk", dimension=128),
        "score_influence": _operator("score_influence")(dataset, run="sdk"),
        "curate": _operator("curate")(dataset, run="sdk", budget=0.4),
        "report": _operator("report")(dataset, run="sdk", file=tmp_path / "r.html", shown=1),
        "export": _operator("export")(dataset, run="sdk", folder=tmp_path / "out"),
        "write_overlays": _operator("write_overlays")(dataset.match_tags("query"), run="sdk"),
        "map_sketches": _operator("map_sketches")(dataset, run="sdk"),
        "open_workspace": _operator("open_workspace")(dataset, run="sdk"),
    }
    assert said["import_clips"].startswith("0 clips added")
    assert said["compute_motion"] == "motion of 7 clips: 6 done, 1 failed"
    assert said["curate"].startswith("3 of 6 scored clips selected")
    assert said["write_overlays"].startswith("overlays of 2 clips")
    assert "sdk_map" in said["map_sketches"]
    assert "sdk: influence" in said["open_workspace"]
    assert (tmp_path / "out" / "metadata.jsonl").is_file()
    assert "deleted" in _operator("delete_overlays")(dataset, run="sdk")
    assert "'sdk'" in _operator("delete_run")(dataset, run="sdk", confirm="sdk")
    dataset.reload()
    assert not dataset.list_brain_runs()
    assert not list_runs(dataset)


def test_from_a_notebook_whose_loop_is_running(dataset):
    async def cell():
        return _operator("compute_motion")(dataset, run="cell")

    assert asyncio.run(cell()).startswith("motion of 9 clips")


def test_from_python_a_refusal_is_our_sentence(dataset):
    from fiftyone.operators.executor import ExecutionError

    with pytest.raises(ExecutionError, match=re.escape("takes 4n+1 frames")):
        _operator("compute_motion")(dataset, frames=16)
    with pytest.raises(ExecutionError, match="has no run"):
        _operator("delete_run")(dataset, confirm="")
    assert not list_runs(dataset)


def test_sorting_by_gradients_shows_the_nearest(dataset):
    import fiftyone.operators as foo

    motive_fo.compute_gradients(dataset, attribution={"dimension": 128})
    motive_fo.map_sketches(dataset)
    dataset.reload()
    first = dataset.match_tags("query").first()
    request = {"dataset": dataset, "params": {"k": 3}, "selected": [first.id]}
    result = foo.execute_operator(f"{PLUGIN}/sort_by_gradients", request)
    shown = next(r for r in result.executor.to_json()["requests"] if r["operator_uri"].endswith("set_view"))
    stage = shown["params"]["view"][-1]
    assert "SortBySimilarity" in stage["_cls"]
    assert dict(stage["kwargs"])["k"] == 3
    broken = dataset.match({"motive.status": "failed"}).first()
    with pytest.raises(foo.executor.ExecutionError, match="are not on the map"):
        foo.execute_operator(f"{PLUGIN}/sort_by_gradients", {**request, "selected": [broken.id]})


def test_the_result_has_a_button_to_the_failed_clips(scored):
    import fiftyone.operators as foo

    result = foo.execute_operator(f"{PLUGIN}/compute_motion", {"dataset": scored, "params": {"run": "motive"}})
    (shown,) = (r for r in result.executor.to_json()["requests"] if r["operator_uri"].endswith("show_output"))
    properties = shown["params"]["outputs"]["type"]["properties"]
    assert "decode_failed" in properties["about"]["default"]
    button = properties["show_failed"]["view"]
    result = foo.execute_operator(button["operator"], {"dataset": scored, "params": button["params"]})
    (request,) = result.executor.to_json()["requests"]
    assert request["operator_uri"].endswith("set_view")
    wanted = scored.load_saved_view("motive: failed")._serialize()
    assert [stage["kwargs"] for stage in request["params"]["view"]] == [stage["kwargs"] for stage in wanted]
    assert scored.load_saved_view("motive: failed").count() == 1


def test_a_run_is_shown_with_all_it_wrote(scored):
    properties, _ = _form("show_run", scored)
    text = str(properties["about"])
    for word in ("train gradients", "clip: ", "motive: selection", "motive.zarr", "the fields motive.*"):
        assert word in text, word


# -- in the background ------------------------------------------------------------------------------------------------


def test_a_step_in_the_background_is_a_job_that_can_be_seen_and_cancelled(dataset, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = _operator("compute_motion")(
        dataset.match_tags("train"), run="job", background=True, height=448, width=448, fps=16, frames=17
    )
    job_id = re.search(r"job (\S+) is started", said)[1]
    assert read_job(job_id).is_live
    properties, wrong = _form("cancel_job", dataset)
    assert not wrong
    assert job_id in str(properties["job"])
    assert "compute_motion" in str(_form("show_jobs", dataset)[0]["jobs"])
    assert "is cancelled" in _operator("cancel_job")(dataset, job=job_id)
    assert "cancelled" in str(_form("show_jobs", dataset)[0]["jobs"])
    if not motive_fo.list_jobs(live=True):
        _, wrong = _form("cancel_job", dataset)
        assert "No job is running." in wrong.values()


def test_a_job_of_an_operator_does_what_the_operator_does(dataset):
    job_id = re.search(r"job (\S+) is", _operator("compute_motion")(dataset.limit(3), run="job", background=True))[1]
    deadline = time.monotonic() + 120
    while read_job(job_id).is_live and time.monotonic() < deadline:
        time.sleep(0.2)
    assert read_job(job_id).message == "motion of 3 clips: 3 done"
    dataset.reload()
    assert dataset.count("job.motion_mean") == 3


def test_the_background_is_chosen_where_a_step_is_long_and_cannot_be_scheduled(scored, monkeypatch):
    import fiftyone as fo

    assert _form("compute_motion", scored, run="other")[0]["background"]["default"] is False
    monkeypatch.setattr("motive_fo.dataset.rates._read", lambda: {"motion": 100.0})
    monkeypatch.setattr(fo.config, "allow_legacy_orchestrators", False)
    properties, _ = _form("compute_motion", scored, run="other")
    assert properties["background"]["default"] is True
    assert "after 10 minutes" in _notice(properties)
    monkeypatch.setattr(fo.config, "allow_legacy_orchestrators", True)
    assert _form("compute_motion", scored, run="other")[0]["background"]["default"] is False


def test_an_export_that_would_be_refused_is_refused_before(scored, tmp_path):
    (tmp_path / "file").write_text("x")
    _, wrong = _form("export", scored, folder={"absolute_path": str(tmp_path)})
    assert "is not empty and no export of motive" in wrong["folder"]
    _, wrong = _form("export", scored, folder={"absolute_path": str(Path(tmp_path) / "new")})
    assert "folder" not in wrong
    motive_fo.export(scored, tmp_path / "earlier")
    _, wrong = _form("export", scored, folder={"absolute_path": str(tmp_path / "earlier")})
    assert "folder" not in wrong
    (tmp_path / "earlier" / "motive-manifest.json").write_text("{")
    _, wrong = _form("export", scored, folder={"absolute_path": str(tmp_path / "earlier")})
    assert "cannot be read" in wrong["folder"]


def test_an_export_says_before_what_the_trainer_will_make_of_the_clips(scored, tmp_path):
    folder = {"absolute_path": str(tmp_path / "new")}
    properties, _ = _form("export", scored, folder=folder, layout="diffsynth", media="symlink")
    (survival,) = motive_fo.survival(scored, config={"layout": "diffsynth"}, layouts=("diffsynth",))
    for sentence in survival.sentences():
        assert sentence in _notice(properties)
    properties, _ = _form("export", scored, folder=folder, layout="diffsynth", media="reencode")
    assert "encoded again" in _notice(properties)


def test_baselines_are_views_of_the_selections_size(scored):
    said = _operator("baselines")(scored, seeds=2)
    assert said.startswith("5 baselines saved as views")
    selection = scored.load_saved_view("motive: selection").count()
    assert scored.load_saved_view("motive: baseline random 1").count() == selection


def test_a_clone_adopts_the_store_that_its_original_left(database, corpus):
    install_plugin()
    dataset = _import(corpus, f"left-{uuid.uuid4().hex[:8]}")
    motive_fo.compute_motion(dataset)
    copy, store = dataset.clone(f"{dataset.name}-copy", persistent=True), load_run(dataset, "motive").store
    form, _ = _form("adopt_store", copy)
    assert form["store"]["default"] == store
    assert any("record was copied" in str(each) for each in form.values())
    dataset.delete()
    _operator("adopt_store")(copy, store=store)
    copy.reload()
    assert motive_fo.compute_motion(copy).computed == 0
    copy.delete()
