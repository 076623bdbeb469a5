"""Votes: shares, intervals, and files that must not be counted."""

import csv

import pytest

import motive_fo
from motive_fo.errors import InputError
from motive_fo.evaluation.statistics import wilson
from motive_fo.evaluation.votes import COLUMNS


def _file(path, rows, a="ours", b="theirs"):
    """Rows are (pair, left, choice)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(COLUMNS)
        for pair, left, choice in rows:
            right = "b" if left == "a" else "a"
            winner = {"tie": "tie", "left": left, "right": right}[choice]
            writer.writerow(("id", pair, a, b, left, choice, winner))
    return path


def test_shares_and_intervals(tmp_path):
    rows = [("p1", "a", "left"), ("p2", "b", "right"), ("p3", "a", "right"), ("p4", "b", "tie"), ('p"5,', "a", "left")]
    report = motive_fo.count_votes([_file(tmp_path / "v.csv", rows)])
    assert (report.a, report.b, report.votes, report.pairs, report.files) == ("ours", "theirs", 5, 5, 1)
    assert (report.win.value, report.tie.value, report.loss.value) == (0.6, 0.2, 0.2)
    assert (report.win.low, report.win.high) == wilson(0.6, 5)
    assert report.left.value == 0.5
    assert (report.left.low, report.left.high) == wilson(0.5, 4)


def test_many_people_on_few_pairs_are_no_more_certain_of_other_pairs(tmp_path):
    files = [_file(tmp_path / f"{n}.csv", [("p1", "a", "left"), ("p2", "a", "right")]) for n in range(9)]
    report = motive_fo.count_votes(files)
    assert (report.votes, report.pairs, report.files) == (18, 2, 9)
    assert (report.win.low, report.win.high) == wilson(0.5, 2)


def test_ties_alone_say_nothing_of_sides(tmp_path):
    assert motive_fo.count_votes([_file(tmp_path / "v.csv", [("p", "a", "tie")])]).left is None


def test_files_that_are_not_one_persons_votes_are_refused(tmp_path):
    good = _file(tmp_path / "good.csv", [("p", "a", "left")])

    def refused(problem, *files):
        with pytest.raises(InputError, match=problem):
            motive_fo.count_votes(files)

    refused("no votes to count")
    refused("cannot read", tmp_path / "none.csv")
    refused("is named twice", good, good)
    refused("judge different sides", good, _file(tmp_path / "other.csv", [("p", "a", "left")], a="third"))
    refused("judges 'p' twice", _file(tmp_path / "double.csv", [("p", "a", "left"), ("p", "a", "tie")]))
    refused("holds no votes", _file(tmp_path / "empty.csv", []))
    (tmp_path / "text.csv").write_text("hello\n")
    refused("is no file of votes", tmp_path / "text.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    refused("is no CSV file", tmp_path / "bytes.csv")
    wrong = good.read_text().replace('"left","a"', '"left","b"')
    (tmp_path / "wrong.csv").write_text(wrong)
    refused("line 2: .* do not go together", tmp_path / "wrong.csv")
