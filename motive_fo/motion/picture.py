"""Motion made visible: colours for direction, heat for magnitude, strips of frames."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]


def flow_colours(flow_THW2: npt.NDArray[np.float32], strongest: float | None = None) -> Frames:
    """Direction as hue (right is red, then down is yellow-green, left is cyan, up is violet), speed as saturation.

    Args:
        strongest: speed in pixels that is fully saturated; the clip's 99th percentile where open.

    Returns:
        uint8 RGB (T, H, W, 3); what does not move is white.
    """
    speed = np.hypot(flow_THW2[..., 0], flow_THW2[..., 1])
    full = strongest if strongest is not None else float(np.percentile(speed, 99))
    hue = (np.degrees(np.arctan2(flow_THW2[..., 1], flow_THW2[..., 0])) % 360) / 2
    saturation = np.clip(speed / max(full, 1e-6), 0, 1) * 255
    hsv = np.stack((hue, saturation, np.full_like(hue, 255)), axis=-1).astype(np.uint8)
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) for frame in hsv]).astype(np.uint8)


def heat(values_THW: npt.NDArray[np.float32], strongest: float | None = None) -> Frames:
    """Values from 0 (dark) to ``strongest`` (bright) as uint8 RGB; the maximum of the clip where open."""
    full = strongest if strongest is not None else float(values_THW.max())
    grey = (np.clip(values_THW / max(full, 1e-6), 0, 1) * 255).astype(np.uint8)
    return np.stack(
        [cv2.cvtColor(cv2.applyColorMap(frame, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB) for frame in grey]
    ).astype(np.uint8)


def enlarge(frames_THW3: Frames, height: int) -> Frames:
    """Frames scaled to a height, by nearest neighbour where they grow: latent cells stay visible as cells."""
    width = max(1, round(frames_THW3.shape[2] * height / frames_THW3.shape[1]))
    method = cv2.INTER_NEAREST if height >= frames_THW3.shape[1] else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames_THW3]).astype(
        np.uint8
    )


def filmstrip(frames_THW3: Frames, count: int = 6, height: int = 96) -> Frames:
    """``count`` frames evenly over the clip, side by side: uint8 RGB (height, width, 3)."""
    picked = np.linspace(0, len(frames_THW3) - 1, min(count, len(frames_THW3))).round().astype(int)
    return np.concatenate(list(enlarge(frames_THW3[picked], height)), axis=1)


def png(picture_HW3: Frames) -> bytes:
    """A picture as PNG."""
    return _encode(picture_HW3, ".png", [])


def jpeg(picture_HW3: Frames, quality: int = 80) -> bytes:
    """A picture as JPEG."""
    return _encode(picture_HW3, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(picture_HW3: Frames, suffix: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"the picture could not be encoded as {suffix}")
    return data.tobytes()
