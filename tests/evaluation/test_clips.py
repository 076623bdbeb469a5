"""Which clips belong together: all of the smaller set, or none."""

from pathlib import Path

from motive_fo.evaluation.clips import ClipSet, EvaluatedClip, pair_up


def _set(label, *clips):
    return ClipSet(label, tuple(EvaluatedClip(name, Path(name), prompt, seed) for name, prompt, seed in clips))


def test_prompt_and_seed_come_before_names():
    one = _set("a", ("x.mp4", "roll", 0), ("y.mp4", "roll", 1))
    other = _set("b", ("y.mp4", "roll", 0), ("x.mp4", "roll", 1))
    found = pair_up(one, other)
    assert found.by == "prompt and seed"
    assert found.pairs == (("x.mp4", "y.mp4"), ("y.mp4", "x.mp4"))


def test_names_pair_without_their_suffix():
    found = pair_up(_set("a", ("m/1.mp4", "", None)), _set("b", ("m/1.webm", "", None), ("m/2.webm", "", None)))
    assert (found.by, found.pairs) == ("file name", (("m/1.mp4", "m/1.webm"),))


def test_equal_names_of_different_prompts_are_no_pair():
    assert pair_up(_set("a", ("1.mp4", "roll", None)), _set("b", ("1.mp4", "spin", None))) is None
    assert pair_up(_set("a", ("1.mp4", "roll", None)), _set("b", ("1.mp4", "", None))) is not None


def test_all_or_none():
    one = _set("a", ("1.mp4", "", None), ("2.mp4", "", None))
    assert pair_up(one, _set("b", ("1.mp4", "", None), ("3.mp4", "", None))) is None
    twice = _set("b", ("1.mp4", "", None), ("1.webm", "", None), ("2.mp4", "", None))
    assert pair_up(one, twice) is None, "two clips could be the partner"
