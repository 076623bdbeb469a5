"""One demo dataset, one App and one browser for all tests of the App."""

import pytest

from motive_fo.demo import DemoSize, run_demo

from .served import Screen, served

NAME = "app-demo"


@pytest.fixture(scope="session")
def demo(database, tmp_path_factory):
    """The demo in small: 24 scored clips, a still one and a damaged one, and four queries; returns its folder."""
    folder = tmp_path_factory.mktemp("app-demo")
    run_demo(folder, dataset=NAME, size=DemoSize(train=24, queries=4, static=1, damaged=1, seed=2))
    return folder


@pytest.fixture(scope="session")
def browser(demo, chromium, tmp_path_factory):
    """The browser, and the address of the App that serves the demo."""
    with served(NAME) as url:
        context = chromium(tmp_path_factory.mktemp("profile"), viewport={"width": 1600, "height": 1500})
        yield context, url
        context.close()


@pytest.fixture
def screen(browser):
    """A page of its own on the App; nothing of ours may have complained in its console."""
    shown = Screen(browser[0], NAME, browser[1])
    shown.open()
    yield shown
    shown.page.close()
    assert shown.errors == []
