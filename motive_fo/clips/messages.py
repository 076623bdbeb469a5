"""What the processes that decode are asked and answer: lines of JSON, and the pixels of a clip behind its line.

A file from a stranger may take over the process that decodes it. So nothing it answers is unpickled: an answer is text
with known keys, and no more pixels than were asked for.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from typing import IO, Any, Final

import numpy as np

from motive_fo import errors
from motive_fo.clips.clip import Clip, VideoFacts
from motive_fo.clips.decode import Decoder
from motive_fo.clips.policy import Short
from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.errors import MotiveError

_LONGEST_LINE: Final = 1 << 20


@dataclass(frozen=True)
class Request:
    """One clip to decode: the arguments of ``decode``."""

    path: str | os.PathLike[str]
    spec: ClipSpec
    decoder: Decoder = "auto"
    short: Short = "refuse"
    rule: FrameRule | None = None


@dataclass(frozen=True)
class Failure:
    """A ``ClipError`` on its way between processes. After ``last`` the process cannot be used again."""

    stage: str
    code: str
    message: str
    last: bool = False


def write_line(pipe: IO[bytes], message: Any) -> None:
    """Plain data as one line of JSON. File names that are no Unicode survive it."""
    pipe.write(json.dumps(message).encode() + b"\n")


def read_line(pipe: IO[bytes]) -> Any:
    """What ``write_line`` wrote. Raises ``EOFError`` at the end of the pipe, ``ValueError`` if it is no such line."""
    line = pipe.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError if len(line) < _LONGEST_LINE else ValueError("an answer without an end")
    return json.loads(line)


def write_request(pipe: IO[bytes], request: Request) -> None:
    """Ask for a clip."""
    write_line(pipe, {**asdict(request), "path": os.fspath(request.path)})


def read_request(pipe: IO[bytes]) -> Request:
    """The clip that is asked for. Raises ``EOFError`` where there is none to come."""
    asked = read_line(pipe)
    rule = None if asked["rule"] is None else FrameRule(**asked["rule"])
    return Request(asked["path"], ClipSpec(**asked["spec"]), asked["decoder"], asked["short"], rule)


def write_answer(pipe: IO[bytes], answer: Clip | Failure | MotiveError) -> None:
    """Answer a request; the pixels are written as they are in memory, without another copy."""
    if isinstance(answer, Failure):
        write_line(pipe, {"failure": asdict(answer)})
    elif isinstance(answer, MotiveError):
        write_line(pipe, {"error": type(answer).__name__, "message": str(answer)})
    else:
        frames_THW3 = np.ascontiguousarray(answer.frames_THW3)
        line = {
            "shape": frames_THW3.shape,
            "times": answer.times_T.tolist(),
            "decoder": answer.decoder,
            "facts": asdict(answer.facts),
            "adjustment": answer.adjustment,
            "past_end": answer.past_end,
        }
        write_line(pipe, line)
        pipe.write(frames_THW3.data)
    pipe.flush()


def read_answer(pipe: IO[bytes], request: Request) -> Clip | Failure | MotiveError:
    """The answer to a request.

    Raises:
        EOFError: the pipe ended before it did.
        ValueError, KeyError, TypeError: it is no such answer, or larger than what was asked for.
    """
    line = read_line(pipe)
    if "failure" in line:
        failure = Failure(**line["failure"])
        if failure.code not in errors.CLIP_CODES:
            raise ValueError(f"an unknown code: {failure.code!r}")
        return failure
    if "error" in line:
        kind = getattr(errors, line["error"], None)
        if not (isinstance(kind, type) and issubclass(kind, MotiveError)):
            raise ValueError(f"an answer of unknown kind: {line['error']!r}")
        return kind(str(line["message"]))
    frames, height, width, colours = (int(n) for n in line["shape"])
    spec = request.spec
    asked = (spec.frames, spec.height, spec.width, 3)
    size = frames * height * width * colours
    if min(frames, height, width) < 1 or colours != 3 or size > math.prod(asked) or len(line["times"]) != frames:
        raise ValueError(f"a clip of another shape than was asked for: {line['shape']}")
    pixels = np.empty(size, np.uint8)  # unlike a bytearray in huge pages: fewer faults on a large clip
    if pipe.readinto(pixels.data) != size:  # type: ignore[attr-defined]
        raise EOFError
    frames_THW3 = pixels.reshape(frames, height, width, 3)
    times_T, facts = np.asarray(line["times"], np.float64), VideoFacts(**line["facts"])
    adjustment, past_end = str(line["adjustment"]), int(line["past_end"])
    return Clip(frames_THW3, times_T, str(line["decoder"]), facts, adjustment, past_end)
