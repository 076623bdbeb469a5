"""Sketches in half the bytes: float16 with an exponent for each, whatever their scale.

A gradient's length is any number, float16 ends at 65504. So each vector is multiplied by the power of two that brings
its largest number to between 2^14 and 2^15, and the exponent that undoes it is kept beside it. Numbers down to 2^-28 of
the vector's largest then keep 11 significant bits; nothing overflows, and a vector's length is kept too, which the
combinations ``concat`` and ``mean-sketch`` weigh by.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_TOP: Final = 15


def pack(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int16]]:
    """Vectors (..., D) as float16 (..., D) and an exponent each, int16 (...). NaN and infinity stay what they are."""
    largest = np.max(np.abs(values), axis=-1, where=np.isfinite(values), initial=0)
    exponent = np.where(largest == 0, 0, np.frexp(largest)[1].astype(np.int32) - _TOP)
    return np.ldexp(values.astype(np.float64), -exponent[..., None]).astype(np.float16), exponent.astype(np.int16)


def unpack(half: npt.NDArray[np.float16], exponent: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Vectors (..., D) as float32, of ``pack``'s numbers."""
    values = half.astype(np.float32)
    values *= np.ldexp(np.float32(1), exponent.astype(np.int32))[..., None]
    return values
