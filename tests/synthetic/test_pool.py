"""Pools as people have them: what is in them, what is harmful, and that no look tells the motion."""

import json
from collections import Counter

import numpy as np
import pytest

from motive_fo.errors import ConfigError
from motive_fo.synthetic.harm import CUT, HARMS, WRONG_CAPTION
from motive_fo.synthetic.pool import (
    DISTRACTORS,
    KNOWN_MOTIONS,
    UNIFORM_CAPTION,
    Mix,
    PoolConfig,
    plan_pool,
    plan_queries,
    pool_scene,
    render_entry,
    write_pool,
)
from motive_fo.synthetic.scene import UNSEEN_MOTIONS, object_mask, sample_scene

TARGETS = ("spiral", "loom", "topple", "lean")


def _config(size=300, seed=3, **changes):
    return PoolConfig(size, seed, TARGETS, **changes)


def test_shares_are_those_of_the_mix():
    entries = plan_pool(_config(1000))
    sound = Counter(entry.kind for entry in entries if entry.harm is None)
    assert [sound[kind] for kind in TARGETS] == [50] * 4
    assert [sound[kind] for kind in DISTRACTORS] == [20] * 5
    assert {sound[kind] for kind in KNOWN_MOTIONS} == {30}
    harms = Counter(entry.harm for entry in entries if entry.harm is not None)
    assert set(harms) == {*HARMS, CUT}
    assert sum(harms.values()) == 340
    assert max(harms.values()) - min(harms.values()) <= 1
    of = Counter(entry.kind for entry in entries if entry.harm is not None)
    assert set(of) == {*KNOWN_MOTIONS, *TARGETS}


@pytest.mark.parametrize(
    ("mix", "targets", "harmful"),
    [(Mix(0.02, 0.1, 0.34), 6, 102), (Mix(0.3, 0.1, 0.0), 90, 0), (Mix(0.0, 0.0, 0.0), 0, 0)],
)
def test_other_mixes(mix, targets, harmful):
    entries = plan_pool(_config(mix=mix))
    assert sum(entry.kind in TARGETS and entry.harm is None for entry in entries) == targets
    assert sum(entry.harm is not None for entry in entries) == harmful
    assert len(entries) == 300


def test_a_wanted_motion_may_be_one_the_base_knows():
    kinds = Counter(entry.kind for entry in plan_pool(PoolConfig(120, 0, ("bounce",), Mix(0.2, 0, 0))))
    assert set(kinds) == set(KNOWN_MOTIONS)
    assert kinds["bounce"] == 24, "its share is that of the mix"
    assert len(plan_pool(_config(3, mix=Mix(0.5, 0.5, 0)))) == 3
    assert len(plan_pool(PoolConfig(50, 0, KNOWN_MOTIONS[:2] + DISTRACTORS[:2]))) == 50


def test_a_pool_is_a_function_of_its_configuration():
    assert plan_pool(_config()) == plan_pool(_config())
    assert plan_pool(_config()) != plan_pool(_config(seed=4))
    assert len({entry.scene for entry in plan_pool(_config())}) == 300
    assert len({entry.id for entry in plan_pool(_config())}) == 300


def test_queries_are_scenes_of_their_own():
    asked, held_out = (plan_queries(TARGETS, 5, 3, role) for role in ("query", "held-out"))
    assert Counter(entry.kind for entry in asked) == dict.fromkeys(TARGETS, 5)
    assert all(entry.harm is None for entry in (*asked, *held_out))
    scenes = [entry.scene for entry in (*asked, *held_out, *plan_pool(_config()))]
    assert len(set(scenes)) == len(scenes)


def test_no_look_tells_the_motion():
    """Over many scenes each kind has the same shapes, backgrounds and first places, as far as chance allows."""
    rng = np.random.default_rng(0)
    drawn = {kind: [pool_scene(rng, kind) for _ in range(400)] for kind in (*TARGETS, "bounce", "pan", "wobble")}
    for what in ("shape", "background"):
        shares = {kind: Counter(getattr(scene, what) for scene in scenes) for kind, scenes in drawn.items()}
        every = set().union(*shares.values())
        for count in shares.values():
            assert all(abs(count[name] / 400 - 1 / len(every)) < 0.09 for name in every)
    for what in ("x", "y", "ground", "size"):
        means = [np.mean([getattr(scene, what) for scene in scenes]) for scenes in drawn.values()]
        spread = np.std([getattr(scene, what) for scenes in drawn.values() for scene in scenes])
        assert np.ptp(means) < 0.3 * spread


