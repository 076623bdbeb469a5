"""A dataset served by ``motive app``, as a person starts it, and a browser that looks at it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

#: what FiftyOne's own pages say: a font's host out of reach, a page loaded twice at once, a list still without a size
FOREIGN = ("Failed to load resource: net::", "entry is loading", "react-virtuoso")

#: keeps every text that comes to be seen, as a person would who does not blink: progress can be gone in 0.1 s
LISTEN = """() => {
    window.heard = [];
    window.listener?.disconnect();
    const hear = text => text.parentElement?.checkVisibility() && window.heard.push(text.data);
    const walk = node => node.nodeType === Node.TEXT_NODE ? hear(node) : node.childNodes.forEach(walk);
    window.listener = new MutationObserver(changes => changes.forEach(change =>
        change.type === "characterData" ? hear(change.target) : change.addedNodes.forEach(walk)));
    window.listener.observe(document.body, {subtree: true, childList: true, characterData: true});
}"""

#: what was heard so far, and what the dialogs show now
HEARD = """() => [window.heard, [...document.querySelectorAll("[role=dialog]")].map(dialog => dialog.innerText)]"""


@contextmanager
def served(name):
    """Serve a dataset; yields its address. Nothing of it stays behind."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [str(Path(sys.executable).with_name("motive")), "app", name, "--port", str(port), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/fiftyone", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "motive app ended"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/datasets/{name}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", port)) != 0


class Screen:
    """The App in one page: what a person does there, and what its console complained of."""

    def __init__(self, context, name, url):
        self.name, self.url = name, url
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.errors, self.ran = [], set()
        self.page.on("console", lambda message: self._complain(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._complain(str(error)))

    def _complain(self, text):
        if not any(word in text for word in FOREIGN):
            self.errors.append(text)

    def open(self):
        """Load the page as it is at first: without advertisement, clip or view, which the server remembers."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        self.page.goto(self.url)
        self.page.wait_for_selector("text=/\\d+ samples?/", timeout=90_000)
        card = self.page.get_by_text("Dismiss")
        if card.is_visible():
            with suppress(PlaywrightTimeout):  # it may go by itself
                card.click(timeout=2_000)
        self.page.keyboard.press("Escape")
        self.show_all()

    def count(self):
        """Wait for nothing; the number of samples in the grid."""
        return int(self.page.get_by_text(re.compile(r"^\d+ samples?$")).first.inner_text().split()[0])

    def counts(self, samples):
        """Wait until the grid has so many samples."""
        word = "sample" if samples == 1 else "samples"
        self.page.get_by_text(f"{samples} {word}", exact=True).first.wait_for()

    def form(self, label, **fields):
        """Open an operator from the operator browser and fill its form: labels with underscores for spaces.

        A text is typed, True and False set a switch.
        """
        dialog = self._pick(label)
        self.ran.add(label)
        for name, value in fields.items():
            title = dialog.get_by_text(name.replace("_", " "), exact=True).first
            if isinstance(value, bool):
                title.locator("xpath=preceding::input[@type='checkbox'][1]").set_checked(value)
            else:
                title.locator("xpath=following::input[1]").fill(value)
                self.page.keyboard.press("Tab")  # takes what was typed into a field with suggestions
        return dialog

    def run(self, label, *says, button="Execute", **fields):
        """Open an operator, fill its form, press its button, and wait for all it says on the way and at the end."""
        dialog = self.form(label, **fields)
        self.page.evaluate(LISTEN)
        dialog.get_by_role("button", name=button, exact=True).click()
        for pattern in says:
            self._hears(pattern)

    def says(self, pattern, seconds=120):
        """Wait for a text that matches."""
        self.page.get_by_text(re.compile(pattern)).first.wait_for(timeout=seconds * 1000)

    def _hears(self, pattern, seconds=120):
        """Wait until a text that matches was seen since the listening began, however shortly."""
        until = time.monotonic() + seconds
        while True:
            # in one call: a dialog may vanish between two, and a locator would wait for it to come back
            heard, shown = self.page.evaluate(HEARD)
            if any(re.search(pattern, text) for text in heard):
                return
            assert time.monotonic() < until, f"{pattern!r} was not seen; in dialogs now: {shown}"
            self.page.wait_for_timeout(100)

    def close(self):
        """Close what is open over the grid: a form, the result of a step, its progress."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        dialogs = self.page.get_by_role("dialog")
        self.page.wait_for_timeout(500)  # one may follow another
        while dialogs.count():
            # the one on top, which need not be the last in the page: the others cannot be clicked
            for dialog in dialogs.all():
                with suppress(PlaywrightTimeout):
                    dialog.get_by_role("button", name=re.compile("^(Close|Cancel|Done)$")).first.click(timeout=2_000)
                    break
            self.page.wait_for_timeout(500)

    def show_all(self):
        """Clear the view."""
        self._pick("Clear view bar")

    def _pick(self, label):
        """Choose an operator in the operator browser; returns the dialog."""
        self.close()
        search = self.page.get_by_placeholder("Search operations by name...")
        for _ in range(10):
            self.page.evaluate("document.activeElement.blur()")  # a field would take the key
            self.page.keyboard.press("Backquote")
            self.page.wait_for_timeout(1000)
            if search.is_visible():
                break
        search.fill(label)
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(label, exact=True).click()
        return dialog

    def select(self, place=0):
        """Select a clip in the grid."""
        clip = self.page.locator('[data-cy="looker"]').nth(place)
        clip.hover()
        clip.locator("label").first.click()
