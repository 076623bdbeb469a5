"""Motion in the film's time: the same figures at whatever rate a film was taken, exactly where the flow is exact."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.film_rates import differences, figures, film_clip
from motive_fo.clips.clip import Clip, VideoFacts
from motive_fo.clips.decode import decode
from motive_fo.clips.policy import plan
from motive_fo.clips.spec import ClipSpec
from motive_fo.clips.timeline import Timeline
from motive_fo.flow.base import Displacement
from motive_fo.flow.chain import pixel_grid
from motive_fo.flow.dis import DISFlow
from motive_fo.motion.camera import fit_camera
from motive_fo.motion.dynamic import dynamic_degree, smoothness
from motive_fo.motion.mask import magnitude
from motive_fo.motion.measure import WHOLE
from motive_fo.motion.timing import clip_displacement
from motive_fo.synthetic.scene import render, sample_scene
from tests.videos import write_video

FPS, FRAMES, SIDE = 16, 17, 24
NTSC_FILM, NTSC_60 = Fraction(24000, 1001), Fraction(60000, 1001)
RATES = [Fraction(10), Fraction(12), NTSC_FILM, *map(Fraction, (24, 25, 30, 50)), NTSC_60]
FACTS = VideoFacts(SIDE, SIDE, 24.0, 99, 4.0, "", "", 0, True, False, 0)


class Known:
    """An estimator that knows how the film moves: where its points are at a time, told by each frame's first pixel."""

    readings = frozenset({"step", "anchor"})

    def __init__(self, times, where):
        self.times, self.where = times, where
        self.seen = 0

    def estimate(self, frames_THW3, reading):
        self.seen = len(frames_THW3)
        at = [self.times[int(frame[0, 0, 0])] for frame in frames_THW3]
        grid = pixel_grid(SIDE, SIDE)
        if reading == "anchor":
            flow = [self.where(grid, at[0], each) - grid for each in at]
        else:
            flow = [grid - self.where(grid, now, before) for before, now in pairwise(at)]
            flow.insert(0, self.where(grid, at[0], at[1]) - grid)
        return Displacement(np.stack(flow).astype(np.float32), None, reading)


def even(grid, start, end):
    """3 pixels a second to the right, 1 up."""
    return grid + (end - start) * np.array([3.0, -1.0])


def growing(grid, start, end):
    """Points go apart, by a constant factor in a second."""
    middle = (SIDE - 1) / 2
    return middle + (grid - middle) * 1.3 ** (end - start)


def _clip(times, past_end=0):
    """Frames that carry the number of their time."""
    known = sorted(set(times))
    frames = np.zeros((len(times), SIDE, SIDE, 3), np.uint8)
    frames[:, 0, 0, 0] = [known.index(time) for time in times]
    return Clip(frames, np.asarray(times, float), "", FACTS, past_end=past_end), known


def _read(rate, start=0.0, frames=FRAMES, fps=FPS):
    """The clip that a film of this rate gives."""
    count = int((start + frames / fps) * rate) + 2
    film = Timeline(tuple(range(count)), count, 1 / Fraction(rate))
    found = plan(film, ClipSpec(start, fps, frames, SIDE, SIDE))
    return _clip([float(each) for each in film.moments(found.indices)])


def _motion(rate, where, reading="step", timing="film", **asked):
    clip, times = _read(rate, **asked)
    return clip_displacement(Known(times, where), clip, reading, asked.get("fps", FPS), timing)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("start", [0.0, 0.11])
@pytest.mark.parametrize("fps", [8, 16, 24, 30])
def test_what_moves_evenly_does_so_at_every_rate(rate, start, fps):
    own = _motion(Fraction(fps), even, fps=fps)
    found = _motion(rate, even, start=start, fps=fps)
    np.testing.assert_allclose(found.flow_THW2, own.flow_THW2, atol=1e-5)
    assert smoothness(found, 0.05) == pytest.approx(1, abs=1e-4)
    assert dynamic_degree(found, fps).score == pytest.approx(dynamic_degree(own, fps).score, rel=1e-4)
    assert fit_camera(found).share == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_what_grows_evenly_does_so_at_every_rate(rate):
    own, found = _motion(Fraction(FPS), growing), _motion(rate, growing)
    size, own_size = magnitude(found), magnitude(own)
    np.testing.assert_allclose(size.mean((1, 2)), own_size.mean((1, 2)), rtol=0.03)
    inner = np.s_[:, 4:-4, 4:-4]
    np.testing.assert_allclose(found.flow_THW2[inner], own.flow_THW2[inner], atol=0.01)
    assert smoothness(found, 0.05) > 0.95


@pytest.mark.parametrize("rate", RATES)
def test_from_the_first_frame_on_it_is_where_it_is_at_that_instant(rate):
    for where, atol in ((even, 1e-4), (growing, 0.05)):
        own, found = (_motion(each, where, "anchor") for each in (Fraction(FPS), rate))
        np.testing.assert_allclose(found.flow_THW2, own.flow_THW2, atol=atol)


@pytest.mark.parametrize("reading", ["step", "anchor"])
@pytest.mark.parametrize("rate", [Fraction(16), Fraction(32), Fraction(48)])
def test_a_film_of_the_clips_rate_or_a_multiple_is_as_it_was_to_the_bit(rate, reading):
    found, plain = (_motion(rate, growing, reading, timing) for timing in ("film", "frames"))
    assert np.array_equal(found.flow_THW2, plain.flow_THW2)
    assert found.spans_T is None


