"""The corpus: six motions of a camera before a still object, gallery and queries of scenes of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
import numpy.typing as npt

from motive_fo.pipeline.record import ClipRecord
from motive_fo.synthetic.corpus import FIRST_SEED
from motive_fo.synthetic.scene import Camera, Scene, render, sample_scene

#: motion -> motion of the scene, what its camera may do, clips in the seed benchmark's gallery. A direction is drawn
#: for each clip where there are several.
MOTIONS: Final[dict[str, tuple[str, tuple[Camera, ...], int]]] = {
    "horizontal pan": ("pan", ("left", "right"), 33),
    "vertical tilt": ("tilt", ("up", "down"), 25),
    "diagonal slide": ("diagonal", ("up left", "up right", "down left", "down right"), 41),
    "clockwise rotation": ("rotation", ("clockwise",), 31),
    "zoom-in": ("zoom", ("in",), 45),
    "random": ("shake", ("hand-held",), 25),
}
CAPTION: Final = "a clip"
GALLERY, TUNE, REPORT = "gallery", "tune", "report"
_SIZE, _FPS, _FRAMES, _THUMB = 64, 16.0, 20, 16


@dataclass(frozen=True)
class Corpus:
    """Rendered clips of one role after the other.

    Attributes:
        records: role -> clips.
        motions: role -> index of each clip's motion.
        pixels: role -> float32 (N, K), small grey frames of each clip, end to end.
    """

    records: dict[str, list[ClipRecord]]
    motions: dict[str, npt.NDArray[np.int64]]
    pixels: dict[str, npt.NDArray[np.float32]]

    def relevant(self, role: str) -> npt.NDArray[np.bool_]:
        """Which clips of the gallery show the motion of which query of the role: (Q, N)."""
        return np.asarray(self.motions[role][:, None] == self.motions[GALLERY][None])


def scene(seed: int, role: int, motion: int, index: int) -> Scene:
    """A clip's scene, which depends on these numbers alone."""
    rng = np.random.default_rng([seed, role, motion, index])
    name, cameras, _ = list(MOTIONS.values())[motion]
    drawn = sample_scene(FIRST_SEED + int(rng.integers(2**60)), name)
    return replace(drawn, camera=cameras[int(rng.integers(len(cameras)))])


def render_corpus(folder: Path, *, scale: float, tune: int, report: int, seed: int) -> Corpus:
    """Render and encode all clips.

    Args:
        scale: of the seed benchmark's class sizes.
        tune, report: queries of each motion.
        seed: of the scenes.
    """
    counts = {
        GALLERY: [round(size * scale) for _, _, size in MOTIONS.values()],
        TUNE: [tune] * len(MOTIONS),
        REPORT: [report] * len(MOTIONS),
    }
    made = Corpus({}, {}, {})
    for number, (role, sizes) in enumerate(counts.items()):
        records, motions, pixels = [], [], []
        for motion, size in enumerate(sizes):
            for index in range(size):
                clip = render(scene(seed, number, motion, index), frames=_FRAMES, fps=_FPS, height=_SIZE, width=_SIZE)
                path = folder / f"{role}-{motion}-{index:03d}.mov"
                write_lossless(path, clip)
                records.append(ClipRecord(path.stem, path, CAPTION))
                motions.append(motion)
                pixels.append(np.stack([_thumb(frame) for frame in clip]).ravel())
        made.records[role], made.motions[role] = records, np.asarray(motions)
        made.pixels[role] = np.stack(pixels)
    return made


def write_lossless(path: Path, frames_THW3: npt.NDArray[np.uint8]) -> None:
    """Every frame as a PNG in a MOV: the same frames give the same bytes.

    H.264 does not at this size: x264's macroblock tree gave up to three different files of one clip.
    """
    with av.open(str(path), "w", format="mov", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("png", rate=Fraction(_FPS))
        stream.height, stream.width, stream.pix_fmt = *frames_THW3.shape[1:3], "rgb24"
        for frame_HW3 in frames_THW3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HW3, format="rgb24")))
        container.mux(stream.encode(None))


def _thumb(frame_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    grey = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 - 0.5
    return np.asarray(cv2.resize(grey, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA), np.float32)
