"""What the decoder hands on: the pixels of one clip, and the facts of the file they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class VideoFacts:
    """What the container says of the video stream, checked against its packets; nothing is decoded for it.

    Attributes:
        width, height: pixels as shown on screen (after rotation).
        fps: mean frame rate, from the packets' timestamps.
        frames: number of packets that are shown (the container's own count is not trusted).
        duration: seconds from the first frame to the end of the last one.
        codec: FFmpeg's name of the codec (``h264``).
        pixel_format: FFmpeg's name of the pixel format (``yuv420p``).
        rotation: degrees the stored picture is turned counter-clockwise for display: 0, 90, 180 or 270.
        constant_rate: every frame is shown for the same time, to within one tick of the stream's clock.
        edit_list: the container hides or shifts packets, so that counting packets does not number the frames.
        size_bytes: size of the file.
    """

    width: int
    height: int
    fps: float
    frames: int
    duration: float
    codec: str
    pixel_format: str
    rotation: int
    constant_rate: bool
    edit_list: bool
    size_bytes: int


@dataclass(frozen=True)
class Clip:
    """One clip as the model will see it.

    Attributes:
        frames_THW3: uint8 RGB.
        times_T: presentation time of each used frame, seconds from the first frame of the video; where the video has
            a constant rate, without what the container rounded.
        decoder: decoder and version (``pyav 18.1.0``): colours differ by up to 0.6/255 between decoders.
        facts: what the file is.
        adjustment: what was done because the video is too short (``padded 3 frames``); empty if nothing.
        past_end: frames at the end that repeat the last one because the video is over.
    """

    frames_THW3: npt.NDArray[np.uint8]
    times_T: npt.NDArray[np.float64]
    decoder: str
    facts: VideoFacts
    adjustment: str = ""
    past_end: int = 0