@pytest.mark.parametrize("rate", RATES[:5])
def test_between_frames_as_they_are_shown_it_goes_up_and_down(rate):
    size = magnitude(_motion(rate, even, timing="frames"))[1:, 0, 0]
    assert size.max() > 1.3 * size.min()


def test_a_frame_shown_again_is_not_estimated_again():
    clip, times = _read(Fraction(8))
    estimator = Known(times, even)
    found = clip_displacement(estimator, clip, "step", FPS)
    assert estimator.seen == 9
    assert len(found.flow_THW2) == FRAMES
    assert found.spans_T.tolist() == [2, *[0, 2] * 8]


def test_uneven_frames_and_a_pause_add_up_to_the_films_displacement():
    times = [0, 0.05, 0.05, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.55, 0.625, 0.69]  # on screen at multiples of 1/16 s
    clip, known = _clip(times)
    flow = clip_displacement(Known(known, even), clip, "step", FPS).flow_THW2
    np.testing.assert_allclose(flow[:, 5, 5], np.broadcast_to(flow[0, 5, 5], (12, 2)), rtol=1e-5)
    # half the speed after the second frame: steps of one interval are one speed, whichever frames show it
    place = partial(np.interp, xp=[0, 0.2, 1], fp=[0, 0.6, 1.8])
    slower = Known(known, lambda grid, start, end: grid + np.array([place(end) - place(start), 0]))
    steps = clip_displacement(slower, clip, "step", FPS).flow_THW2[:, 5, 5, 0]
    np.testing.assert_allclose(steps, [3 / FPS] * 4 + [1.5 / FPS] * 8, rtol=1e-5)


def test_what_repeats_the_last_frame_of_a_film_that_is_over_does_not_move():
    times = [*(k / FPS for k in range(9)), *[8 / FPS] * 3]
    clip, known = _clip(times, past_end=3)
    step, anchor = (
        clip_displacement(Known(known, even), clip, reading, FPS).flow_THW2 for reading in ("step", "anchor")
    )
    assert not step[9:].any()
    assert (step[:9] != 0).any((1, 2, 3)).all()
    np.testing.assert_allclose(anchor[9:], np.broadcast_to(anchor[8], anchor[9:].shape), atol=1e-5)
    clip = replace(clip, past_end=0)  # the same frames of a film that goes on: its last frame stays for long
    np.testing.assert_allclose(
        clip_displacement(Known(known, even), clip, "step", FPS).flow_THW2[9:], step[8:9].repeat(3, 0), atol=1e-5
    )


def test_a_loops_jump_back_counts_as_one_interval():
    film = [0, 1 / 24, 3 / 24, 4 / 24, 6 / 24]
    clip, known = _clip([*film, *film])
    step = clip_displacement(Known(known, even), clip, "step", FPS).flow_THW2[:, 5, 5, 0]
    assert step[5] == pytest.approx(-6 / 24 * 3)
    np.testing.assert_allclose(np.delete(step, 5), 3 / FPS, rtol=1e-5)
    anchor = clip_displacement(Known(known, even), clip, "anchor", FPS).flow_THW2[:, 5, 5, 0]
    np.testing.assert_allclose(anchor, [3 * time for time in [*film, *film]], rtol=1e-5)


def test_a_clip_that_shows_one_frame_does_not_move():
    clip, known = _clip([0.5] * 5)
    for reading in ("step", "anchor"):
        found = clip_displacement(Known(known, even), clip, reading, FPS)
        assert found.flow_THW2.shape == (5, SIDE, SIDE, 2)
        assert not found.flow_THW2.any()


# --- rendered and written films ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES[1:])
@pytest.mark.parametrize("kind", ["pan", "slide"])
def test_the_default_estimator_says_nearly_the_same_at_every_rate(kind, rate):
    scene = sample_scene(0, kind)
    own = figures(film_clip(scene, Fraction(FPS), side=64), "film")
    clip = film_clip(scene, rate, side=64)
    film, frames = (differences(figures(clip, timing), own) for timing in ("film", "frames"))
    assert film["smoothness"] < 0.12
    assert film["mean motion"] < 0.1
    if rate < 26:
        assert film["smoothness"] < frames["smoothness"] / 3
        assert film["curve, step to step"] < frames["curve, step to step"] / 2


@pytest.mark.parametrize(("suffix", "rate"), [("mp4", 24), ("mkv", 24), ("mkv", 16), ("mp4", NTSC_FILM), ("mkv", 60)])
def test_the_times_of_a_constant_rate_are_not_the_containers_rounding(tmp_path, suffix, rate):
    path = tmp_path / f"film.{suffix}"
    scene = sample_scene(1, "pan")
    frames = render(scene, frames=int(2 * rate), fps=float(rate), height=64, width=64)
    write_video(path, fps=rate, frames_THW3=frames)
    clip = decode(path, ClipSpec(0, FPS, FRAMES, 64, 64))
    steps = np.diff(clip.times_T) * float(rate)
    np.testing.assert_allclose(steps, steps.round(), rtol=5e-4)
    film, shown = (figures(clip, timing).smoothness[WHOLE] for timing in ("film", "frames"))
    assert film > (shown if rate in (16, 60) else shown + 0.3) - 1e-3


def test_frames_that_repeat_the_end_are_told_by_the_decoder(tmp_path):
    path = tmp_path / "short.mp4"
    write_video(path, 12, fps=16)
    clip = decode(path, ClipSpec(0, FPS, FRAMES, 64, 64), short="pad")
    assert clip.past_end == 5
    assert not clip_displacement(DISFlow(), clip, "step", FPS).flow_THW2[12:].any()
