"""Every error the product raises, in two families.

* ``MotiveError`` and its children: the call cannot go on. The text names what is wrong and the way out; the command
  line prints it as one line and exits with code 2, an operator shows it in its form.
* ``ClipError``: *one clip* cannot go on. It carries a stage and a code, is recorded on that clip and never stops a run.

``CLIP_CODES`` is the whole list of codes a clip can carry.
"""

from __future__ import annotations

from typing import Final


class MotiveError(Exception):
    """Wrong use, or something missing on this machine. The message says the way out."""


class ConfigError(MotiveError, ValueError):
    """A setting is unknown, of the wrong kind, out of range, or does not fit the chosen model."""


class InputError(MotiveError, ValueError):
    """A path, a metadata file or a dataset given by the user cannot be used."""


class MissingDependencyError(MotiveError, ImportError):
    """An optional package is needed for what was asked."""


class DatabaseError(MotiveError, ConnectionError):
    """FiftyOne's database cannot be reached."""


class StoreError(MotiveError):
    """A store cannot be opened or written."""


class StoreMismatchError(StoreError):
    """The store was computed with other settings: its numbers may not be mixed with the new ones."""


class StoreDamageError(StoreError, ValueError):
    """A part of a store is lost or altered; the text names it and its clips. Nothing was written."""


class FailureLimitError(MotiveError):
    """More clips of a step failed than is allowed; what was computed until then is kept."""


class ExportError(MotiveError):
    """An export cannot be written where it was asked for."""


#: code -> (one sentence for the user, the way out)
CLIP_CODES: Final[dict[str, tuple[str, str]]] = {
    "missing_file": ("The file does not exist.", "Restore it, or delete the sample."),
    "unreadable": ("The file cannot be read.", "Check its permissions and the disk."),
    "empty_file": ("The file has no bytes.", "Download or export it again."),
    "not_video": ("No decoder recognises the file.", "Convert it to MP4 (H.264), or delete the sample."),
    "no_video_stream": ("The file has no video stream.", "Delete the sample; it holds only sound or subtitles."),
    "no_timestamps": ("The video has no usable timestamps.", "Write it again with ffmpeg, which numbers its frames."),
    "decode_failed": ("The decoder failed inside the part that is needed.", "Download or encode the clip again."),
    "decode_timeout": (
        "Decoding did not finish in time and was stopped.",
        "Encode the clip again, or allow more time.",
    ),
    "decoder_died": (
        "The process that decoded the clip crashed or ran out of memory.",
        "Encode the clip again, or delete the sample.",
    ),
    "too_short": (
        "The video ends before the clip specification does.",
        "Choose fewer frames, a higher fps or an earlier start.",
    ),
    "flow_failed": (
        "The flow estimator failed on the frames.",
        "Report it with the clip; other clips are not affected.",
    ),
    "static": ("Nothing moves by more than the static floor.", "Lower the floor if slow motion matters to you."),
    "encode_failed": (
        "The model could not encode the frames or the caption.",
        "Look at the message; it is the model's own.",
    ),
    "zero_gradient": ("The gradient is exactly zero.", "Check that the model's weights are trained and finite."),
    "nonfinite_gradient": (
        "The loss or the gradient is not finite.",
        "Try float32; a repeated case points at the weights.",
    ),
    "worker_died": (
        "The process that computed the clip crashed or ran out of memory, twice.",
        "Give fewer --devices or --workers if memory was short; try the clip again with --retry-failed.",
    ),
    "out_of_memory": (
        "There was not enough memory for this clip, on the GPU or in the machine.",
        "Fewer frames or a smaller size, --checkpointing on, --offload on; then --retry-failed.",
    ),
    "constant_scores": (
        "All training clips have the same score for this query.",
        "Look at the query and the training clips: something made their gradients alike.",
    ),
    "duplicate_clip": ("The same video with the same caption is already in the run.", "Delete one of the two samples."),
    "repeated_sketch": (
        "Two different clips gave the same gradient sketch.",
        "The model does not see the difference between them: check the clip specification and the weights.",
    ),
    "internal_error": (
        "An unexpected error; the message is the original one.",
        "Report it with the clip; the run went on.",
    ),
}


_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "can't start new thread")


class ClipError(Exception):
    """One clip failed.

    Args:
        stage: the step that failed: ``probe``, ``decode``, ``flow``, ``motion``, ``encode``, ``gradient`` or ``store``.
        code: a key of ``CLIP_CODES``.
        message: what happened to this clip, in one sentence.
    """

    def __init__(self, stage: str, code: str, message: str) -> None:
        if code not in CLIP_CODES:
            raise KeyError(f"unknown clip error code {code!r}; add it to CLIP_CODES")
        super().__init__(f"{code} ({stage}): {message}")
        self.stage = stage
        self.code = code
        self.message = message


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, of the machine or of a GPU. torch has a class for the latter alone, and is not loaded
    here."""
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


def not_enough_memory(error: BaseException) -> MotiveError:
    """The sentence for a call that memory was too short for."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return MotiveError(
        f"not enough memory ({text}): end other programs or give this one more, then run the step again: what was "
        "written is kept"
    )
