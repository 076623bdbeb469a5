"""The panels without a browser: events in, messages out, as the App's server passes them."""

import json
import shutil
import uuid

import numpy as np
import pytest

import motive_fo
from motive_fo.config import SelectionConfig
from motive_fo.dataset import exploration
from motive_fo.dataset.exploration import explore
from motive_fo.dataset.plugin import install_plugin
from motive_fo.dataset.run_record import load_run
from motive_fo.errors import InputError, StoreError
from motive_fo.store.run_store import RunStore
from motive_fo.synthetic.corpus import write_corpus

PLUGIN = "@motive-fo/motive"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel-clips")
    counts = {"train": 10, "queries": 4, "static": 1, "damaged": 1}
    return write_corpus(folder, **counts, seed=3, size=(64, 64), seconds=1.25, fps=16)


def _import(clips):
    import fiftyone as fo

    name = f"panels-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(clips.train_metadata.parent, name)
    motive_fo.import_clips(clips.query_metadata.parent, name, role="query")
    return fo.load_dataset(name)


@pytest.fixture(scope="module")
def scored(database, clips):
    """Ten scored clips, one still and one damaged, and four queries in two groups."""
    install_plugin()
    dataset = _import(clips)
    queries = [query.id for query in motive_fo.list_queries(dataset)]
    motive_fo.group_queries(dataset, queries[:2], "near")
    motive_fo.group_queries(dataset, queries[2:], "far")
    motive_fo.compute_gradients(dataset, attribution={"timesteps": (750.748,)})
    motive_fo.score_influence(dataset)
    motive_fo.curate(dataset, selection={"budget": 0.3})
    return dataset


@pytest.fixture
def bare(database, clips):
    install_plugin()
    return _import(clips)


class Screen:
    """A panel as the browser keeps it: state that comes back with every event, and the data it was sent."""

    def __init__(self, dataset, panel="motion_influence", sample=None, view=None):
        self.dataset, self.panel, self.sample, self.view = dataset, panel, sample, view
        self.state, self.data, self.page = {}, {}, {}

    def send(self, event, **params):
        """One event; returns the messages that are not the panel's own, by name."""
        import fiftyone.operators as foo

        params = {"panel_id": "p", "__method__": event, "panel_state": json.loads(json.dumps(self.state)), **params}
        request = {"dataset": self.dataset, "params": params}
        if self.sample:
            request["current_sample"] = self.sample
        if self.view is not None:
            request["view"] = self.view
        result = foo.execute_operator(f"{PLUGIN}/{self.panel}", request)
        assert result.error is None, result.error
        messages = {}
        for request in result.executor.to_json()["requests"]:
            name, given = request["operator_uri"].rsplit("/", 1)[-1], request["params"]
            if name == "patch_panel_state":
                self.state |= given["state"]
            elif name == "patch_panel_data":
                self.data |= given["data"]
            elif name == "clear_panel_data":
                self.data = {}
            elif name == "show_panel_output":
                self.page = given["output"]["type"]["properties"]
            else:
                messages[name] = given
        assert len(json.dumps(result.to_json())) < 1_000_000
        return messages

    @property
    def record(self):
        return load_run(self.dataset, "motive")

    def ids(self, clip_ids):
        of = explore(self.dataset, self.record).scored.sample_ids
        return [of[clip_id] for clip_id in clip_ids]


def _viewed(messages):
    """Sample ids of a view that was set."""
    (stage,) = messages["set_view"]["view"]
    return dict(stage["kwargs"])["sample_ids"]


def _traces(screen, name):
    return {trace["name"]: trace for trace in screen.data[name]}


def test_a_load_shows_the_run_as_it_is_set(scored):
    screen = Screen(scored)
    screen.send("on_load")
    assert screen.state["run"] == "motive"
    assert screen.state["budget"] == 30
    assert screen.state["follow"] is True
    assert screen.state["problem"] is None
    assert screen.state["summary"].startswith("**3 of 10 scored clips** would be selected for 4 queries to follow.")
    assert "3 of the 3 clips of the run's present selection stay." in screen.state["summary"]
    bars = _traces(screen, "influence")
    assert sum(bars["all scored"]["y"]) == 10
    assert sum(bars["selected"]["y"]) == 3
    points = _traces(screen, "votes")
    selected = screen.ids(motive_fo.curate(scored).selected)
    assert sorted(points["selected"]["ids"]) == sorted(selected)
    assert len(points["not selected"]["ids"]) == 7
    assert set(screen.page) >= {
        "run",
        "focus",
        "budget",
        "follow",
        "actions",
        "writing",
        "influence",
        "votes",
        "overlap",
    }
    assert "percentile" not in screen.page, "hidden while the votes follow the budget"


