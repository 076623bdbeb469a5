"""The page in a real browser: keys, buttons, undo, what is kept, and the file that is downloaded."""

import shutil

import pytest

import motive_fo

pytestmark = pytest.mark.app


@pytest.fixture(scope="module")
def context(chromium, tmp_path_factory):
    made = chromium(tmp_path_factory.mktemp("profile"))
    made.set_default_timeout(30_000)
    yield made
    made.close()


@pytest.fixture
def opened(context):
    pages, complaints = [], []

    def open_page(path):
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def _playing(page):
    """Wait until both videos run. Asked from outside: the page's own policy lets nothing be evaluated inside."""
    for _ in range(300):
        if page.evaluate("[...document.querySelectorAll('video')].every((v) => v.readyState >= 3 && !v.paused)"):
            return
        page.wait_for_timeout(100)
    pytest.fail("the videos do not play")


def _download(page, tmp_path):
    with page.expect_download() as waited:
        page.click("#download")
    path = tmp_path / "votes.csv"
    waited.value.save_as(path)
    return path


@pytest.mark.parametrize("embed", [False, True])
def test_a_person_judges_by_keys_and_buttons(opened, made, tmp_path, embed):
    path = motive_fo.write_ab_page(made[0], made[1], tmp_path / "page.html", embed=embed)
    page = opened(path)
    _playing(page)
    assert page.inner_text("#count") == "1 of 3"
    shown = page.inner_text("body")
    assert "/a/" not in shown, "the page must not tell which is which"
    page.keyboard.press("Space")
    _playing(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#count") == "3 of 3"
    page.keyboard.press("u")
    assert page.inner_text("#count") == "2 of 3"
    page.keyboard.press("ArrowDown")
    page.reload()  # votes outlive the page
    assert page.inner_text("#count") == "3 of 3"
    _playing(page)
    page.click("#choose-right")
    assert page.is_visible("#done")
    assert not page.is_visible("#asking")
    page.keyboard.press("ArrowLeft")  # nothing is left to judge
    report = motive_fo.count_votes([_download(page, tmp_path)])
    assert (report.votes, report.tie.count, report.a, report.b) == (3, 3, "a", "b")
    assert report.tie.value == pytest.approx(1 / 3)
    pairs = page.evaluate("page.pairs.map((p) => p.left_is)")
    wins = (pairs[0] == "a") + (pairs[2] == "b")
    assert report.win.value == pytest.approx(wins / 3)
    page.click("#undo")
    assert page.inner_text("#count") == "3 of 3"


def test_another_page_begins_anew_and_prompts_are_text(opened, made, tmp_path):
    path = motive_fo.write_ab_page(made[0], made[1], tmp_path / "other.html", seed=5)
    page = opened(path)
    assert page.inner_text("#count") == "1 of 3"
    assert page.is_disabled("#download")
    prompts = []
    for _ in range(3):
        prompts.append(page.inner_text("#prompt"))
        page.keyboard.press("ArrowRight")
    assert "=a box slides </script><b>" in prompts


def test_a_video_that_is_gone_is_said(context, made, tmp_path):
    for name in "xy":
        shutil.copytree(made[0], tmp_path / name)
    path = motive_fo.write_ab_page(tmp_path / "x", tmp_path / "y", tmp_path / "page.html")
    shutil.rmtree(tmp_path / "x")
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#broken", state="visible")
    page.close()
