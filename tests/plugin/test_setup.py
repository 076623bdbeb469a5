"""The plugin gets into FiftyOne both ways, and says what is missing or does not fit where it cannot work."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

import motive_fo
from motive_fo.dataset.plugin import install_plugin

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "@motive-fo/motive"
PARTS = ("fiftyone.yml", "requirements.txt", "pyproject.toml", "plugin", "motive_fo", "cli", "docs", "README.md")

REPORT = """
import json, sys
{before}
import fiftyone as fo, fiftyone.operators as foo
from fiftyone.operators.executor import ExecutionContext
from fiftyone.operators.registry import OperatorRegistry
registry = OperatorRegistry()
forms = {{}}
for operator in registry.list_operators(builtin=False):
    if operator.plugin_name != "@motive-fo/motive" or not hasattr(operator, "fill") and {ours}:
        continue
    ctx = ExecutionContext(request_params={{"dataset_name": sys.argv[1], "params": {{}}}})
    properties = operator.resolve_input(ctx).to_json()["type"]["properties"]
    views = [shown["view"] for shown in properties.values()]
    forms[operator.name] = [view["label"] for view in views if view["name"] in ("Warning", "Error")]
print(json.dumps({{"errors": registry.list_errors(), "forms": forms}}))
"""


@pytest.fixture(scope="module")
def dataset(database):
    import fiftyone as fo

    made = fo.Dataset("setup-clips", persistent=True)
    made.media_type = "video"
    yield made
    made.delete()


def _forms(dataset, plugins, before="", *, ours=True):
    """What FiftyOne shows in a process of its own that reads another plugins folder."""
    code = REPORT.format(before=before, ours=ours)
    env = {**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins)}
    ran = subprocess.run(
        [sys.executable, "-c", code, dataset.name], capture_output=True, text=True, timeout=120, env=env, cwd=plugins
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The repository as GitHub packs it: one folder named after repository and branch. Served on this machine."""
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(folder / "main.zip", "w") as packed:
        for name in PARTS:
            source = ROOT / name
            for path in [source] if source.is_file() else sorted(source.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    packed.write(path, f"motive-fo-main/{path.relative_to(ROOT).as_posix()}")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/main.zip"
    server.shutdown()
    server.server_close()


def _listed():
    manifest = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    return {*manifest["operators"], *manifest.get("panels", ())}


def test_fiftyones_own_download_installs_it(dataset, archive, tmp_path):
    code = "import sys, fiftyone.plugins as fop; print(fop.download_plugin(sys.argv[1], overwrite=True))"
    env = {**os.environ, "FIFTYONE_PLUGINS_DIR": str(tmp_path), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    ran = subprocess.run([sys.executable, "-c", code, archive], capture_output=True, text=True, timeout=120, env=env)
    assert ran.returncode == 0, ran.stderr
    assert PLUGIN in ran.stdout
    shown = _forms(dataset, tmp_path)
    assert shown["errors"] == []
    assert set(shown["forms"]) <= _listed()
    assert {"compute_motion", "curate", "show_jobs"} <= set(shown["forms"])
    (manifest,) = tmp_path.rglob("fiftyone.yml")
    assert list((manifest.parent / "plugin" / "assets").glob("*.svg")), "icons are where the App asks for them"


def test_our_own_command_installs_it(dataset, tmp_path):
    install_plugin(tmp_path)
    shown = _forms(dataset, tmp_path)
    assert shown["errors"] == []
    assert set(shown["forms"]) <= _listed()
    assert not any("version" in line for lines in shown["forms"].values() for line in lines)


def test_a_missing_package_is_one_sentence_in_every_form(dataset, tmp_path):
    install_plugin(tmp_path)
    hide = "sys.modules['motive_fo_plugin'] = None; sys.modules['motive_fo'] = None"
    shown = _forms(dataset, tmp_path, hide, ours=False)
    assert shown["errors"] == [], "FiftyOne must not see an ImportError"
    assert set(shown["forms"]) == _listed()
    for name, lines in shown["forms"].items():
        assert len(lines) == 1, name
        assert "pip install motive-fo" in lines[0]


def test_a_missing_dependency_of_ours_is_named(dataset, tmp_path):
    install_plugin(tmp_path)
    shown = _forms(dataset, tmp_path, "sys.modules['zarr'] = None", ours=False)
    assert shown["errors"] == []
    assert all("zarr" in lines[0] for lines in shown["forms"].values())


def test_another_version_in_the_folder_is_warned_of_once_in_every_form(dataset, tmp_path):
    manifest = install_plugin(tmp_path) / "fiftyone.yml"
    manifest.write_text(manifest.read_text().replace(f"version: {motive_fo.__version__}", "version: 0.0.1", 1))
    shown = _forms(dataset, tmp_path)
    assert shown["forms"]
    for name, lines in shown["forms"].items():
        about = [line for line in lines if "0.0.1" in line]
        assert len(about) == 1, (name, lines)
        assert "motive plugin install" in about[0]
        assert motive_fo.__version__ in about[0]