@pytest.mark.parametrize(
    ("events", "settings"),
    [
        ([("change_budget", 50)], {"budget": 0.5, "queries": ()}),
        ([("change_budget", 33.5), ("change_focus", "group:near")], {"budget": 0.335, "queries": ("group:near",)}),
        (
            [("change_follow", False), ("change_percentile", 60), ("change_budget", 20)],
            {"budget": 0.2, "vote_share": 0.4, "queries": ()},
        ),
    ],
)
def test_what_is_previewed_is_what_curate_selects(scored, events, settings):
    """Count, order, coverage and the motion of the selection; and the preview itself writes nothing."""
    screen = Screen(scored)
    screen.send("on_load")
    before = scored.count_values("motive.selected")
    for event, value in events:
        assert screen.send(event, value=value) == {}
    scored.reload()
    assert scored.count_values("motive.selected") == before
    shown = _viewed(screen.send("show"))
    (tried,) = motive_fo.what_if(
        scored,
        selection=settings,
        budgets=[settings["budget"]],
        vote_shares=[settings.get("vote_share", settings["budget"])],
    )
    rows = {row["id"]: row for row in screen.data["statistics"]}
    try:
        made = motive_fo.curate(scored, selection={**settings, "vote_share": settings.get("vote_share")})
        assert shown == screen.ids(made.selected)
        assert f"**{len(made.selected)} of {made.clips} scored clips**" in screen.state["summary"]
        assert f"holds {np.mean(list(made.coverage.values())):.0%} on average" in screen.state["summary"]
        assert f"{min(made.coverage.values()):.0%} at the least" in screen.state["summary"]
        assert rows["mean motion"]["subset"] == f"{tried.motion:.3g}"
    finally:
        motive_fo.curate(scored, selection=SelectionConfig(budget=0.3))


def test_the_statistics_compare_with_all_training_clips(scored):
    screen = Screen(scored)
    screen.send("on_load")
    screen.send("change_budget", value=100)
    rows = {row["id"]: row for row in screen.data["statistics"]}
    train = scored.match_tags("train")
    values = [value for value in train.values("motive.motion_mean") if value is not None]
    assert rows["mean motion"]["whole"] == f"{np.mean(values):.3g}"
    assert rows["static clips"]["whole"] == f"{100 / len(train):.3g}"
    assert rows["static clips"]["subset"] == "0"


def test_ranks_have_their_doubt_beside_them_where_several_draws_were_scored(bare, scored):
    motive_fo.compute_gradients(bare, attribution={"timesteps": [750.748], "noises": [0, 1, 2]})
    motive_fo.score_influence(bare)
    motive_fo.curate(bare, selection={"budget": 0.3})
    screen = Screen(bare)
    screen.send("on_load")
    fields = dict(zip(*bare.values(["id", "motive"]), strict=True))
    rows = [*screen.data["helping_table"], *screen.data["harming_table"]]
    for row in rows:
        own = fields[row["id"]]
        assert row["influence"] == f"{own['influence']:.1f} ± {own['influence_doubt']:.1f}"
        clip = Screen(bare, "clip_motion", sample=row["id"])
        clip.send("on_load")
        assert {each["id"]: each["value"] for each in clip.data["statistics"]}["influence"] == row["influence"]
    assert len({row["influence"].split(" ± ")[1] for row in rows}) > 1
    query = motive_fo.list_queries(bare)[0].id
    screen.send("change_focus", value=query)
    alone = [row["influence"] for row in screen.data["helping_table"]]
    assert all(" ± " in text for text in alone)
    assert set(alone) != {row["influence"] for row in rows[: len(alone)]}
    screen = Screen(scored)  # by one draw
    screen.send("on_load")
    assert not any("±" in row["influence"] for row in screen.data["helping_table"])


def test_the_matrix_is_symmetric_with_whole_shares_on_its_diagonal(scored):
    screen = Screen(scored)
    screen.send("on_load")
    (heat,) = screen.data["overlap"]
    shares = np.asarray(heat["z"])
    assert heat["x"] == ["far 1", "far 2", "near 1", "near 2"]
    assert np.allclose(np.diag(shares), 1)
    assert np.allclose(shares, shares.T)
    scores_QN, queries, train = RunStore(screen.record.store).read_scores("motion")
    best = [{train[n] for n in np.argsort(-np.nan_to_num(row, nan=-9))[:3]} for row in scores_QN]
    order = sorted(range(4), key=lambda q: (queries[q] not in _group(scored, "far"), queries[q]))
    assert shares[0, 3] == pytest.approx(len(best[order[0]] & best[order[3]]) / 3, abs=1e-3)


