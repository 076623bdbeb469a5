"""Picture of an A/B page for the documentation: python scripts/screenshot_ab.py PAGE.html

Opens what ``motive evaluate ab ... --to PAGE.html`` wrote in Chromium through Playwright, and writes
``docs/images/ab.jpg``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "ab.jpg"


def main() -> None:
    """Open, wait, write."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("a screenshot needs Chromium (Debian: apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("a screenshot needs Playwright: pip install playwright")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1000, "height": 780})
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        page.wait_for_timeout(3000)  # both videos load and play
        page.screenshot(path=str(TARGET), type="jpeg", quality=62)
        chromium.close()
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
