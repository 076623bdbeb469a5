"""The real App in a real browser: the grid shows our clips, the operators are there and one of them runs."""

import shutil

import pytest

from motive_fo.synthetic.corpus import write_corpus

from .served import BROWSERS, FLAGS, served

pytestmark = pytest.mark.app


@pytest.fixture
def app(database, tmp_path):
    """A scored dataset, served by ``motive app``."""
    corpus = write_corpus(tmp_path, train=6, queries=2, damaged=2, seed=2, size=(64, 64), seconds=1.25, fps=16)
    with served(corpus, "app", curated=False) as (name, url):
        yield name, url


def test_the_app_shows_the_clips_and_runs_an_operator(app, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    name, url = app
    with playwright.sync_playwright() as p:
        context = p.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=browser, headless=True, args=FLAGS
        )
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("text=/10 samples/", timeout=90_000)
        page.get_by_text("Dismiss").click()
        page.keyboard.press("Backquote")
        page.keyboard.type("Motive")
        for step in ("compute motion", "compute gradients", "score influence", "curate", "export"):
            page.wait_for_selector(f"text=Motive: {step}")
        page.get_by_role("dialog").get_by_text("Motive: curate").click()  # the grid has a button of that name
        page.get_by_role("button", name="Execute").click()
        page.wait_for_selector("text=/1 of 6 scored clips selected/", timeout=60_000)
        context.close()
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    dataset.reload()
    assert dataset.load_saved_view("motive: top by votes").count() == 1