def _group(dataset, name):
    return [query.id for query in motive_fo.list_queries(dataset) if query.group == name]


def test_lasso_click_and_rows_lead_to_clips(scored):
    screen = Screen(scored)
    screen.send("on_load")
    ids = _traces(screen, "votes")["not selected"]["ids"][:2]
    messages = screen.send("lasso", data=[{"id": ids[0]}, {"id": ids[1]}, {"id": ids[0]}, {"id": None}])
    assert _viewed(messages) == ids
    assert "2 clips under the lasso" in messages["notify"]["message"]
    assert screen.send("lasso", data=[]) == {}
    assert screen.send("open_point", id=ids[1]) == {"open_sample": {"id": ids[1], "group_id": None}}
    order = motive_fo.curate(scored).harmful
    opened = screen.send("open_harming", row=0)["open_sample"]["id"]
    assert opened == screen.ids(order)[0]
    assert screen.data["harming_table"][0]["clip"] == order[0]
    assert screen.send("open_helping", row=1)["open_sample"]["id"] == screen.data["helping_table"][1]["id"]
    hidden = Screen(scored, view=scored.match_tags("query"))
    hidden.send("on_load")
    assert list(hidden.send("open_helping", row=0)) == ["clear_view", "open_sample"], "a view must not hide the clip"
    assert "notify" in screen.send("open_helping", row=999)
    assert list(screen.send("show_all")) == ["clear_view"]


def test_a_view_is_saved_under_a_name_that_is_free(scored):
    screen = Screen(scored)
    screen.send("on_load")
    assert screen.send("save")["notify"]["variant"] == "warning"
    screen.state["name"] = " panel view "
    messages = screen.send("save")
    assert "3 clips saved as the view 'panel view'" in messages["notify"]["message"]
    assert list(messages)[-2:] == ["reload_dataset", "notify"], "the App lists the view at once"
    scored.reload()
    saved = scored.load_saved_view("panel view")
    assert saved.values("id") == _viewed(messages) == screen.ids(motive_fo.curate(scored).selected)
    assert "exists already" in screen.send("save")["notify"]["message"]
    screen.state["name"] = "Panel View"  # the same in an address
    assert screen.send("save")["notify"]["variant"] == "warning"
    scored.delete_saved_view("panel view")


def test_a_preview_becomes_the_selection_only_when_asked(scored, monkeypatch):
    screen = Screen(scored)
    screen.send("on_load")
    screen.send("change_budget", value=50)
    shown = _viewed(screen.send("show"))
    reads = []
    read = exploration.Exploration.read.__func__
    counted = classmethod(lambda cls, dataset, record: (reads.append(1), read(cls, dataset, record))[1])
    monkeypatch.setattr(exploration.Exploration, "read", counted)
    messages = screen.send("curate")
    assert "reload_dataset" in messages
    assert not reads, "what was previewed is not read again"
    assert messages["notify"]["message"] == "5 of 10 scored clips are the selection of run 'motive'."
    scored.reload()
    assert scored.load_saved_view("motive: selection").values("id") == shown
    assert "5 of the 5 clips of the run's present selection stay." in screen.state["summary"]
    assert load_run(scored, "motive").section("selection").budget == 0.5
    motive_fo.curate(scored, selection=SelectionConfig(budget=0.3))


def test_a_selection_made_twice_is_written_once(scored):
    """Only what differs is written: fields of samples, and saved views."""
    made = motive_fo.curate(scored, selection={"budget": 0.3})
    before, views = scored.max("last_modified_at"), {view["id"]: view for view in _saved(scored)}
    assert motive_fo.curate(scored) == made
    assert scored.max("last_modified_at") == before
    assert {view["id"]: view for view in _saved(scored)}.keys() == views.keys()
    lost = scored.match_tags("query").first()
    lost["motive.selected"] = 7
    lost.save()
    motive_fo.curate(scored)
    assert scored[lost.id].motive.selected is None, "what is none of its places is taken away"
    assert scored.load_saved_view("motive: selection").values("id") == Screen(scored).ids(made.selected)


