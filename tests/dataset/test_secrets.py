"""What the environment holds in secret is in no store, file, log, report or record of a run afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest
from pymongo import MongoClient

MARK = "s3cret-marker"
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "FIFTYONE_API_KEY", "WANDB_API_KEY")

WORK = """
import sys, time
import motive_fo
from pathlib import Path
from motive_fo.dataset.jobs import read_job, start_job

name, corpus, place = sys.argv[1:]
place = Path(place)
motive_fo.import_clips(f"{corpus}/train", name)
motive_fo.import_clips(f"{corpus}/queries", name, role="query")
motive_fo.compute_gradients(name)
motive_fo.score_influence(name)
motive_fo.curate(name, selection={"budget": 0.25})
motive_fo.export(name, place / "export", config={"media": "symlink"})
motive_fo.write_report(name, place / "report.html")
job = start_job("compute_motion", name, run="second")
while read_job(job.id).is_live:
    time.sleep(0.2)
assert read_job(job.id).state == "done", read_job(job.id)
"""


@pytest.fixture
def guarded(database):
    """The URI of the test database with a user and a password."""
    plain = os.environ["FIFTYONE_DATABASE_URI"]
    user = f"user{uuid.uuid4().hex[:8]}"
    client = MongoClient(plain)
    client.admin.command("createUser", user, pwd=MARK, roles=["root"])
    yield plain.replace("mongodb://", f"mongodb://{user}:{MARK}@")
    client.admin.command("dropUser", user)
    client.close()


def _run(code, *arguments, **environment):
    tokens = dict.fromkeys(TOKENS, MARK)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **tokens, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_no_secret_is_left_anywhere(guarded, corpus, name, tmp_path):
    data = tmp_path / "data"
    done = _run(
        WORK, name, corpus.train_metadata.parent.parent, tmp_path,
        FIFTYONE_DATABASE_URI=guarded, MOTIVE_DATA=str(data),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert MARK not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {".html", ".log"} <= {path.suffix for path in files}
    assert any("zarr.json" in path.name for path in files)
    assert [str(path) for path in files if MARK.encode() in path.read_bytes()] == []
    client = MongoClient(os.environ["FIFTYONE_DATABASE_URI"])
    database = client[os.environ["FIFTYONE_DATABASE_NAME"]]
    (dataset,) = database.datasets.find({"name": name})
    assert "motive" in json.dumps(dataset, default=str)
    held = [c for c in database.list_collection_names() if MARK in json.dumps(list(database[c].find()), default=str)]
    assert held == []
    client.close()


@pytest.mark.parametrize(
    "uri",
    [f"mongodb://us:er:{MARK}@127.0.0.1:1", ""],
    ids=["not a URI", "wrong password"],
)
def test_a_database_that_refuses_does_not_print_its_password(database, uri):
    wrong = uri or os.environ["FIFTYONE_DATABASE_URI"].replace("mongodb://", f"mongodb://nobody:{MARK}@")
    said = _run("from motive_fo_cli.main import main; main(['runs', 'list', 'x'])", FIFTYONE_DATABASE_URI=wrong)
    assert said.returncode == 2, said.stdout + said.stderr
    assert "FIFTYONE_DATABASE_URI" in said.stderr
    assert MARK not in said.stdout + said.stderr
