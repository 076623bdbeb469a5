"""A dry run: right about what is to do, close about disk, and without a trace."""

import hashlib
import json
import os
import sys
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.config import RunConfig
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.estimate import _on_devices
from motive_fo.dataset.run_record import data_folder, measured_folder
from motive_fo.errors import ConfigError, InputError, StoreMismatchError
from motive_fo.models.tiny.model import TinyModel


def _database():
    """Every document of FiftyOne's database, but for the times at which datasets were last looked at."""
    import fiftyone.core.odm as foo

    connection = foo.get_db_conn()
    state = {}
    for name in sorted(connection.list_collection_names()):
        documents = [
            {key: value for key, value in document.items() if key != "last_loaded_at"}
            for document in connection[name].find().sort("_id")
        ]
        state[name] = hashlib.sha256(repr(documents).encode()).hexdigest()
    return state


def _files(*folders):
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for folder in folders
        for path in sorted(Path(folder).rglob("*"))
    }


@pytest.fixture
def untouched(database, corpus, tmp_path):
    """Fails a test that leaves anything behind, in the database or in any folder of ours or the user's."""
    folders = (data_folder(), corpus.train_metadata.parents[1], tmp_path)

    def state():
        return _database(), _files(*folders)

    return state


def test_nothing_is_written_for_a_dataset(dataset, untouched):
    before = untouched()
    gradients = motive_fo.estimate(dataset)
    motion = motive_fo.estimate(dataset, step="motion")
    assert untouched() == before
    assert gradients.roles["train"].todo == 15
    assert gradients.roles["query"].todo == 2
    assert motion.roles["all"].todo == 17
    assert not Path(gradients.store).exists()