def _saved(dataset):
    dataset.reload()
    return [{"id": str(view.id), "name": view.name} for view in dataset._doc.get_saved_views()]


def test_a_second_process_that_writes_is_named(scored):
    screen = Screen(scored)
    screen.send("on_load")
    with RunStore(screen.record.store, write=True):
        message = screen.send("curate")["notify"]
        assert message["variant"] == "error"
        assert "another process is writing" in message["message"]
        assert screen.send("change_budget", value=40) == {}, "looking needs no lock"
    assert screen.state["summary"].startswith("**4 of 10")


def test_export_and_steps_open_their_forms(scored):
    screen = Screen(scored)
    screen.send("on_load")
    asked = screen.send("export")["prompt_user_for_operation"]
    assert asked["operator_uri"] == f"{PLUGIN}/export"
    assert asked["params"] == {"run": "motive", "what": "selection"}


def test_a_wrong_state_is_told_in_a_sentence(scored):
    screen = Screen(scored)
    screen.send("on_load")
    screen.send("change_focus", value="group:nowhere")
    assert "is no query and no group" in screen.state["problem"]
    assert "refresh" in screen.page
    screen.send("refresh")
    assert screen.state["problem"] is None
    screen.send("change_run", value="motive")
    screen.state["run"] = "deleted"
    screen.send("change_budget", value=20)
    assert "has no run 'deleted'" in screen.state["problem"]
    screen.send("refresh")
    assert screen.state["run"] == "motive"


def test_a_dataset_without_a_run_says_how_to_begin(bare):
    screen = Screen(bare)
    screen.send("on_load")
    assert "no run yet" in screen.state["problem"]
    assert set(screen.page) == {"problem_text", "prompt_step", "refresh"}
    asked = screen.send("prompt_step")["prompt_user_for_operation"]
    assert asked["operator_uri"] == f"{PLUGIN}/compute_gradients"


def test_a_run_on_its_way_names_the_next_step(bare):
    motive_fo.compute_motion(bare)
    screen = Screen(bare)
    screen.send("on_load")
    assert "has no gradients yet" in screen.state["problem"]
    motive_fo.compute_gradients(bare)
    screen.send("refresh")
    assert "score it" in screen.state["problem"]
    asked = screen.send("prompt_step")["prompt_user_for_operation"]
    assert (asked["operator_uri"], asked["params"]) == (f"{PLUGIN}/score_influence", {"run": "motive"})
    motive_fo.score_influence(bare)
    screen.send("refresh")
    assert screen.state["problem"] is None
    assert screen.state["summary"].startswith("**1 of 10")
    shutil.rmtree(load_run(bare, "motive").store)
    screen.send("change_budget", value=50)
    assert "is gone" in screen.state["problem"]
    assert screen.data == {}, "no numbers of a store that is gone"
    clip = Screen(bare, "clip_motion", sample=bare.match_tags("query").first().id)
    clip.send("on_load")
    assert "is gone" in clip.state["text"]
    assert clip.state["has_curve"], "what the dataset knows is shown"


def test_new_scores_and_new_tags_are_seen_at_once_and_nothing_is_read_twice(scored, monkeypatch):
    exploration.forget()
    reads = []
    read = exploration.Exploration.read.__func__
    counted = classmethod(lambda cls, dataset, record: (reads.append(1), read(cls, dataset, record))[1])
    monkeypatch.setattr(exploration.Exploration, "read", counted)
    screen = Screen(scored)
    screen.send("on_load")
    screen.send("change_budget", value=60)
    screen.send("change_focus", value="group:near")
    assert len(reads) == 1
    scored.match_tags("query").first().save()  # nothing changed in it
    tagged = scored.match_tags("query").limit(1)
    tagged.tag_samples("avoid")
    tagged.untag_samples("query")
    screen.send("change_focus", value="all")
    assert "for 3 queries to follow and 1 to avoid" in screen.state["summary"]
    avoided = scored.match_tags("avoid")
    avoided.tag_samples("query")
    avoided.untag_samples("avoid")
    known = len(reads)
    motive_fo.score_influence(scored)
    screen.send("refresh")
    assert len(reads) > known
    motive_fo.curate(scored, selection=SelectionConfig(budget=0.3))


