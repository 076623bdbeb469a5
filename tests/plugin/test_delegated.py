"""Every operator from FiftyOne's real queue: scheduled as the App does, run as its worker does."""

import json
import subprocess
import sys
import uuid

import pytest

import motive_fo
from motive_fo.dataset.plugin import install_plugin
from motive_fo.synthetic.corpus import write_corpus

PLUGIN = "@motive-fo/motive"
CLIPS = 10  # eight sound ones, one still, one damaged


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("delegated")
    return write_corpus(folder, train=8, queries=3, static=1, damaged=1, seed=5, size=(64, 64), seconds=1.25, fps=16)


@pytest.fixture
def dataset(database, clips):
    """A dataset of its own for each test, so that its queue holds what the test put there."""
    install_plugin()
    name = f"delegated-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(clips.train_metadata.parent, name)
    motive_fo.import_clips(clips.query_metadata.parent, name, role="query")
    import fiftyone as fo

    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def _schedule(dataset, operator, params, **more):
    """Queue an operator as the App's Schedule button does; returns the queued operation's id."""
    import fiftyone.operators as foo

    request = {"dataset": dataset, "params": params, "request_delegation": True, **more}
    result = foo.execute_operator(f"{PLUGIN}/{operator}", request)
    assert result.delegated, operator
    assert result.error is None, result.error
    (queued,) = [op for op in _operations(dataset) if str(op.run_state) == "queued"]
    assert queued.operator == f"{PLUGIN}/{operator}"
    return queued.id


def _operations(dataset):
    from fiftyone.operators.delegated import DelegatedOperationService

    return DelegatedOperationService().list_operations(dataset_name=dataset.name)


def _work(dataset, operation):
    """Run the queue of the dataset; returns the operation afterwards."""
    from fiftyone.operators.delegated import DelegatedOperationService

    service = DelegatedOperationService()
    service.execute_queued_operations(dataset_name=dataset.name)
    dataset.reload()
    return service.get(operation)


def test_every_operator_runs_from_the_queue_with_progress_and_a_closing_message(dataset, clips, tmp_path, monkeypatch):
    from fiftyone.operators.delegated import DelegatedOperationService

    said = []
    keep = DelegatedOperationService.set_progress

    def watched(self, doc_id, progress):
        said.append((progress.progress, progress.label))
        return keep(self, doc_id, progress)

    monkeypatch.setattr(DelegatedOperationService, "set_progress", watched)
    target, folder = tmp_path / "out", clips.train_metadata.parent
    steps = (
        ("mark_queries", {"view_target": "CURRENT_VIEW", "group": "wanted"}, "3 queries to follow"),
        ("compute_motion", {"view_target": "DATASET"}, "motion of 13 clips: 11 done, 1 failed, 1 static"),
        ("compute_gradients", {}, "query: 3 done; train: 8 done, 1 failed, 1 static"),
        ("score_influence", {}, "influence of 10 clips: 8 done, 1 failed, 1 static"),
        ("curate", {"budget": 0.25}, "2 of 8 scored clips selected"),
        ("report", {"file": str(tmp_path / "r.html"), "shown": 1}, f"the report is in {tmp_path / 'r.html'}"),
        ("export", {"folder": {"absolute_path": str(target)}, "media": "copy"}, f"2 clips in {target}, 0 skipped"),
        ("baselines", {}, "4 baselines saved as views"),
        ("evaluate_attribution", {"clips": 8, "queries": 3}, "One step on each of 8 clips: "),
        ("replay_run", {}, f"run 'later' of '{dataset.name}' comes out again, equal to the bit: 13 clips"),
        ("write_overlays", {}, "overlays of 11 clips"),
        ("map_sketches", {}, "11 clips mapped"),
        ("import_clips", {"source": {"absolute_path": str(folder)}}, f"0 clips added to {dataset.name}, 0 updated, 10"),
    )
    import fiftyone.operators as foo

    ours = [op for op in foo.list_operators(builtin=False) if op.plugin_name == PLUGIN]
    queued = {op.name for op in ours if op.config.allow_delegated_execution}
    assert {name for name, _, _ in steps} == queued, "an operator that can be scheduled is not run from the queue here"
    for operator, params, message in steps:
        said.clear()
        view = {"view": dataset.match_tags("query")} if operator == "mark_queries" else {}
        operation = _schedule(dataset, operator, {"run": "later", **params}, **view)
        before = dataset.get_field_schema(flat=True)
        assert str(DelegatedOperationService().get(operation).run_state) == "queued"
        assert not said, "it must wait for the worker"
        done = _work(dataset, operation)
        assert str(done.run_state) == "completed", (operator, done.result and done.result.error)
        assert done.started_at is not None
        assert done.completed_at is not None
        assert done.status.progress == 1.0
        assert done.status.label.startswith(message), (operator, done.status.label)
        shares = [share for share, _ in said]
        assert all(0 <= share <= 1 for share in shares)
        assert operator in ("curate", "mark_queries", "import_clips", "baselines") or any(
            " of " in label for _, label in said[:-1]
        ), said
        if operator == "compute_motion":
            assert "later.motion_mean" not in before
            assert "later.motion_mean" in dataset.get_field_schema(flat=True)
            assert dataset.count("later.motion_mean") == 12
    assert sorted(dataset.match_tags("train").values("later.status")) == ["failed", *["scored"] * 8, "static"]
    assert dataset.load_saved_view("later: top by votes").count() == 2
    assert dataset.match_tags("query").distinct("motive_group") == ["wanted"]
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len((target / "metadata.jsonl").read_text().splitlines()) == 2


