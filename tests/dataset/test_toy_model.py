"""The embedded model on clips of one's own: one line in every step that makes or uses its scores, none in the demo."""

import json

import pytest
from click.testing import CliRunner
from motive_fo_cli.main import main
from motive_fo_cli.output import run_lines

import motive_fo
from motive_fo.config import AttributionConfig, RunConfig
from motive_fo.dataset.integrity import check_run
from motive_fo.dataset.outcome import outcome
from motive_fo.dataset.run_record import RunRecord
from motive_fo.dataset.toy_model import DEMO_MARK, demo_corpus, toy_notes
from tests.dataset.conftest import ONE_TIMESTEP

TOY = "scores of run 'motive' are those of tiny, a toy model of synthetic scenes"


def _marked(dataset, folder, **other):
    places = {role: str(place) for role, place in demo_corpus(folder).items()}
    dataset.info[DEMO_MARK] = {"folder": str(folder), **places, **other}
    dataset.save()


def _count(texts):
    return sum(TOY in text for text in texts)


def test_every_step_says_it_once_and_none_in_the_demo(dataset, tmp_path):
    def said():
        """How often each step says it, as Python and the App have it."""
        gradients = motive_fo.compute_gradients(dataset, attribution=ONE_TIMESTEP)
        reports = {
            "dry run": motive_fo.estimate(dataset, attribution=ONE_TIMESTEP),
            "influence": motive_fo.score_influence(dataset),
            "curate": motive_fo.curate(dataset, selection={"budget": 0.25}),
            "export": motive_fo.export(dataset, tmp_path / "out", config={"overwrite": True}),
        }
        counts = {name: _count(report.notes) for name, report in reports.items()}
        counts["gradients"] = _count([note for report in gradients.values() for note in report.notes])
        for name, report in {"gradients": gradients, **reports}.items():
            if name != "dry run":
                assert _count(outcome(report).reasons) == counts[name]
        counts["doctor"] = _count([check.text for check in check_run(dataset, "motive") if check.level == "warn"])
        page = motive_fo.write_report(dataset, tmp_path / "report.html")
        counts["report"] = page.read_text().count("a toy model of synthetic scenes")
        page.unlink()
        return counts

    def shown(*command):
        result = CliRunner().invoke(main, list(command))
        assert result.exit_code == 0, result.output
        return result.output.count(TOY)

    assert set(said().values()) == {1}
    out = str(tmp_path / "out")
    assert shown("gradients", dataset.name) == shown("influence", dataset.name) == shown("curate", dataset.name) == 1
    assert shown("export", dataset.name, out, "--overwrite") == shown("gradients", dataset.name, "--dry-run") == 1
    assert TOY in json.loads(CliRunner().invoke(main, ["curate", dataset.name, "--json"]).output)["notes"][0]
    whole = motive_fo.run(
        RunConfig(
            dataset=dataset.name,
            attribution=AttributionConfig(**ONE_TIMESTEP),
            export_to=out,
        )
    )
    assert _count(run_lines(whole)) == 1
    _marked(dataset, tmp_path)
    assert set(said().values()) == {0}
    assert shown("curate", dataset.name) == 0


@pytest.mark.parametrize("other", [{"train": "/films"}, {"queries": "/wanted"}])
def test_the_demo_says_it_of_ones_own_clips(dataset, tmp_path, other):
    record = RunRecord("motive", str(tmp_path / "s.zarr"))
    _marked(dataset, tmp_path, **other)
    assert _count(toy_notes(dataset, record)) == 1


def test_other_models_are_no_toys(database, dataset, tmp_path):
    record = RunRecord("motive", str(tmp_path / "s.zarr"), settings={"attribution": {"model": "owner/model"}})
    assert toy_notes(dataset, record) == toy_notes(None, record) == []
    assert _count(toy_notes(None, RunRecord("motive", record.store))) == 1
