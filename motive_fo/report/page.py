"""One HTML file out of a template: everything in it, nothing fetched, whatever it shows escaped."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """A page from ``templates/``. Every value is escaped; one the template wants and does not get is an error."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("motive_fo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda plot: _data_url("image/svg+xml", plot)
    environment.filters["jpeg"] = lambda picture: _data_url("image/jpeg", picture)
    return environment


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
