"""The two panels in the real App in a real browser: looked at, moved, lassoed, clicked, saved, exported."""

import re

import pytest

from motive_fo.config import SelectionConfig
from motive_fo.dataset.exploration import Exploration
from motive_fo.dataset.run_record import load_run

# a walk through many steps of the App, the demo before it: each waits 60 s at most by itself
pytestmark = [pytest.mark.app, pytest.mark.timeout(900)]

#: parts of the panel, which holds the given button, that reach beyond it
CUT = """(button) => {
  let panel = button.parentElement;
  while (getComputedStyle(panel).overflowX === "visible") panel = panel.parentElement;
  return [...panel.querySelectorAll("table, .js-plotly-plot, .MuiSlider-root, p, button")]
    .filter((part) => part.getBoundingClientRect().right > panel.getBoundingClientRect().right + 1)
    .map((part) => part.tagName + " " + part.innerText.slice(0, 60));
}"""


def test_a_motion_is_curated_by_looking(screen, tmp_path):
    page, name = screen.page, screen.name
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    record = load_run(dataset, "motive")
    exploration, config = Exploration.read(dataset, record), record.section("selection")
    tab = page.get_by_text("Motion influence", exact=True)
    if not tab.count():
        page.click('[data-cy="new-panel-btn"]')
    tab.first.click()
    page.get_by_text(re.compile("^5 of 24 scored clips would be")).wait_for()

    # nothing is cut off, beside the grid and in a pane as narrow as half a small screen
    for width in (1600, 1100):
        page.set_viewport_size({"width": width, "height": 1500})
        page.wait_for_timeout(1500)
        assert page.get_by_role("button", name="Save as view").evaluate(CUT) == []
    page.set_viewport_size({"width": 1600, "height": 1500})
    page.wait_for_timeout(1000)

    # the budget: what the App shows is what curate would select
    slider = page.locator(".MuiSlider-root").last.bounding_box()
    page.mouse.click(slider["x"] + slider["width"] * 0.4, slider["y"] + slider["height"] / 2)
    label = page.get_by_text(re.compile(r"Budget: (?!20 )[\d.]+ %"))
    budget = float(re.search(r"[\d.]+", label.inner_text())[0]) / 100
    made = exploration.preview(SelectionConfig(budget=round(budget, 6)))
    assert len(made.selected) > 5
    page.get_by_text(re.compile(f"^{len(made.selected)} of 24 scored clips would be")).wait_for()
    page.get_by_role("button", name="Show", exact=True).click()
    screen.counts(len(made.selected))
    page.get_by_role("button", name="Show all clips").click()
    screen.counts(30)

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
    screen.counts(lassoed)

    # a view of one's own is in the App's list at once
    page.locator("text=Name of a view to save").locator("xpath=following::input[1]").fill("my best")
    page.wait_for_timeout(500)  # the App hands what is typed to the panel a little later
    page.get_by_role("button", name="Save as view").click()
    screen.says("saved as the view")
    screen.counts(len(made.selected))
    page.get_by_role("button", name="Show all clips").click()
    screen.counts(30)
    page.click('[data-cy="saved-views-selection"]')
    page.get_by_text("my best", exact=True).click()
    screen.counts(len(made.selected))
    dataset.reload()
    assert dataset.load_saved_view("my best").values("motive_id") == made.selected

    # the run's selection, and its export
    page.get_by_role("button", name="Make it the run's selection").click()
    screen.says(f"^{len(made.selected)} of 24 scored clips are the selection of run 'motive'")
    dataset.reload()
    assert dataset.load_saved_view("motive: selection").values("motive_id") == made.selected
    page.get_by_role("button", name="Export", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Folder", exact=True).locator("xpath=following::input[1]").fill(str(tmp_path / "out"))
    dialog.get_by_role("button", name="Execute", exact=True).click()
    screen.says(f"^{len(made.selected)} clips in ")
    assert len((tmp_path / "out" / "metadata.jsonl").read_text().splitlines()) == len(made.selected)
    screen.close()

    # a harming clip, which is not in the view, opens all the same
    harming = made.made.ranking.by_mean[-1]
    page.get_by_role("cell", name=harming).click()
    page.click("text=Motion of this clip")
    page.wait_for_selector("text=Motion over time")
    page.wait_for_selector(f"text={harming}")
    effect = exploration.effects(harming, config)[0]
    page.get_by_role("cell", name=effect.query.id).click()
    page.wait_for_selector("text=Who helps and who hurts this query")
    helper = exploration.ends(effect.query.id, 1, config)[0][0][0]
    page.wait_for_selector(f"text={helper}")
