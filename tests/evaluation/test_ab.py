"""The page on which people judge, without a browser: what is in it, and what is not."""

import json
import re
from urllib.parse import unquote

import pytest

import motive_fo
from motive_fo.errors import InputError


def _data(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_every_pair_once_sides_at_random_and_the_same_for_a_seed(made, tmp_path):
    page = motive_fo.write_ab_page(made[0], made[1], tmp_path / "page.html")
    data = _data(page)
    assert (data["a"], data["b"]) == ("a", "b")
    assert sorted(row["pair"] for row in data["pairs"]) == [f"videos/clip-{n}_s0.mp4" for n in range(3)]
    for row in data["pairs"]:
        left, right = (unquote(row[side]) for side in ("left", "right"))
        assert (page.parent / left).is_file()
        assert (page.parent / right).is_file()
        assert f"/{row['left_is']}/" in left
        assert f"/{row['left_is']}/" not in right
    again = motive_fo.write_ab_page(made[0], made[1], tmp_path / "again.html")
    assert _data(again) == data
    orders = set()
    for seed in range(12):
        rows = _data(motive_fo.write_ab_page(made[0], made[1], tmp_path / "x.html", seed=seed))["pairs"]
        orders.add(tuple((row["pair"], row["left_is"]) for row in rows))
    assert len(orders) > 6


def test_prompts_cannot_become_markup_and_nothing_comes_from_elsewhere(made, tmp_path):
    page = motive_fo.write_ab_page(made[0], made[1], tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert "</script><b>" not in text
    assert "=a box slides </script><b>" in [row["prompt"] for row in _data(page)["pairs"]]
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert "default-src 'none'" in text


def test_embedded_videos_leave_nothing_to_find(made, tmp_path):
    page = motive_fo.write_ab_page(made[0], made[1], tmp_path / "page.html", embed=True, pairs=2)
    rows = _data(page)["pairs"]
    assert len(rows) == 2
    assert all(row[side].startswith("data:video/mp4;base64,") for row in rows for side in ("left", "right"))


def test_sets_that_do_not_pair_up_are_refused(made, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "alone.mp4").write_bytes((made[0] / "videos" / "clip-0_s0.mp4").read_bytes())
    with pytest.raises(InputError, match="do not pair up"):
        motive_fo.write_ab_page(made[0], tmp_path / "one", tmp_path / "page.html")
    with pytest.raises(InputError, match="at least 1 pair"):
        motive_fo.write_ab_page(made[0], made[1], tmp_path / "page.html", pairs=0)
    assert not (tmp_path / "page.html").exists()