def test_the_view_of_the_app_is_the_view_the_worker_takes(dataset):
    view = dataset.match_tags("query")
    operation = _schedule(dataset, "compute_motion", {"run": "part", "view_target": "CURRENT_VIEW"}, view=view)
    done = _work(dataset, operation)
    assert done.status.label.startswith("motion of 3 clips: 3 done")
    assert dataset.count("part.motion_mean") == 3


@pytest.mark.parametrize(
    ("operator", "params", "problem"),
    [
        ("compute_gradients", {"run": "x", "dimension": 500}, "dimension"),
        ("import_clips", {"source_kind": "dataset", "source_dataset": "no-such"}, "there is no dataset 'no-such'"),
    ],
)
def test_a_refusal_is_recorded_as_failed_with_our_sentence(dataset, operator, params, problem):
    done = _work(dataset, _schedule(dataset, operator, params))
    assert str(done.run_state) == "failed"
    assert done.failed_at is not None
    last = done.result.error.strip().splitlines()[-1]
    assert last.startswith("ValueError: ")
    assert problem in last
    assert not dataset.list_runs(), "a refused step leaves no trace"


def test_a_worker_of_its_own_process_finds_the_plugin_and_a_failed_step_does_not_stop_the_queue(dataset):
    """As ``fiftyone delegated launch`` does it: another process, the plugin from the plugins folder."""
    wrong = _schedule(dataset, "compute_gradients", {"run": "x", "dimension": 500})
    code = (
        "import json, sys\n"
        "from fiftyone.operators.delegated import DelegatedOperationService\n"
        "service = DelegatedOperationService()\n"
        "service.execute_queued_operations(dataset_name=sys.argv[1])\n"
        "print(json.dumps([str(op.run_state) for op in service.list_operations(dataset_name=sys.argv[1])]))"
    )
    import fiftyone.operators as foo

    request = {"dataset": dataset, "params": {"run": "apart"}, "request_delegation": True}
    assert foo.execute_operator(f"{PLUGIN}/compute_motion", request).error is None
    ran = subprocess.run([sys.executable, "-c", code, dataset.name], capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    assert sorted(json.loads(ran.stdout.splitlines()[-1])) == ["completed", "failed"]
    dataset.reload()
    assert dataset.count("apart.motion_mean") == 12
    assert str(next(op for op in _operations(dataset) if op.id == wrong).run_state) == "failed"