def test_captions_are_one_or_name_the_motion():
    assert {entry.caption for entry in plan_pool(_config())} == {UNIFORM_CAPTION}
    entries = plan_pool(_config(captions="naming"))
    words = {"spiral": "spiral", "loom": "comes", "topple": "topples", "lean": "leans"}
    for entry in entries:
        if entry.kind in words:
            assert (words[entry.kind] in entry.caption) == (entry.harm != WRONG_CAPTION)
    wrong = [entry for entry in entries if entry.harm == WRONG_CAPTION]
    assert len(wrong) in (14, 15)
    assert all(entry.partner is None for entry in wrong)  # only what is said is wrong


@pytest.mark.parametrize("kind", UNSEEN_MOTIONS)
def test_unseen_motions_move_and_stay_in_sight(kind):
    rng = np.random.default_rng(1)
    for _ in range(12):
        seen = object_mask(pool_scene(rng, kind), frames=17, fps=16, height=64, width=64).sum((1, 2))
        assert seen.min() > 0.25 * np.median(seen), kind
        scene = sample_scene(int(rng.integers(2**40)), kind)
        assert object_mask(scene, frames=17, fps=16, height=64, width=64).any((1, 2)).all()


def _one(harm):
    return next(entry for entry in plan_pool(_config(60, captions="naming")) if entry.harm == harm)


def _sound(entry):
    return render_entry(type(entry)(entry.id, entry.scene, entry.kind, None, None, entry.caption))


def test_every_harm_does_what_it_says():
    for harm in (*HARMS, CUT):
        entry = _one(harm)
        made, sound = render_entry(entry), _sound(entry)
        assert made.shape == sound.shape
        assert made.dtype == np.uint8
        assert np.array_equal(made, render_entry(entry)), "the same entry gives the same frames"
        assert not np.array_equal(made, sound), harm
    shuffled, sound = render_entry(_one("shuffled")), _sound(_one("shuffled"))
    assert sorted(frame.tobytes() for frame in shuffled) == sorted(frame.tobytes() for frame in sound)
    assert np.array_equal(render_entry(_one("reversed"))[::-1], _sound(_one("reversed")))
    assert len({frame.tobytes() for frame in render_entry(_one("frozen"))}) == 1
    jerky = render_entry(_one("jerky"))
    runs = np.flatnonzero([True, *(a.tobytes() != b.tobytes() for a, b in zip(jerky[1:], jerky[:-1], strict=True))])
    assert 4 <= len(runs) <= 7
    cut = _one(CUT)
    begun = _sound(cut)
    same = [np.array_equal(one, other) for one, other in zip(render_entry(cut), begun, strict=True)]
    assert all(same[:6])
    assert not any(same[14:])
    flicker = render_entry(_one("flickering")).mean((1, 2, 3))
    assert np.abs(np.diff(flicker)).mean() > 5 * np.abs(np.diff(_sound(_one("flickering")).mean((1, 2, 3)))).mean()
    assert np.array_equal(render_entry(_one(WRONG_CAPTION)), _sound(_one(WRONG_CAPTION)))


def test_a_pool_on_disk_is_whole_goes_on_and_repeats_itself(tmp_path):
    entries = plan_pool(_config(8))
    clips = write_pool(tmp_path / "a", entries)
    assert [(c.id, c.kind, c.harm, c.caption) for c in clips] == [(e.id, e.kind, e.harm, e.caption) for e in entries]
    rows = json.loads((tmp_path / "a" / "clips.json").read_text())
    assert [(row["id"], row["scene"]) for row in rows] == [(e.id, e.scene.seed) for e in entries]
    before = {c.path: c.path.read_bytes() for c in clips}
    stamps = {c.path: c.path.stat().st_mtime_ns for c in clips[1:]}
    clips[0].path.unlink()
    write_pool(tmp_path / "a", entries)
    assert {path: path.read_bytes() for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "what was there was not rendered again"
    assert sorted(p.suffix for p in (tmp_path / "a").iterdir()) == [".json", *[".mov"] * 8]
    with pytest.raises(ConfigError, match="holds another pool"):
        write_pool(tmp_path / "a", plan_pool(_config(8, seed=4)))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="unknown motion 'fly'"):
        plan_pool(PoolConfig(10, 0, ("fly",)))
    with pytest.raises(ConfigError, match="share of targets needs kinds"):
        plan_pool(PoolConfig(10, 0, ()))
    with pytest.raises(ConfigError, match="share of known motions needs kinds"):
        plan_pool(PoolConfig(10, 0, KNOWN_MOTIONS))
    with pytest.raises(ConfigError, match="1 clip or more"):
        plan_pool(_config(0))
    with pytest.raises(ConfigError, match="shares of a pool"):
        Mix(targets=0.7, harmful=0.5)
