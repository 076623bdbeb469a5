"""Caption encoder of the embedded model: hashed words, no vocabulary file.

Captions are lower-cased and split at anything that is no letter, digit or underscore; each word falls into one of 2048
buckets by its CRC-32, which is the same in every process and on every machine. At most 31 words are read, the rest is
ignored; one start token always comes first, so an empty caption is a caption too.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import nn

BUCKETS: Final = 2048
#: tokens per caption: the start token and up to 31 words.
LENGTH: Final = 32
#: bucket 0 is padding, 1 the start token.
_PAD: Final = 0
_START: Final = 1
_WORD: Final = re.compile(r"\w+")


class Caption(NamedTuple):
    """Encoded captions.

    Attributes:
        tokens_BLD: float32 features.
        used_BL: bool, False where a caption has ended.
    """

    tokens_BLD: torch.Tensor
    used_BL: torch.Tensor


def buckets(caption: str) -> list[int]:
    """Token numbers of one caption, start token first, ``LENGTH`` at most."""
    text = unicodedata.normalize("NFKC", caption).lower()
    # surrogatepass: a caption read from a damaged file may hold half a character.
    words = [match.group().encode("utf-8", "surrogatepass") for match in _WORD.finditer(text)][: LENGTH - 1]
    return [_START, *(2 + zlib.crc32(word) % (BUCKETS - 2) for word in words)]


def tokenize(captions: Sequence[str]) -> torch.Tensor:
    """Token numbers (B, L), padded with 0 up to the longest caption of the batch."""
    rows = [buckets(caption) for caption in captions]
    length = max(len(row) for row in rows)
    return torch.tensor([row + [_PAD] * (length - len(row)) for row in rows], dtype=torch.long)


class TextEncoder(nn.Module):
    """Word and position embeddings, and a small network on each word with its two neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(BUCKETS, width)
        self.positions = nn.Parameter(torch.zeros(LENGTH, width))
        nn.init.normal_(self.words.weight, std=0.5)
        self.mixed = nn.Sequential(nn.Linear(3 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, token_BL: torch.Tensor) -> Caption:
        """Encode token numbers as ``tokenize`` gives them."""
        used_BL = token_BL != _PAD
        # Padding is zeroed so that a caption reads the same alone and in a batch of longer ones.
        words = self.words(token_BL) * used_BL[..., None]
        before = nn.functional.pad(words[:, :-1], (0, 0, 1, 0))
        after = nn.functional.pad(words[:, 1:], (0, 0, 0, 1))
        hidden = words + self.mixed(torch.cat([before, words, after], dim=-1)) + self.positions[: token_BL.shape[1]]
        return Caption(self.norm(hidden), used_BL)
