"""The report of a run: one file, everything in it, nothing executed, and what it says is what the run holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import motive_fo
from motive_fo.dataset.connect import fiftyone
from motive_fo.errors import InputError, MotiveError

EVIL = '<script>alert("x")</script>&"\'><img src=x onerror=alert(1)>'


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
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
    assert EVIL in " ".join(reader.text)
    assert EVIL not in page


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


def test_several_noises_say_how_stable_the_ranking_is(dataset, tmp_path):
    motive_fo.compute_gradients(dataset, attribution={"noises": [0, 1]})
    motive_fo.score_influence(dataset)
    motive_fo.curate(dataset)
    page = motive_fo.write_report(dataset, tmp_path / "r.html", shown=0).read_text(encoding="utf-8")
    assert "Rankings by single timesteps and noises agree with a rank correlation of " in page


def test_without_scores_or_a_place_it_says_so(dataset, tmp_path, computed):
    with pytest.raises(MotiveError, match="has no run"):
        motive_fo.write_report(dataset, tmp_path / "r.html")
    motive_fo.compute_motion(dataset)
    with pytest.raises(MotiveError, match="no influence yet"):
        motive_fo.write_report(dataset, tmp_path / "r.html")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        motive_fo.write_report(computed, tmp_path / "file" / "r.html", shown=0)