def test_scores_replaced_while_they_are_read_are_read_again_or_refused(scored, monkeypatch):
    exploration.forget()
    record = load_run(scored, "motive")
    versions = iter(range(100))
    monkeypatch.setattr(exploration, "_version", lambda dataset, record: next(versions))
    with pytest.raises(StoreError, match="another process is writing the scores"):
        explore(scored, record)
    monkeypatch.setattr(exploration, "_version", lambda dataset, record: 1)
    with monkeypatch.context() as broken:
        broken.setattr(exploration.Exploration, "read", lambda *_: (_ for _ in ()).throw(KeyError("train_id")))
        with pytest.raises(StoreError, match="score it again"):
            explore(scored, record)
    exploration.forget()


def test_memory_is_bounded_and_the_oldest_goes_first(monkeypatch):
    kept = exploration._Kept()
    monkeypatch.setattr(exploration, "KEPT_BYTES", 250)

    class Fake:
        nbytes = 100

    for name in "abc":
        kept.keep(("d", name), 1, Fake())
        assert kept.find(("d", "a"), 1) is not None  # used again, so b is the oldest
    assert kept.find(("d", "b"), 1) is None
    assert kept.find(("d", "c"), 2) is None, "another version"


def test_a_run_that_cannot_be_explored_is_refused(bare):
    motive_fo.compute_motion(bare)
    with pytest.raises(InputError, match="no gradients yet"):
        explore(bare, load_run(bare, "motive"))


# -- the clip's own panel ---------------------------------------------------------------------------------------------


def _clip(dataset, motive_id):
    from fiftyone import ViewField

    return dataset.match(ViewField("motive_id") == motive_id).first().id


