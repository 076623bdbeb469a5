"""The two panels in the real App in a real browser: looked at, moved, lassoed, clicked, saved."""

import re
import shutil

import pytest

import motive_fo
from motive_fo.config import SelectionConfig
from motive_fo.dataset.exploration import Exploration
from motive_fo.dataset.run_record import load_run
from motive_fo.synthetic.corpus import write_corpus

from .served import BROWSERS, FLAGS, served

pytestmark = pytest.mark.app


@pytest.fixture
def app(database, tmp_path):
    """A curated dataset of 24 scored clips, one still and one damaged, and four queries."""
    clips = {"train": 24, "queries": 4, "static": 1, "damaged": 1}
    corpus = write_corpus(tmp_path, **clips, seed=2, size=(64, 64), seconds=1.25, fps=16)
    with served(corpus, "panels") as (name, url):
        yield name, url


def test_a_motion_is_curated_by_looking(app, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    name, url = app
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    exploration = Exploration.read(dataset, load_run(dataset, "motive"))
    with playwright.sync_playwright() as p:
        context = p.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=browser,
            headless=True,
            args=FLAGS,
            viewport={"width": 1600, "height": 1500},
        )
        page = context.new_page()
        page.set_default_timeout(60_000)
        errors = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(url)
        page.wait_for_selector("text=/30 samples/", timeout=90_000)
        page.get_by_text("Dismiss").click()
        page.click('[data-cy="new-panel-btn"]')
        page.click("text=Motion influence")
        page.get_by_text(re.compile("^3 of 24 scored clips would be")).wait_for()

        # the budget: what the App shows is what curate would select
        slider = page.locator(".MuiSlider-root").last.bounding_box()
        page.mouse.click(slider["x"] + slider["width"] * 0.2, slider["y"] + slider["height"] / 2)
        label = page.get_by_text(re.compile(r"Budget: (?!10 )[\d.]+ %"))
        budget = float(re.search(r"[\d.]+", label.inner_text())[0]) / 100
        made = exploration.preview(SelectionConfig(budget=round(budget, 6)))
        assert len(made.selected) > 3
        page.get_by_text(re.compile(f"^{len(made.selected)} of 24 scored clips would be")).wait_for()
        page.get_by_role("button", name="Show", exact=True).click()
        page.wait_for_selector(f"text=/{len(made.selected)} samples/")
        page.get_by_role("button", name="Show all clips").click()
        page.wait_for_selector("text=/30 samples/")

        # a lasso around the right half of the scatter
        plot = page.locator(".js-plotly-plot").nth(1)
        plot.scroll_into_view_if_needed()
        area = plot.locator(".nsewdrag").first.bounding_box()
        left, right = area["x"] + area["width"] / 2, area["x"] + area["width"] - 3
        top, bottom = area["y"] + 3, area["y"] + area["height"] - 3
        page.mouse.move(left, top)
        page.mouse.down()
        for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
            page.mouse.move(x, y, steps=8)
        page.mouse.up()
        lassoed = int(re.match(r"\d+", page.get_by_text(re.compile("clips under the lasso")).inner_text())[0])
        assert 0 < lassoed < 24
        page.wait_for_selector(f"text=/{lassoed} samples/")

        page.locator("text=Name of a view to save").locator("xpath=following::input[1]").fill("my best")
        page.wait_for_timeout(500)  # the App hands what is typed to the panel a little later
        page.get_by_role("button", name="Save as view").click()
        page.wait_for_selector("text=/saved as the view/")
        page.wait_for_selector(f"text=/{len(made.selected)} samples/")

        # a harming clip, which is not in that view, opens all the same
        harming = made.made.ranking.by_mean[-1]
        page.get_by_role("cell", name=harming).click()
        page.click("text=Motion of this clip")
        page.wait_for_selector("text=Motion over time")
        page.wait_for_selector(f"text={harming}")
        effect = exploration.effects(harming, SelectionConfig())[0]
        page.get_by_role("cell", name=effect.query.id).click()
        page.wait_for_selector("text=Who helps and who hurts this query")
        helper = exploration.ends(effect.query.id, 1, SelectionConfig())[0][0][0]
        page.wait_for_selector(f"text={helper}")
        page.goto(url)  # the App lists the views there were when its page was loaded
        page.wait_for_selector("text=/30 samples/")
        page.click('[data-cy="saved-views-selection"]')
        page.click("text=my best")
        page.wait_for_selector(f"text=/{len(made.selected)} samples/")
        context.close()
    ours = [text for text in errors if "Failed to load resource" not in text]  # fonts of a host out of reach
    assert ours == []
    dataset.reload()
    saved = dataset.load_saved_view("my best")
    assert saved.values("motive_id") == made.selected
    report = motive_fo.curate(dataset, "motive", selection={"budget": round(budget, 6)})
    assert report.selected == made.selected
