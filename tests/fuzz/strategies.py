"""Plain data of every shape, and data that is right but for one place."""

from __future__ import annotations

import copy

from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
PLAIN = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


def _places(data, path=()):
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _places(value, (*path, key))


@st.composite
def spoiled(draw, sound):
    """Sound data with a value somewhere in it replaced by anything, taken out, or added."""
    data = copy.deepcopy(sound)
    path = draw(st.sampled_from(sorted((p for p in _places(data) if p), key=str)))
    at = data
    for key in path[:-1]:
        at = at[key]
    how = draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove":
        del at[path[-1]]
    elif how == "add" and isinstance(at[path[-1]], dict):
        at[path[-1]][draw(TEXT)] = draw(PLAIN)
    else:
        at[path[-1]] = draw(PLAIN)
    return data
