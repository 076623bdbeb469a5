"""Latent and condition of a clip, from the model's encoders or from what they made before.

A small model is asked whenever a clip comes (``Choice:`` the embedded one takes 8 ms for a clip, keeping its encoding
19 ms and reading it back 5). One whose encoders must not stay beside its network (``StagedModel``) is
asked for everything first, its encoders leave, and the gradients are taken from what was kept: on disk, by content, so
that other runs and later timesteps find it too (``motive_fo.store.encodings``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from motive_fo.clips.clip import Clip
from motive_fo.errors import ClipError, MotiveError, is_out_of_memory
from motive_fo.models.base import StagedModel, VideoModel
from motive_fo.pipeline.motion import MotionSettings
from motive_fo.pipeline.record import ClipRecord, Version
from motive_fo.store.encodings import EncodingStore, Entry


class Encoded(NamedTuple):
    """What a gradient starts from.

    Attributes:
        x0: clean latent, on the model's device.
        condition: of the caption, for the model's ``predict``.
        decoder: what decoded the clip.
    """

    x0: torch.Tensor
    condition: Any
    decoder: str


class Encodings(Protocol):
    """Where the gradient step has latents and conditions from."""

    @property
    def staged(self) -> bool:
        """Whether all clips are to be encoded before the first gradient."""
        ...

    def encode(self, record: ClipRecord, version: Version, clip: Clip) -> Encoded:
        """Encode decoded frames and the caption. Raises ``ClipError`` (``encode_failed``)."""
        ...

    def keep(self, record: ClipRecord, version: Version, encoded: Encoded) -> None:
        """Take what another process made of the clip and its caption; a no-op where nothing is kept."""
        ...

    def has(self, record: ClipRecord, version: Version) -> bool:
        """Whether ``find`` would find something."""
        ...

    def find(self, record: ClipRecord, version: Version) -> Encoded | None:
        """What was made of this version of the clip and its caption before, None where nothing is kept."""
        ...

    def come(self) -> None:
        """Clips are about to be encoded: make room for the encoders."""
        ...

    def leave(self) -> None:
        """No more clips are expected to be encoded: the encoders may leave memory."""
        ...


def encode_directly(model: VideoModel, frames_THW3: npt.NDArray[np.uint8], caption: str) -> tuple[torch.Tensor, Any]:
    """Latent and condition of decoded frames and a caption. Raises ``ClipError`` (``encode_failed``)."""
    with _failures():
        return model.encode_frames(frames_THW3), model.encode_caption(caption)


class DirectEncodings:
    """Encodes whenever it is asked, keeps nothing."""

    staged = False

    def __init__(self, model: VideoModel) -> None:
        self._model = model

    def encode(self, record: ClipRecord, version: Version, clip: Clip) -> Encoded:
        return Encoded(*encode_directly(self._model, clip.frames_THW3, record.caption), clip.decoder)

    def keep(self, record: ClipRecord, version: Version, encoded: Encoded) -> None:
        return

    def has(self, record: ClipRecord, version: Version) -> bool:
        return False

    def find(self, record: ClipRecord, version: Version) -> Encoded | None:
        return None

    def come(self) -> None:
        return

    def leave(self) -> None:
        return


class KeptEncodings:
    """Keeps what the encoders make, and asks them only for what is not kept."""

    staged = True

    def __init__(self, model: VideoModel, staged: StagedModel, motion: MotionSettings, store: EncodingStore) -> None:
        self._model = model
        self._staged = staged
        self._motion = motion
        self._store = store
        self._encoders = staged.encoder_identity()

    def encode(self, record: ClipRecord, version: Version, clip: Clip) -> Encoded:
        latent, condition = self._latent(record, version), self._condition(record)
        with _failures():
            if latent is None:
                latent = {"x0": self._model.encode_frames(clip.frames_THW3)}, clip.decoder
                self._keep_latent(record, version, *latent)
            if condition is None:
                condition = self._model.encode_caption(record.caption)
                self._store.write("captions", self._caption(record), *_plain(condition))
        return Encoded(latent[0]["x0"], condition, latent[1])

    def keep(self, record: ClipRecord, version: Version, encoded: Encoded) -> None:
        if not self._store.has("latents", self._video(record, version)):
            self._keep_latent(record, version, {"x0": encoded.x0}, encoded.decoder)
        if not self._store.has("captions", self._caption(record)):
            self._store.write("captions", self._caption(record), *_plain(encoded.condition))

    def has(self, record: ClipRecord, version: Version) -> bool:
        return (
            bool(version.content)
            and self._store.has("latents", self._video(record, version))
            and self._store.has("captions", self._caption(record))
        )

    def find(self, record: ClipRecord, version: Version) -> Encoded | None:
        if not version.content:
            return None
        latent, condition = self._latent(record, version), self._condition(record)
        return None if latent is None or condition is None else Encoded(latent[0]["x0"], condition, latent[1])

    def come(self) -> None:
        self._staged.make_room()

    def leave(self) -> None:
        self._staged.leave_encoders()

    def _keep_latent(self, record: ClipRecord, version: Version, x0: dict[str, torch.Tensor], decoder: str) -> None:
        self._store.write("latents", self._video(record, version), *_plain(x0, decoder=decoder))

    def _latent(self, record: ClipRecord, version: Version) -> tuple[dict[str, torch.Tensor], str] | None:
        entry = self._store.read("latents", self._video(record, version))
        return None if entry is None else (_tensors(entry, self._model.device), str(entry.facts["decoder"]))

    def _condition(self, record: ClipRecord) -> dict[str, torch.Tensor] | None:
        entry = self._store.read("captions", self._caption(record))
        return None if entry is None else _tensors(entry, self._model.device)

    def _video(self, record: ClipRecord, version: Version) -> str:
        """Digest of all a latent depends on."""
        request = self._motion.request(record)
        return _digest(
            {
                "encoder": self._encoders["video"],
                "content": version.content.partition("+")[0],
                "clip": request.spec.identity(),
                "decoder": request.decoder,
                "short": request.short,
                "frame_rule": str(request.rule),
            }
        )

    def _caption(self, record: ClipRecord) -> str:
        """Digest of all a condition depends on."""
        return _digest({"encoder": self._encoders["caption"], "caption": record.caption})


@contextmanager
def encodings(model: VideoModel, motion: MotionSettings, folder: Path | None, scratch: Path) -> Iterator[Encodings]:
    """Where a model's encodings come from.

    Args:
        folder: of encodings that are kept for other runs; None to throw them away afterwards.
        scratch: where they are meanwhile if ``folder`` is None; removed before and afterwards.
    """
    if not isinstance(model, StagedModel):
        yield DirectEncodings(model)
        return
    if folder is None:
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        yield KeptEncodings(model, model, motion, EncodingStore(scratch if folder is None else folder))
    finally:
        if folder is None:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever an encoder raises is the clip's, unless it is wrong use."""
    try:
        with torch.no_grad():
            yield
    except MotiveError:
        raise
    except Exception as error:
        code = "out_of_memory" if is_out_of_memory(error) else "encode_failed"
        raise ClipError("encode", code, f"{type(error).__name__}: {error}") from error


def _plain(tensors: Mapping[str, torch.Tensor], **facts: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors as arrays, and what is needed to make them tensors again."""
    arrays, kinds = {}, {}
    for name, tensor in tensors.items():
        kinds[name] = str(tensor.dtype).removeprefix("torch.")
        plain = tensor.detach().cpu().contiguous()
        arrays[name] = (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()
    return arrays, {**facts, "dtypes": kinds}


def _tensors(entry: Entry, device: torch.device) -> dict[str, torch.Tensor]:
    made = {}
    for name, values in entry.arrays.items():
        tensor = torch.from_numpy(values)
        if entry.facts["dtypes"][name] == "bfloat16":
            tensor = tensor.view(torch.bfloat16)
        made[name] = tensor.to(device)
    return made


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:40]
