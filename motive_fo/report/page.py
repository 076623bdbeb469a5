"""One HTML file out of a template: everything in it, nothing fetched, whatever it shows escaped."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

#: what no document may hold: control characters but tab and line feed, and halves of surrogate pairs.
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render(template: str, **values: Any) -> str:
    """A page from ``templates/``. Every value is escaped; one the template wants and does not get is an error."""
    return _environment().get_template(template).render(values)


def legible(text: str) -> str:
    """The text with a replacement character for everything that HTML and SVG cannot hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("motive_fo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["svg"] = lambda plot: _data_url("image/svg+xml", plot)
    environment.filters["jpeg"] = lambda picture: _data_url("image/jpeg", picture)
    return environment


def _finalized(value: Any) -> Any:
    """What is shown of a value; markup of our own templates is left as it is."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else legible(value)


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