def test_queries_of_another_dataset_are_named_followed_and_opened_there(database, clips):
    import fiftyone as fo

    install_plugin()
    names = [f"panels-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    motive_fo.import_clips(clips.train_metadata.parent, names[0])
    motive_fo.import_clips(clips.query_metadata.parent, names[1], role="query")
    dataset, other = (fo.load_dataset(name) for name in names)
    motive_fo.compute_gradients(dataset, query=f"dataset:{names[1]}")
    motive_fo.score_influence(dataset)
    screen = Screen(dataset)
    screen.send("on_load")
    assert names[1] in json.dumps(screen.page["elsewhere_text"])
    assert screen.send("open_queries") == {"open_dataset": {"dataset": names[1]}}
    query = other.first().motive_id
    assert query in json.dumps(screen.page["focus"])
    screen.send("change_focus", value=query)
    assert "for 1 queries to follow" in screen.state["summary"]
    clip = Screen(dataset, "clip_motion", sample=screen.data["helping_table"][0]["id"])
    clip.send("on_load")
    assert clip.state["kind"] == "train"
    assert {row["id"] for row in clip.data["relations"]} == set(other.values("motive_id"))
    assert names[1] in clip.send("open_cell", row=0, column=0)["notify"]["message"]
    strange = Screen(other, "clip_motion", sample=other.first().id)
    strange.send("on_load")
    assert strange.state["heading"] == "This dataset has no run yet"
    fo.delete_dataset(names[1])
    assert "no dataset" in screen.send("open_queries")["notify"]["message"]
    clip.send("on_load")
    assert clip.state["kind"] == "train"


def test_a_training_clip_shows_what_it_does_to_each_query(scored):
    scores_QN, queries, train = RunStore(load_run(scored, "motive").store).read_scores("motion")
    known = np.flatnonzero(np.isfinite(scores_QN).all(0))
    screen = Screen(scored, "clip_motion", sample=_clip(scored, train[known[0]]))
    screen.send("on_load")
    assert screen.state["kind"] == "train"
    assert screen.state["heading"] == train[known[0]]
    by_name = {row["id"]: row for row in screen.data["relations"]}
    for q, query in enumerate(queries):
        own = scores_QN[q, known[0]]
        assert by_name[query]["cosine"] == f"{own:.3f}"
        place = 1 + int((scores_QN[q, known] > own).sum())
        assert by_name[query]["place"] == f"{place} of 10"
        assert by_name[query]["word"] == ("helps" if place <= 3 else "hurts" if place > 7 else "")
    (line,) = screen.data["curve"]
    assert line["y"] == pytest.approx(scored[screen.sample]["motive"]["motion_curve"], abs=1e-4)
    assert line["x"][0] == pytest.approx(1 / 16)
    rows = {row["id"]: row for row in screen.data["statistics"]}
    assert rows["motion_mean"]["unit"] == "px per frame"
    opened = screen.send("open_cell", row=0, column=0)["open_sample"]["id"]
    assert scored[opened].motive_id == screen.data["relations"][0]["id"]


def test_a_query_shows_who_helps_and_hurts_it_and_another_clip_replaces_it(scored):
    scores_QN, queries, train = RunStore(load_run(scored, "motive").store).read_scores("motion")
    known = np.flatnonzero(np.isfinite(scores_QN).all(0))
    order = [train[n] for n in known[np.argsort(-scores_QN[1, known], kind="stable")]]
    screen = Screen(scored, "clip_motion", sample=_clip(scored, queries[1]))
    screen.send("on_load")
    assert [row["helps"] for row in screen.data["relations"]] == order[:5]
    assert [row["hurts"] for row in screen.data["relations"]] == order[::-1][:5]
    assert screen.send("open_cell", row=0, column=0)["open_sample"]["id"] == _clip(scored, order[0])
    assert screen.send("open_cell", row=0, column=3)["open_sample"]["id"] == _clip(scored, order[-1])
    screen.sample = _clip(scored, order[0])
    screen.send("on_change_current_sample")
    assert screen.state["kind"] == "train"
    assert screen.state["heading"] == order[0]


def test_static_failed_and_strange_clips_say_what_they_are(scored):
    states = dict(zip(*scored.values(["motive.status", "id"]), strict=True))
    screen = Screen(scored, "clip_motion", sample=states["static"])
    screen.send("on_load")
    assert "nothing in it moves" in screen.state["text"]
    assert "`static`" in screen.state["text"]
    screen.sample = states["failed"]
    screen.send("on_change_current_sample")
    assert screen.state["text"].startswith("**failed**")
    assert scored[screen.sample]["motive"]["error"] in screen.state["text"]
    assert not screen.state["has_curve"]
    assert "relations" not in screen.page
    screen.sample = None
    screen.send("on_change_current_sample")
    assert screen.state["heading"] == "No clip is open"
    screen.sample = "0" * 24
    screen.send("on_change_current_sample")
    assert screen.state["heading"] == "No clip is open"


def test_a_clip_outside_the_run_and_a_dataset_without_one_say_so(scored, bare):
    import fiftyone as fo

    stranger = fo.Sample(scored.first().filepath + ".other.mp4")
    scored.add_sample(stranger)
    screen = Screen(scored, "clip_motion", sample=stranger.id)
    screen.send("on_load")
    assert screen.state["heading"] == "This clip is not in run 'motive'"
    scored.delete_samples([stranger.id])
    screen = Screen(bare, "clip_motion", sample=bare.first().id)
    screen.send("on_load")
    assert screen.state["heading"] == "This dataset has no run yet"


def test_runs_can_be_switched(scored):
    motive_fo.compute_motion(scored, "a_new_one")
    screen = Screen(scored)
    screen.send("on_load")
    assert screen.state["run"] == "motive", "one that is scored comes first"
    motive_fo.delete_run(scored, "a_new_one")
    motive_fo.compute_motion(scored, "other")
    try:
        for panel, sample in (("motion_influence", None), ("clip_motion", scored.match_tags("train").first().id)):
            screen = Screen(scored, panel, sample=sample)
            screen.send("on_load")
            screen.send("change_run", value="other")
            assert screen.state["run"] == "other"
            assert "no gradients yet" in (screen.state.get("problem") or screen.state["text"])
            screen.send("change_run", value="motive")
            assert not screen.state.get("problem")
    finally:
        motive_fo.delete_run(scored, "other")


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_points_are_thinned_to_the_bound_and_keep_extremes_and_selection(database):
    from motive_fo_plugin.panels.figures import POINTS, drawn_points

    rng = np.random.default_rng(0)
    rank = rng.random(10_000) * 100
    selected = rank > np.sort(rank)[-1000]
    selected[rng.integers(0, 10_000, 300)] = True
    everything = np.ones(10_000, bool)
    drawn = drawn_points(rank, selected, everything)
    assert len(drawn) == len(set(drawn.tolist())) == POINTS
    assert selected[drawn].sum() == selected.sum(), "a selection that fits is drawn whole"
    order = np.argsort(rank)
    assert set(order[:200]) | set(order[-200:]) <= set(drawn)
    assert (drawn == drawn_points(rank, selected, everything)).all()
    assert len(drawn_points(rank, everything, everything)) == POINTS
    assert len(drawn_points(rank[:50], selected[:50], everything[:50])) == 50
    gone = everything.copy()
    gone[order[:100]] = False
    assert not set(order[:100]) & set(drawn_points(rank, selected, gone)), "deleted samples are not drawn"
