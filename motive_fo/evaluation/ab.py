"""A page on which people judge blind: two videos side by side in random order, which moves better?

The page is one HTML file that asks nothing of any server. Videos are referenced relative to it, or embedded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import os
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

from motive_fo.errors import InputError
from motive_fo.evaluation.clips import ClipSet, EvaluatedClip, pair_up
from motive_fo.report.page import render

_MEBIBYTE = 1 << 20
_EMBEDDED_MIB = 200  # browsers open larger pages slowly or not at all


def write_ab_page(
    first: ClipSet,
    second: ClipSet,
    path: str | Path,
    *,
    embed: bool = False,
    pairs: int | None = None,
    seed: int = 0,
    question: str = "Which one moves better?",
) -> Path:
    """Write the page. The same sets and seed give the same page, and a page remembers the votes given on it.

    The source of the page says which video is of which set, as the browser has to know for the table of results: ask
    people not to look.

    Args:
        path: the HTML file.
        embed: put the videos into the file, so that it can be sent; else they must stay where they are.
        pairs: so many of the pairs, drawn at random; all where open.
        seed: of the order of pairs and of the sides.
        question: what people are asked.

    Returns:
        absolute path of the page.

    Raises:
        InputError: the sets do not pair up, a video is missing, or the page cannot be written.
    """
    target = Path(path).expanduser().absolute()
    found = pair_up(first, second)
    if found is None:
        raise InputError(
            f"the clips of {first.label} and {second.label} do not pair up: people compare clips of the same prompt "
            "and seed, or of the same file name (motive generate with the same prompts and seeds makes such clips)"
        )
    if pairs is not None and pairs < 1:
        raise InputError(f"a page needs at least 1 pair, not {pairs}")
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    chosen = list(found.pairs)
    rng.shuffle(chosen)
    ones = {clip.name: clip for clip in first.clips}
    others = {clip.name: clip for clip in second.clips}
    rows: list[dict[str, Any]] = []
    for one, other in chosen[:pairs]:
        sides = {"a": _place(ones[one], target, embed), "b": _place(others[other], target, embed)}
        left = rng.choice("ab")
        right = "b" if left == "a" else "a"
        rows.append(
            {"pair": one, "prompt": ones[one].prompt, "left": sides[left], "right": sides[right], "left_is": left}
        )
    size = sum(len(row[side]) for row in rows for side in ("left", "right")) / _MEBIBYTE
    if embed and size > _EMBEDDED_MIB:
        raise InputError(
            f"the videos would make a page of {size:,.0f} MiB, browsers take {_EMBEDDED_MIB}: take fewer pairs, or "
            "leave them where they are"
        )
    data = {"a": first.label, "b": second.label, "question": question, "pairs": rows}
    identity = hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    html = render("ab.html", title=question, page={"id": identity, **data})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(html.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}; choose another place") from None
    return target


def _place(clip: EvaluatedClip, page: Path, embed: bool) -> str:
    """What the page's video element is given."""
    if clip.start:
        raise InputError(f"{clip.name} begins {clip.start:g} s into its file: export it first with --media reencode")
    try:
        if not embed:
            clip.path.stat()
            return quote(Path(os.path.relpath(clip.path.absolute(), page.parent)).as_posix())
        kind = mimetypes.guess_type(clip.path.name)[0] or "video/mp4"
        return f"data:{kind};base64,{base64.b64encode(clip.path.read_bytes()).decode()}"
    except OSError as error:
        raise InputError(f"cannot read {clip.path}: {error.strerror}") from None
