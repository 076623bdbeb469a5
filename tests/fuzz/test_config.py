"""Whatever a configuration holds, it is a run's settings or one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict

import yaml
from hypothesis import given
from hypothesis import strategies as st

from motive_fo.config import RunConfig, load, parse
from motive_fo.errors import ConfigError
from tests.fuzz.strategies import PLAIN, spoiled

SOUND = json.loads(json.dumps(asdict(parse({"dataset": "clips", "videos": "folder"}))))


def _settles(read):
    try:
        assert isinstance(read(), RunConfig)
    except ConfigError as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert "\n" not in said


@given(PLAIN)
def test_any_data(data):
    _settles(lambda: parse(data))


@given(spoiled(SOUND))
def test_sound_settings_with_one_wrong_place(data):
    _settles(lambda: parse(data))


@given(st.text(max_size=200) | spoiled(SOUND).map(yaml.safe_dump))
def test_any_file(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "run.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    _settles(lambda: load(path))
