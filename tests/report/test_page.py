"""Pages and plots hold whatever names and captions are made of."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from motive_fo.report.page import legible, render
from motive_fo.report.plot import bars, histogram, intervals, matrix, spreads

NAMES = [
    "<script>alert(1)</script>",
    "\"quotes' & <tags>",
    r"$\frac{$",
    "a$b_c^$d$",
    "nul\x00 bell\x07 escape\x1b",
    "two\nlines",
    "漢字 🎬 עברית \u202e",
    "\ud800 half a pair",
    "",
    "x" * 5000,
]


@pytest.mark.parametrize(
    "plot",
    [
        lambda: bars("clips", "clips", dict.fromkeys(NAMES, 3.0)),
        lambda: spreads("cosines", "cosine", {name: np.linspace(-1, 1, 9) for name in NAMES}),
        lambda: matrix("shared", NAMES, np.eye(len(NAMES)), legend="share"),
        lambda: intervals("means", "px", dict.fromkeys(NAMES, (1.0, 0.5, None))),
        lambda: histogram("norms", "log10", {"all": [1.0, float("nan"), float("inf")]}),
        lambda: histogram("norms", "log10", {"all": [float("nan")]}),
        lambda: bars("clips", "clips", {}),
    ],
    ids=["bars", "spreads", "matrix", "intervals", "histogram", "no values", "nothing"],
)
def test_a_plot_of_any_names_is_sound_xml_without_markup_of_theirs(plot):
    drawn = plot().svg
    tree = ElementTree.fromstring(drawn.decode("utf-8"))
    assert tree.tag.endswith("svg")
    assert not [node for node in tree.iter() if node.tag.endswith("script")]
    assert max((len(text) for text in tree.itertext()), default=0) < 200, "long names are cut"


def test_names_on_a_plot_are_themselves_and_no_formulas():
    words = " ".join(ElementTree.fromstring(bars("c", "c", dict.fromkeys(NAMES, 1)).svg.decode("utf-8")).itertext())
    assert "a$b_c^$d$" in words
    assert "two lines" in words
    assert "<script>alert(1)</script>" in words


def test_the_same_plot_is_the_same_bytes():
    assert bars("c", "c", {"a": 1}).svg == bars("c", "c", {"a": 1}).svg != bars("c", "c", {"a": 2}).svg


def test_a_page_escapes_everything_and_can_be_written_as_utf8():
    page = render("motion.html", title=NAMES[0], facts=[(name, name) for name in NAMES], distributions=[], groups=[])
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\N{REPLACEMENT CHARACTER} half a pair" in page
    page.encode("utf-8")


def test_legible_text_is_left_as_it_is():
    assert legible("a\tb\n漢字 🎬 <&>") == "a\tb\n漢字 🎬 <&>"
    assert legible("a\x00\ud83d") == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
