"""The plugin as FiftyOne loads it: listed, registered, executed."""

import re
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import motive_fo
from motive_fo.dataset.plugin import install_plugin
from motive_fo.synthetic.corpus import write_corpus

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "@motive-fo/motive"


@pytest.fixture(scope="module")
def manifest():
    return yaml.safe_load((ROOT / "fiftyone.yml").read_text())


@pytest.fixture(scope="module")
def dataset(database, tmp_path_factory):
    """Six clips and two queries, with the plugin installed where FiftyOne looks for it."""
    install_plugin()
    folder = tmp_path_factory.mktemp("plugin-clips")
    corpus = write_corpus(folder, train=5, queries=2, damaged=1, seed=3, size=(64, 64), seconds=1.25, fps=16)
    name = f"plugin-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    import fiftyone as fo

    return fo.load_dataset(name)


def _execute(name, dataset, params, **more):
    import fiftyone.operators as foo

    return foo.execute_operator(f"{PLUGIN}/{name}", dict(dataset=dataset, params=params, **more))


def test_the_manifest_lists_exactly_what_is_registered(database, manifest):
    import fiftyone.operators as foo
    from fiftyone.operators.registry import OperatorRegistry

    install_plugin()
    assert OperatorRegistry().list_errors() == []
    registered = {op.name for op in foo.list_operators(builtin=False) if op.plugin_name == PLUGIN}
    assert registered == {*manifest["operators"], *manifest["panels"]}
    assert manifest["version"] == motive_fo.__version__


def test_every_operator_has_a_form_with_our_defaults(dataset):
    import fiftyone.operators as foo
    from fiftyone.operators.executor import ExecutionContext
    from fiftyone.operators.registry import OperatorRegistry

    registry = OperatorRegistry()
    for operator in registry.list_operators(builtin=False):
        if operator.plugin_name != PLUGIN or isinstance(operator, foo.Panel):
            continue
        params = {"advanced": True}
        ctx = ExecutionContext(request_params={"dataset_name": dataset.name, "params": params}, executor=None)
        form = operator.resolve_input(ctx).to_json()
        properties = form["type"]["properties"]
        if operator.name == "adopt_store":
            assert properties["run"]["default"] is None, "the run that the store was made for"
        elif operator.name not in ("import_clips", "mark_queries", "show_jobs", "cancel_job", "show_failed"):
            assert properties["run"]["default"] == "motive"
        if operator.name == "compute_gradients":
            assert properties["timesteps"]["default"] == "500.0,750.748,850.0"
            assert properties["dimension"]["default"] == 512
        if operator.name == "curate":
            assert properties["budget"]["default"] == 0.1
            assert properties["by"]["default"] == "votes"


def test_the_operators_do_what_the_functions_do(dataset, tmp_path):
    """Each step through its operator, progress and a closing message included."""
    for name, params in (
        ("compute_motion", {}),
        ("compute_gradients", {"timesteps": "750.748", "query": "query"}),
        ("score_influence", {"mask_side": "both"}),
        ("curate", {"budget": 0.4}),
        ("export", {"folder": {"absolute_path": str(tmp_path / "out")}, "media": "copy"}),
    ):
        result = _execute(name, dataset, {"run": "app", **params})
        assert result.error is None, (name, result.error)
    dataset.reload()
    assert set(dataset.match_tags("train").values("app.status")) == {"scored", "failed"}
    assert dataset.load_saved_view("app: top by votes").count() == 2
    assert len((tmp_path / "out" / "metadata.jsonl").read_text().splitlines()) == 2
    assert not any(p.is_symlink() for p in (tmp_path / "out" / "videos").iterdir())
    motive_fo.delete_run(dataset, "app")


def test_a_run_begun_with_other_settings_goes_on_from_a_form_left_alone(dataset):
    motive_fo.compute_motion(dataset, "slow", clip={"fps": 8, "frames": 5})
    defaults = {"start": 0, "crop": "center", "decoder": "auto", "static_floor": 0.05, "model": "tiny"}
    assert _execute("compute_motion", dataset, {"run": "slow", **defaults}).error is None
    with pytest.raises(Exception, match=r"clip\.frames: stored 5, asked for 9"):
        _execute("compute_motion", dataset, {"run": "slow", "frames": 9})
    motive_fo.delete_run(dataset, "slow")


def test_progress_and_the_result_are_shown(dataset):
    from motive_fo_plugin.operators import ComputeMotion

    context = SimpleNamespace(
        params={"run": "shown"},
        delegated=False,
        dataset=dataset,
        ops=SimpleNamespace(
            set_progress=lambda label, progress: ("progress", label, progress),
            notify=lambda message, variant: ("notify", message, variant),
            show_output=lambda outputs, results: ("output", outputs),
        ),
        trigger=lambda name, params=None: ("trigger", name, params),
        target_view=lambda: dataset.match_tags("train"),
    )
    events = list(ComputeMotion().execute(context))
    assert ("progress", "motion: 6 of 6", 1.0) in events
    _, message, variant = next(e for e in events if e[0] == "notify")
    assert "motion of 6 clips" in message
    assert variant == "success"
    assert ("trigger", "reload_dataset", None) in events
    _, shown = events[-1]
    properties = shown["type"]["properties"]
    title, _, reason, *_ = properties["about"]["default"].splitlines()
    assert title == f"**{message}**"
    assert reason.startswith("- 1 ")
    assert reason.endswith("."), "why, and the way out"
    assert properties["show_failed"]["view"]["params"] == {"run": "shown"}
    motive_fo.delete_run(dataset, "shown")


@pytest.mark.parametrize(
    ("name", "params", "problem"),
    [
        ("compute_motion", {"run": "x", "frames": 16}, "takes 4n+1 frames"),
        ("compute_motion", {"run": "no name"}, "cannot name a run"),
        ("score_influence", {"run": "missing"}, "has no run 'missing'"),
        ("export", {"run": "missing", "folder": {"absolute_path": "x"}}, "has no run 'missing'"),
    ],
)
def test_a_refusal_reaches_the_user_as_one_sentence(dataset, name, params, problem):
    with pytest.raises(Exception, match=re.escape(problem)):
        _execute(name, dataset, params)


def test_a_delegated_operator_runs_from_the_queue(dataset):
    from fiftyone.operators.delegated import DelegatedOperationService

    _execute("compute_motion", dataset, {"run": "later"}, request_delegation=True)
    assert not dataset.has_sample_field("later")
    service = DelegatedOperationService()
    service.execute_queued_operations(dataset_name=dataset.name)
    dataset.reload()
    assert "described" in dataset.values("later.status")
    states = {str(op.run_state) for op in service.list_operations(dataset_name=dataset.name)}
    assert states == {"completed"}
    motive_fo.delete_run(dataset, "later")


def test_installing_again_is_safe_and_a_wheel_has_what_it_needs(tmp_path):
    first = install_plugin(tmp_path)
    assert install_plugin(tmp_path) == first
    there = {p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file()}
    icons = {path for path in there if path.startswith("plugin/assets/") and path.endswith(".svg")}
    assert there - icons == {"fiftyone.yml", "plugin/__init__.py"}
    assert icons
