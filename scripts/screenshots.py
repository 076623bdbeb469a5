"""Screenshots of the App's main screens for the documentation: python scripts/screenshots.py [DATASET]

Serves a dataset (``motive-demo``, as ``make demo`` leaves it) with ``motive app``, drives it in Chromium through
Playwright, and writes pictures to ``docs/images``: the run's selection in the grid, an operator's form, the influence
panel as it opens and after a lasso, and a clip's own panel. What they show depends on the dataset alone.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_SECONDS = 120.0


def main() -> None:
    """Serve, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dataset", nargs="?", default="motive-demo")
    dataset = parser.parse_args().dataset
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("screenshots need Chromium (Debian: apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("screenshots need Playwright: pip install playwright")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    motive = Path(sys.executable).with_name("motive")
    server = subprocess.Popen([str(motive), "app", dataset, "--port", str(port), "--no-browser"])
    try:
        _wait(f"http://127.0.0.1:{port}/fiftyone", server)
        with sync_playwright() as play, tempfile.TemporaryDirectory() as profile:
            context = play.chromium.launch_persistent_context(
                profile,
                executable_path=browser,
                headless=True,
                args=list(FLAGS),
                viewport={"width": 1440, "height": 1000},
            )
            page = context.new_page()
            page.set_default_timeout(_SECONDS * 1000)
            page.goto(f"http://127.0.0.1:{port}/datasets/{dataset}")
            _look(page)
            context.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("the App did not start: does `motive app` work with this dataset?")


def _look(page: Any) -> None:
    page.wait_for_selector("text=/\\d+ samples/")
    page.get_by_text("Dismiss").click()
    everything = page.locator("text=/^\\d+ samples$/").first.inner_text()
    page.click('[data-cy="saved-views-selection"]')
    page.get_by_text("motive: selection", exact=True).click()
    page.get_by_text(everything, exact=True).wait_for(state="hidden")
    _save(page, "selection")
    page.keyboard.press("Backquote")
    page.get_by_placeholder("Search operations by name...").fill("Motive: compute gradients")
    page.get_by_role("dialog").get_by_text("Motive: compute gradients", exact=True).click()
    page.wait_for_selector("text=What this does")
    _save(page, "form")
    page.get_by_role("button", name="Cancel").click()
    page.click('[data-cy="new-panel-btn"]')
    page.click("text=Motion influence")
    page.wait_for_selector("text=/would be selected/")
    _save(page, "influence")
    plot = page.locator(".js-plotly-plot").nth(1)
    plot.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    area = plot.locator(".nsewdrag").first.bounding_box()
    left, right = area["x"] + 0.6 * area["width"], area["x"] + area["width"] - 3
    top, bottom = area["y"] + 3, area["y"] + 0.7 * area["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    page.wait_for_selector("text=/under the lasso/")
    _save(page, "lasso")
    page.locator("table").nth(1).locator("tbody td").first.click()
    page.click("text=Motion of this clip")
    page.wait_for_selector("text=Motion over time")
    _save(page, "clip", grid=False)


def _save(page: Any, name: str, *, grid: bool = True) -> None:
    """A picture of the page; without the grid of a clip alone, less the sidebar, which names the file's folder."""
    if grid:
        page.wait_for_selector('[data-cy="looker"] canvas[canvas-loaded="true"]')
    page.wait_for_timeout(4000)  # videos and plots settle
    area = dict(page.viewport_size)
    if not grid:
        area["width"] = page.get_by_text("Explore", exact=True).bounding_box()["x"] - 20
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.jpg"
    page.screenshot(path=str(path), type="jpeg", quality=62, clip={"x": 0, "y": 0, **area})
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
