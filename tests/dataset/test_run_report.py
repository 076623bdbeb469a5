"""The report of a run: one file, everything in it, nothing executed, and what it says is what the run holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import motive_fo
from motive_fo.attribution.gradients import MASKED
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.run_record import load_run
from motive_fo.dataset.trace import trace
from motive_fo.errors import InputError, MotiveError
from motive_fo.exporters.folder import read_manifest
from motive_fo.store.inspection import store_info
from motive_fo.store.run_store import RunStore

EVIL = '<script>alert("x")</script>&"\'><img src=x onerror=alert(1)> $\\frac$ \x00\x1b\u202e 漢字 ' + "long" * 500


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.sources, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(computed, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.html"
    query = computed.match_tags("query").first().motive_id
    best = next(iter(motive_fo.query_scores(computed, query)))
    clip = computed.match(fiftyone().ViewField("motive_id") == best).first()
    before = clip.caption
    clip.caption = EVIL
    clip.save()
    try:
        motive_fo.write_report(computed, path, shown=2)
    finally:
        clip.caption = before
        clip.save()
    return path.read_text(encoding="utf-8")


def test_it_is_one_file_that_fetches_and_runs_nothing(page):
    reader = _Reader()
    reader.feed(page)
    assert not {"script", "iframe", "link", "object"} & set(reader.tags)
    assert all(source.startswith(("data:image/", "#")) for source in reader.sources)
    assert "default-src 'none'" in page


def test_what_it_shows_is_escaped_and_there(page):
    reader = _Reader()
    reader.feed(page)
    seen = " ".join(reader.text)
    start = EVIL[: EVIL.index("\x00")]
    assert start in seen
    assert "<script" not in page
    assert "\ufffd\ufffd\u202e 漢字 longlong" in seen, "what HTML cannot hold is replaced, all else is shown"
    assert EVIL[:600][-4:] + f"… ({len(EVIL)} characters)" in seen.replace("\ufffd", "\x00")
    assert not re.search("[\x00-\x08\x0b-\x1f]", page)


def test_it_can_be_read_by_everyone(page):
    reader = _Reader()
    reader.feed(page)
    assert ("html", {"lang": "en"}) in reader.attributes
    assert reader.tags.count("h1") == reader.tags.count("main") == reader.tags.count("title") == 1
    assert reader.tags.count("caption") == reader.tags.count("table") > 10
    assert all(attrs.get("alt") for tag, attrs in reader.attributes if tag == "img")
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in reader.attributes if tag == "th")
    assert "prefers-color-scheme:dark" in page
    anchors = {attrs["id"] for tag, attrs in reader.attributes if tag == "h2"}
    assert anchors == {source[1:] for source in reader.sources if source.startswith("#")}


def test_every_figure_is_traced_to_its_fingerprint(page, computed):
    record = load_run(computed, "motive")
    stored = store_info(record.store).fingerprints
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for part, digest in stored.items():
        assert f"{part} {digest}" in text, "as motive store info says it"
    assert record.steps["train gradients"]["fingerprints"] == {
        part: digest for part, digest in stored.items() if part.startswith("train/")
    }
    (scoring,) = record.steps["influence"]["fingerprints"].values()
    curated = record.steps["curate"]["fingerprints"]
    assert curated["influence"] == scoring
    assert f"Computed from: influence {scoring}" in text
    assert f"selection {curated['selection']}" in text


def test_top_bottom_norms_and_redundancy_are_those_of_the_run(page, computed):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    selected = computed.load_saved_view("motive: selection").sort_by("motive.selected").values("motive_id")
    votes = dict(zip(*computed.values(["motive_id", "motive.votes"]), strict=True))
    for place, clip_id in enumerate(selected, 1):
        assert f"{clip_id} {place} yes {votes[clip_id]} " in text
    sketches = RunStore(load_run(computed, "motive").store).sketches("train")
    sketch_KD = sketches.read("sketch", selected)[:, 0, MASKED].astype(float)
    unit_KD = sketch_KD / np.linalg.norm(sketch_KD, axis=1, keepdims=True)
    cosines = [float(unit_KD[a] @ unit_KD[b]) for a in range(len(selected)) for b in range(a)]
    assert f"{max(cosines):.3f}" in text[text.index("Closest pairs of the selection") :]
    effective = len(selected) ** 2 / (len(selected) + 2 * sum(value**2 for value in cosines))
    assert f"selection {len(selected)} {effective:.1f} {np.mean(cosines):.3f} 0 0" in text
    assert "Gradient norm; all: median " in page


def test_it_says_what_the_run_holds(page, computed):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    scored = computed.exists("motive.rank").count()
    selected = len(computed.load_saved_view("motive: selection"))
    assert f"{selected} of {scored} scored clips were selected for 2 queries to follow" in text
    for sample in computed.match(fiftyone().ViewField("motive.status") == "failed"):
        assert f"{sample.motive.code}: " in text
        assert sample.motive_id in text
    for query in computed.match_tags("query").values("motive_id"):
        scores = motive_fo.query_scores(computed, query)
        assert f"{np.median(list(scores.values())):.3f}" in text
        best, worst = next(iter(scores)), list(scores)[-1]
        assert f"{best} cosine {scores[best]:.3f}" in text
        assert f"{worst} cosine {scores[worst]:.3f}" in text
    assert "cannot say how much the ranking depends on the draw" in text
    for name in ("estimator", "dimension", "mask_side", "budget"):
        assert name in text


def test_several_noises_say_how_stable_the_ranking_is_and_an_earlier_scoring_is_called_that(dataset, tmp_path):
    some = dataset.match_tags("train").limit(5)
    motive_fo.compute_gradients(dataset, train=some, attribution={"noises": [0, 1]})
    motive_fo.score_influence(dataset, train=some)
    motive_fo.curate(dataset, selection={"budget": 0.5})
    page = motive_fo.write_report(dataset, tmp_path / "r.html", shown=0).read_text(encoding="utf-8")
    assert "Rankings by single timesteps and noises agree with a rank correlation of " in page
    warning = "votes, ranks and selection are of an earlier influence: run the step &#39;curate&#39; again"
    assert warning not in page
    motive_fo.score_influence(dataset, train=some, influence={"mask_side": "none"})
    assert warning in motive_fo.write_report(dataset, tmp_path / "r.html", shown=0).read_text(encoding="utf-8")
    motive_fo.curate(dataset)
    record = load_run(dataset, "motive")
    assert [each.stale for each in trace(record)] == [[]] * 5
    motive_fo.export(dataset, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest["steps"]["curate"]["fingerprints"] == record.steps["curate"]["fingerprints"]


def test_without_scores_or_a_place_it_says_so(dataset, tmp_path, computed):
    with pytest.raises(MotiveError, match="has no run"):
        motive_fo.write_report(dataset, tmp_path / "r.html")
    motive_fo.compute_motion(dataset)
    with pytest.raises(MotiveError, match="no influence yet"):
        motive_fo.write_report(dataset, tmp_path / "r.html")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        motive_fo.write_report(computed, tmp_path / "file" / "r.html", shown=0)