@pytest.mark.parametrize(
    "arguments", [("gradients", "{name}"), ("motion", "{name}"), ("run", "{config}")], ids=lambda a: a[0]
)
def test_nothing_is_written_by_the_commands(dataset, name, corpus, untouched, tmp_path, arguments):
    config = tmp_path / "run.yaml"
    new = f"new-{uuid.uuid4().hex[:8]}"
    sources = f"videos: {corpus.train_metadata.parent}\nqueries: {corpus.query_metadata.parent}\n"
    config.write_text(f"dataset: {new}\n{sources}export_to: out\n")
    before = untouched()
    args = [argument.format(name=name, config=config) for argument in arguments]
    result = CliRunner().invoke(main, [*args, "--dry-run", "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    assert untouched() == before
    assert not fiftyone().dataset_exists(new)
    data = json.loads(result.stdout)
    assert sum(role["todo"] for role in data["roles"].values()) == 17
    assert data["new"] == (17 if "run" in arguments else 0)
    assert len(data["measured"]) == 3
    assert 0 < data["seconds"][0] <= data["seconds"][1]
    text = CliRunner().invoke(main, [*args, "--dry-run", "--verbose"]).stdout
    assert "nothing is written" in text
    assert "17 to compute" in text or ("15 to compute" in text and "2 to compute" in text)
    assert "would fail: " in text
    assert "3 of the clips, computed just now" in text
    assert "timing of the measured clips: decode" in text


def test_what_it_says_is_what_the_step_then_does(dataset, corpus, tmp_path):
    """Counts, problems and disk, before, half way and after."""
    store = tmp_path / "run.zarr"
    first = motive_fo.estimate(dataset, store=store)
    reports = motive_fo.compute_gradients(dataset, store=store)
    for role, report in reports.items():
        assert first.roles[role].todo == report.computed
    assert first.problems == dict(reports["train"].codes), "every one of these 17 clips was looked at"
    taken = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert first.bytes == pytest.approx(taken, rel=0.1)
    again = motive_fo.estimate(dataset)
    failed = reports["train"].status["failed"]
    assert again.roles["train"].todo == 0
    assert again.roles["train"].done == 15 - failed
    assert again.roles["train"].failed == failed
    assert again.seconds == (0.0, 0.0)
    assert again.bytes == 0
    assert again.measured == []
    assert set(again.earlier) == {"train gradients", "query gradients"}
    assert motive_fo.estimate(dataset, retry_failed=True).roles["train"].todo == failed
    more = motive_fo.estimate(dataset, attribution={"noises": (0, 1)})
    assert more.roles["train"].todo > 0, "another noise is another gradient"
    motion = motive_fo.estimate(dataset, step="motion")
    assert motion.roles["all"].todo == 0, "the gradient step computed it already"


def test_memory_tokens_and_what_is_kept_for_other_runs(dataset, tmp_path):
    first = motive_fo.estimate(dataset)
    assert first.frames == (17, 64, 64)
    assert first.tokens == 5 * 4 * 4  # latent frames, and 8x8 cells in pairs
    weights = 4 * sum(parameter.numel() for parameter in TinyModel.random().network.parameters())
    assert first.memory["weights"] == weights
    if sys.platform.startswith("linux"):
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert weights < first.memory["peak"] < 2 * resident + 1e9
    assert first.memory_on == "process"
    assert set(first.known) == {"motion"}
    before = _size(measured_folder())
    reports = motive_fo.compute_gradients(dataset, store=tmp_path / "run.zarr")
    if before == 0:
        assert first.kept_bytes["measured motion"] == pytest.approx(_size(measured_folder()), rel=0.2)
    sound = 17 - reports["train"].status["failed"]
    second = motive_fo.estimate(dataset, "second")
    assert second.known == {"motion": sound}
    assert second.kept_bytes["measured motion"] == 0
    unshared = motive_fo.estimate(dataset, "third", motion={"reuse": False})
    assert unshared.known == {"motion": 0}
    assert unshared.kept_bytes == {}
    text = CliRunner().invoke(main, ["gradients", dataset.name, "--run", "second", "--dry-run"]).stdout
    assert "clip: 17 frames of 64x64, 80 tokens" in text
    assert "MB of weights" in text
    assert f"known already: motion of {sound} of 17 clips looked at" in text


def _size(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def test_several_devices_divide_the_gradients_share_alone():
    phases = {"gradient": 3.0, "encode": 1.0}
    assert _on_devices(8.0, 2, phases) == pytest.approx(2 + 3)
    assert _on_devices(8.0, 2, {}) == 4.0, "stopped before the step could say"


def test_before_the_import_clips_are_counted_from_the_folders(dataset, name, corpus):
    sources = {"videos": str(corpus.train_metadata.parent), "queries": str(corpus.query_metadata.parent)}
    there = motive_fo.estimate(RunConfig(dataset=name, **sources))
    fresh = motive_fo.estimate(RunConfig(dataset=f"new-{uuid.uuid4().hex[:8]}", **sources))
    assert there.new == 0
    assert fresh.new == 17
    assert there.roles == fresh.roles
    with pytest.raises(InputError, match="does not exist yet"):
        motive_fo.estimate(RunConfig(dataset=fresh.dataset, videos=sources["videos"]))
    with pytest.raises(InputError, match="does not exist yet"):
        motive_fo.estimate(RunConfig(dataset=fresh.dataset, train="my-view", **sources))


def test_a_missing_file_is_counted(dataset):
    dataset.add_sample(fiftyone().Sample(filepath="/nowhere/gone.mp4", tags=["train"]))
    found = motive_fo.estimate(dataset, step="motion")
    assert found.roles["all"].missing == 1
    assert found.problems["missing_file"] == 1


def test_a_clip_that_ends_too_early_is_foreseen(dataset):
    found = motive_fo.estimate(dataset, step="motion", clip={"start": 5.0})
    assert found.problems["too_short"] > 10
    assert found.measured == []
    assert found.seconds is None


def test_what_the_step_refuses_the_dry_run_refuses(dataset):
    with pytest.raises(ConfigError, match="takes 4n"):
        motive_fo.estimate(dataset, clip={"frames": 16})
    motive_fo.compute_motion(dataset.match_tags("query"), "begun")
    with pytest.raises(StoreMismatchError, match="static_floor"):
        motive_fo.estimate(dataset, "begun", motion={"static_floor": 0.3})
