"""Captions as a trainer's format takes them: what it would break or misread is changed, and every change is named."""

from __future__ import annotations

import re
from typing import Final

#: everything ``str.splitlines`` ends a line at.
_SEPARATORS: Final = re.compile("[ \\t]*[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]+[ \\t]*")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def clean(caption: str, *, one_line: bool = False) -> tuple[str, str]:
    """A caption that survives, and what was changed (empty if nothing).

    For every format null characters are taken out (text in C ends there) and halves of surrogate pairs become U+FFFD
    (no encoding has them); a caption of nothing but white space is empty.

    Args:
        one_line: line separators become single spaces, for formats whose readers split at them.
    """
    changes = []
    text = caption.replace("\0", "")
    if text != caption:
        changes.append("null characters removed")
    whole = _SURROGATES.sub("\ufffd", text)
    if whole != text:
        changes.append("halves of surrogate pairs replaced")
    if not whole.strip():
        return "", "; ".join(changes)
    if one_line:
        line = _SEPARATORS.sub(" ", whole).strip()
        if _SEPARATORS.search(whole):
            changes.append("line separators made spaces")
        whole = line
    return whole, "; ".join(changes)
