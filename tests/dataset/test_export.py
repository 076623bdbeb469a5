"""Exports and baselines of a real dataset: from Python and from the command line, the same."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main

import motive_fo
from motive_fo.clips.decode import decode
from motive_fo.dataset.connect import fiftyone
from motive_fo.dataset.outcome import outcome
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.errors import ExportError, InputError
from motive_fo.exporters.folder import MANIFEST
from motive_fo.exporters.registry import LAYOUTS
from motive_fo.models.registry import model_card
from tests.exporters import loaders


def _invoke(*args, code=0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="module")
def scored(computed):
    """The dataset on which the whole way was gone, with an embedding for every readable clip; left as found."""
    before = load_run(computed, "motive")
    random = np.random.default_rng(0)
    with_one = computed.match(fiftyone().ViewField("motive.status") != "failed")
    with_one.set_values("look", [random.normal(size=6).tolist() for _ in range(len(with_one))])
    yield computed
    for view in set(computed.list_saved_views()) - set(before.views):
        computed.delete_saved_view(view)
    computed.delete_sample_fields(["look", "few"])
    save_run(computed, before)


def test_each_layout_holds_the_selection(scored, tmp_path):
    selected = scored.load_saved_view("motive: selection").values("motive_id")
    for layout in LAYOUTS:
        report = motive_fo.export(scored, tmp_path / layout, config={"layout": layout, "media": "reencode"})
        manifest = json.loads((tmp_path / layout / MANIFEST).read_text(encoding="utf-8"))
        assert [clip["id"] for clip in manifest["clips"]] == selected
        assert report.survival.counts()["kept"] == report.written == len(selected)
        assert motive_fo.export(scored, tmp_path / layout, config={"layout": layout, "media": "reencode"}).unchanged
    spec = motive_fo.ClipConfig().resolve(model_card("tiny"))
    for clip in manifest["clips"]:
        files = (tmp_path / layout / clip["file"], clip["source"])
        exported, source = (decode(file, spec).frames_THW3.astype(int) for file in files)
        assert np.abs(exported - source).mean() < 4
    assert {str(tmp_path / layout) for layout in LAYOUTS} <= set(load_run(scored, "motive").exports)


def test_survival_is_the_same_before_and_after_and_on_the_command_line(scored, tmp_path):
    before = {report.layout: report for report in motive_fo.survival(scored)}
    assert tuple(before) == LAYOUTS
    for layout in ("diffsynth", "musubi"):
        report = motive_fo.export(scored, tmp_path / layout, config={"layout": layout})
        assert report.survival == before[layout]
        assert outcome(report).message.startswith(f"{report.written} clips in ")
    table = _invoke("survival", scored.name, "--quiet").output
    as_json = json.loads(_invoke("survival", scored.name, "--json", "--quiet").stdout)
    assert as_json == [report.as_dict() for report in before.values()]
    for layout, report in before.items():
        (line,) = [line for line in table.splitlines() if line.startswith(layout)]
        assert line.split()[1:] == [str(n) for n in report.counts().values()]


def test_frames_and_rates_of_the_import_are_those_of_a_probe(scored, tmp_path, monkeypatch):
    known = motive_fo.survival(scored, layouts=("diffusion-pipe",))
    scored.set_values("metadata.size_bytes", [1] * len(scored))  # as if every file had changed
    assert motive_fo.survival(scored, layouts=("diffusion-pipe",)) == known
    scored.set_values("metadata.size_bytes", [Path(p).stat().st_size for p in scored.values("filepath")])
    monkeypatch.setattr("motive_fo.exporters.base.measure", lambda path: pytest.fail(f"{path} is probed again"))
    assert motive_fo.survival(scored, layouts=("diffusion-pipe",)) == known


def test_a_dry_run_writes_nothing_and_foresees_what_strict_refuses(scored, tmp_path):
    out = tmp_path / "out"
    every = ("--view", "train", "--layout", "diffusion-pipe")
    said = json.loads(_invoke("export", scored.name, out, *every, "--dry-run", "--json", "--quiet").stdout)
    assert said["dropped"] == 2  # the damaged ones
    assert "dry run of export: nothing is written" in _invoke("export", scored.name, out, *every, "--dry-run").output
    assert not out.exists()
    refused = _invoke("export", scored.name, out, *every, "--strict", code=2).stderr
    assert "2 of 15 clips would not be trained on by diffusion-pipe" in refused
    assert not out.exists()
    lines = _invoke("export", scored.name, out, *every, "--verbose", "--quiet").output
    assert f"export: 13 clips in {out}" in lines
    assert lines.count("dropped: ") == 2
    assert "nothing is changed" in _invoke("export", scored.name, out, *every, "--quiet").output
    assert "--overwrite" in _invoke("export", scored.name, out, "--layout", "diffusion-pipe", code=2).stderr
    read, buckets = loaders.read_diffusion_pipe(out / "dataset.toml")
    assert len(read) == 13
    assert 17 in buckets


def test_baselines_are_views_of_the_selections_size(scored, tmp_path):
    report = motive_fo.baselines(scored, seeds=(0, 1), embeddings=("look",), folder=tmp_path / "sets")
    count = len(scored.load_saved_view("motive: selection"))
    by_name = {each.name: each for each in report.sets}
    assert list(by_name) == ["selection", "random 0", "random 1", "motion", "hoof", "full", "embedding look"]
    scored.reload()
    status = fiftyone().ViewField("motive.status")
    candidates = set(scored.match(status == "scored").values("motive_id"))
    for name, made in by_name.items():
        view = scored.load_saved_view(made.view)
        assert len(view) == made.clips == (len(candidates) if name == "full" else count)
        assert set(view.values("motive_id")) <= candidates
        manifest = json.loads((Path(made.folder) / MANIFEST).read_text(encoding="utf-8"))
        assert manifest["training"] == {"steps": len(candidates), "passes": len(candidates) / made.clips}
        assert manifest["baseline"] == name
        words = shlex.split(manifest["command"])
        repeats = int(words[words.index("--dataset_repeat") + 1])
        assert repeats == round(len(candidates) / made.clips)
    assert by_name["selection"].shared == by_name["full"].shared == by_name["full"].coverage == 1
    motion = scored.load_saved_view(by_name["motion"].view).values("motive.motion_mean")
    assert motion == sorted(motion, reverse=True)
    assert motion[0] == max(scored.match(status == "scored").values("motive.motion_mean"))
    assert by_name["motion"].motion == pytest.approx(np.mean(motion), rel=1e-5)
    top = scored.load_saved_view("motive: top by hoof").values("motive_id")
    assert scored.load_saved_view(by_name["hoof"].view).values("motive_id") == top
    again = motive_fo.baselines(scored, seeds=(0, 1), embeddings=("look",))
    assert [each.clips for each in again.sets] == [each.clips for each in report.sets]
    assert set(load_run(scored, "motive").views) == set(scored.list_saved_views())
    assert outcome(report).message == f"6 baselines saved as views, 7 exports of {len(candidates)} training steps each"


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="FiftyOne reads videos for a model with ffprobe")
def test_embeddings_come_from_fields_brain_runs_and_models(scored):
    import fiftyone.brain as fob
    import fiftyone.core.models as fom

    class Brightness(fom.Model, fom.EmbeddingsMixin):
        """A model of pictures whose embedding anyone can compute: mean colour."""

        media_type = "image"
        transforms = None
        preprocess = False
        ragged_batches = False
        has_embeddings = True

        def embed(self, picture):
            self._last = np.asarray(picture, np.float64).mean((0, 1))
            return self._last

        def embed_all(self, pictures):
            return np.stack([self.embed(picture) for picture in pictures])

        def get_embeddings(self):
            return self._last

        def predict(self, picture):
            return self.embed(picture)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    embedded = scored.exists("look")
    fob.compute_similarity(embedded, embeddings="look", brain_key="alike", backend="sklearn", metric="cosine")
    by_field, by_key = (motive_fo.baselines(scored, kinds=(), embeddings=(name,)).sets[1] for name in ("look", "alike"))
    taken = [scored.load_saved_view(each.view).values("motive_id") for each in (by_field, by_key)]
    assert taken[0] == taken[1]
    made = motive_fo.baselines(scored, kinds=(), embeddings=(Brightness(),)).sets[1]
    assert made.name == "embedding Brightness"
    assert made.clips == by_field.clips
    with pytest.raises(InputError, match=r"'nothing' is no field or brain key of dataset .*, and no zoo model"):
        motive_fo.baselines(scored, embeddings=("nothing",))
    with pytest.raises(InputError, match="'luck' is no baseline: choose of random"):
        motive_fo.baselines(scored, kinds=("luck",))
    scored.add_sample_field("few", fiftyone().VectorField)
    scored.match_tags("query").set_values("few", [[1.0, 2.0]] * len(scored.match_tags("query")))
    with pytest.raises(InputError, match="no clip has one"):
        motive_fo.baselines(scored, embeddings=("few",))
    scored.delete_brain_run("alike")


def test_baselines_on_the_command_line(scored):
    lines = _invoke("baselines", scored.name, "--kinds", "random,full", "--seeds", "3,4", "--quiet").output.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "view",
        "motive: selection",
        "motive: baseline random 3",
        "motive: baseline random 4",
        "motive: baseline full",
    ]
    assert "is no baseline" in _invoke("baselines", scored.name, "--kinds", "nothing", code=2).stderr


def test_without_a_selection_the_way_out_is_named(dataset, tmp_path):
    motive_fo.compute_motion(dataset)
    with pytest.raises(InputError, match="motive curate"):
        motive_fo.baselines(dataset)
    with pytest.raises(InputError, match="motive curate"):
        motive_fo.export(dataset, tmp_path / "out")
    assert motive_fo.survival(dataset, layouts=("diffsynth",))[0].counts()["clips"] == 15
    failed = dataset.match(fiftyone().ViewField("motive.status") == "failed")
    with pytest.raises(ExportError, match="none of the 2 clips can be exported: cannot be read"):
        motive_fo.export(failed, tmp_path / "out")
    with pytest.raises(InputError, match="no clips in what was chosen"):
        motive_fo.survival(dataset.limit(0))
