"""The frame of a page, its histograms and its pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem} table{border-collapse:collapse}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top} .note{color:#666}
.clip{margin:1rem 0;border-top:1px solid #ddd;padding-top:.7rem} .clip img{display:block;max-width:100%;margin:.15rem 0}
.plots{display:flex;flex-wrap:wrap;gap:1.5rem} svg text{font:11px system-ui,sans-serif;fill:#444}
"""


def page(title: str, body: str) -> str:
    """A whole HTML document. ``body`` is HTML; ``title`` is text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(rows: Sequence[tuple[str, object]]) -> str:
    """Two columns: what, and how much."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def histogram(title: str, unit: str, values: Sequence[float], bins: int = 30) -> str:
    """A histogram as SVG: title, axis with unit, counts; says so where there is nothing to show."""
    finite = np.asarray([v for v in values if np.isfinite(v)], float)
    if not len(finite):
        return f"<figure><figcaption>{escape(title)}: no values</figcaption></figure>"
    low, high = float(finite.min()), float(finite.max())
    counts, _ = np.histogram(finite, bins=bins, range=(low, high if high > low else low + 1))
    width, height, bar = 330, 130, 330 / bins
    bars = "".join(
        f'<rect x="{i * bar:.1f}" y="{height - c / counts.max() * height:.1f}" width="{bar - 1:.1f}" '
        f'height="{c / counts.max() * height:.1f}" fill="#4063a3"/>'
        for i, c in enumerate(counts)
    )
    return (
        f'<svg role="img" width="{width}" height="{height + 40}" viewBox="0 -18 {width} {height + 40}">'
        f'<text x="0" y="-6">{escape(title)} ({len(finite)} clips, most in a bar: {counts.max()})</text>{bars}'
        f'<text x="0" y="{height + 14}">{low:.3g}</text>'
        f'<text x="{width}" y="{height + 14}" text-anchor="end">{high:.3g} {escape(unit)}</text></svg>'
    )


def picture(jpeg: bytes, what: str) -> str:
    """A JPEG inside the page; ``what`` is its text for those who do not see it."""
    return f'<img alt="{escape(what)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
