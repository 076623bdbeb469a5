"""The command line: light help, one-line refusals, JSON, and the same functions underneath."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main
from motive_fo_cli.options import changes

import motive_fo
from motive_fo.config import AttributionConfig, SelectionConfig, plain
from motive_fo.synthetic.corpus import write_corpus

ROOT = Path(__file__).resolve().parents[2]


def _invoke(*args, code=0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def _json(*args):
    return json.loads(_invoke(*args, "--json", "--quiet").stdout)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-clips")
    return write_corpus(folder, train=5, queries=2, static=1, damaged=1, seed=3, size=(64, 64), seconds=1.25, fps=16)


def test_help_is_light():
    """``motive --help`` and ``import motive_fo`` load neither torch nor FiftyOne."""
    code = (
        "import sys, motive_fo\nfrom motive_fo_cli.main import main\n"
        "main(['{}'], standalone_mode=False) if '{}' else None\n"
        "heavy = [m for m in ('torch', 'fiftyone', 'cv2', 'av', 'zarr', 'numpy', 'decord') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    for argument in ("", "--help"):
        subprocess.run([sys.executable, "-c", code.format(argument, argument)], check=True, stdout=subprocess.DEVNULL)


def test_the_package_offers_what_it_names():
    for name in motive_fo.__all__:
        assert getattr(motive_fo, name) is not None
    assert set(motive_fo.__all__) <= set(dir(motive_fo))
    with pytest.raises(AttributeError):
        motive_fo.nothing  # noqa: B018


def test_every_command_and_group_explains_itself():
    listing = _invoke("--help").output
    for name in (
        "import",
        "motion",
        "gradients",
        "influence",
        "curate",
        "export",
        "run",
        "runs",
        "app",
        "doctor",
        "plugin",
        "demo",
    ):
        assert re.search(rf"^  {name} ", listing, re.MULTILINE)
        assert len(_invoke(name, "--help").output.splitlines()) > 5


def test_options_come_from_the_settings():
    text = _invoke("gradients", "--help").output
    for name in plain(AttributionConfig()):
        assert f"--{name.replace('_', '-')}" in text
    assert changes(SelectionConfig, {"budget": 0.2, "by": None, "run": "x"}) == {"budget": 0.2}


def test_the_whole_way_by_hand(database, corpus, tmp_path):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert _json("import", corpus.train_metadata.parent, name)["added"] == 7
    assert _json("import", corpus.query_metadata, name, "--role", "query")["added"] == 2
    motion = _json("motion", name)
    assert motion["status"] == {"done": 7, "static": 1, "failed": 1}
    gradients = _json("gradients", name, "--dimension", "256", "--noises", "0,1")
    assert gradients["train"]["clips"] == 7
    assert _json("influence", name, "--mask-side", "query")["clips"] == 7
    curated = _json("curate", name, "--budget", "0.5")
    assert len(curated["selected"]) == 3
    exported = _json("export", name, tmp_path / "out")
    assert exported["written"] == 3
    by_view = _json("export", name, tmp_path / "harmful", "--view", "motive: harmful", "--media", "copy")
    assert by_view["written"] == 3
    (run,) = json.loads(_invoke("runs", "list", name, "--json").stdout)
    assert run["settings"]["attribution"]["noises"] == [0, 1]
    assert run["settings"]["attribution"]["dimension"] == 256
    assert "store:" in _invoke("runs", "show", name).output
    assert "deleted run" in _invoke("runs", "delete", name, "--yes").output
    assert json.loads(_invoke("runs", "list", name, "--json").stdout) == []


def test_text_output_is_short_and_says_what_failed(database, corpus):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    _invoke("import", corpus.train_metadata.parent, name)
    output = _invoke("motion", name, "--quiet").output
    assert "motion: 7 clips (5 done, 1 failed, 1 static), 7 computed now" in output
    assert "failed: " in output
    assert "all computed before" in _invoke("motion", name, "--quiet").output


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("motion", "no-such-dataset"), "there is no dataset 'no-such-dataset'"),
        (("import", "no-such-folder", "x"), "no-such-folder does not exist"),
        (("run", "no-such.yaml"), "cannot read the configuration no-such.yaml"),
        (("runs", "list", "no-such-dataset"), "there is no dataset"),
        (("gradients", "x", "--noises", "a,b"), "is not a list of numbers"),
        (("influence", "x", "--mask-side", "left"), "is not one of"),
        (("nothing",), "No such command 'nothing'"),
    ],
)
def test_wrong_input_is_one_clean_line_and_exit_code_2(database, args, problem):
    result = _invoke(*args, code=2)
    assert problem in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1


def test_a_database_out_of_reach_is_one_clean_line(tmp_path):
    import os

    env = {**os.environ, "FIFTYONE_DATABASE_URI": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"}
    motive = Path(sys.executable).with_name("motive")
    result = subprocess.run([motive, "motion", "x"], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "FIFTYONE_DATABASE_URI cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_finds_this_machine_ready_and_a_broken_store_not(database, corpus, tmp_path):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    _invoke("import", corpus.train_metadata.parent, name)
    _invoke("motion", name, "--quiet", "--store", tmp_path / "s.zarr")
    findings = _json_doctor(_invoke("doctor", "--dataset", name, "--json"))
    assert not [f for f in findings if f["level"] == "fail"]
    subjects = {f["subject"] for f in findings}
    assert {"python", "torch", "decoder", "database", "model", "flow", "plugin", "run motive"} <= subjects
    (chunk,) = [p for p in (tmp_path / "s.zarr" / "motion" / "mask" / "c").rglob("*") if p.is_file()]
    data = bytearray(chunk.read_bytes())
    data[7] ^= 1
    chunk.write_bytes(data)
    findings = _json_doctor(_invoke("doctor", "--dataset", name, "--json", code=1))
    assert [f["subject"] for f in findings if f["level"] == "fail"] == ["run motive"]


def _json_doctor(result):
    return json.loads(result.stdout)


def test_plugin_install_and_demo_refuse_what_is_not_theirs(database, corpus, tmp_path):
    assert "fiftyone.yml" in [p.name for p in Path(_json_place(tmp_path)).iterdir()]
    name = f"cli-{uuid.uuid4().hex[:8]}"
    _invoke("import", corpus.train_metadata.parent, name)
    clips = corpus.train_metadata.parent
    result = _invoke(
        "demo", "--folder", tmp_path / "d", "--videos", clips, "--queries", clips, "--dataset", name, code=2
    )
    assert "was not made by the demo" in result.stderr


def _json_place(tmp_path):
    return json.loads(_invoke("plugin", "install", "--folder", tmp_path, "--json").stdout)["plugin"]


def test_motion_page_and_pictures(database, corpus, tmp_path):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    _invoke("import", corpus.train_metadata.parent, name)
    page = tmp_path / "pages" / "motion.html"
    result = _invoke("motion", "page", name, page, code=2)
    assert "has no run 'motive'" in result.stderr
    _invoke("motion", name, "--quiet")
    from motive_fo.dataset.connect import load_dataset

    dataset = load_dataset(name)
    sample = dataset[str(corpus.train[0])]
    sample.caption = "<script>alert(1)</script>"
    sample.save()
    _invoke("motion", "page", name, page, "--quiet")
    html = page.read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    for heading in ("Most dynamic", "Least motion", "Static", "Distributions"):
        assert heading in html
    assert html.count("data:image/jpeg;base64,") == 3 * (5 + 5 + 1)
    assert html.count("image/svg+xml") == 3
    assert "http" not in html.replace("http-equiv", "")
    clip = f"train/{corpus.train[1].name}"
    files = json.loads(_invoke("motion", "show", name, clip, tmp_path / "p", "--json").stdout)["files"]
    assert sorted(Path(f).name for f in files) == sorted(
        f"{what}.{kind}" for what in ("frames", "flow", "magnitude", "mask") for kind in ("png", "mp4")
    )
    from motive_fo.clips.probe import probe

    for file in files:
        if file.endswith(".mp4"):
            assert probe(file).facts.frames == 17
    assert "names no clips" in _invoke("motion", "show", name, "nothing", tmp_path / "p", code=2).stderr
    damaged = next(iter(corpus.damaged))
    assert _invoke("motion", "show", name, damaged, tmp_path / "p", code=2).stderr.startswith("Error: train/")


def test_an_empty_list_is_a_setting_too():
    from motive_fo_cli.options import listed

    assert listed(str)(None, None, "") == ()
    assert listed(str)(None, None, "a,b") == ("a", "b")
    assert listed(float)(None, None, None) is None
