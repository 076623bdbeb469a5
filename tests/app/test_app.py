"""The real App in a real browser: every operator is found in the operator browser, filled in, run and looked at."""

import re
import time

import cv2
import numpy as np
import pytest

# a walk through many steps of the App, the demo before it: each waits 60 s at most by itself
pytestmark = [pytest.mark.app, pytest.mark.timeout(900)]

RUN = "second"


def test_a_run_is_made_watched_used_and_deleted(screen, demo, tmp_path):
    """Nineteen operators: everything from import to delete, in one sitting."""
    import fiftyone as fo
    import fiftyone.operators as foo

    page = screen.page
    dataset = fo.load_dataset(screen.name)
    listed = {op.config.label for op in foo.list_operators(builtin=False) if op.plugin_name == "@motive-fo/motive"}

    screen.run(
        "Motive: import clips",
        "26 clips added to imported",
        Folder=str(demo / "corpus" / "train"),
        Into_dataset="imported",
    )
    assert len([caption for caption in fo.load_dataset("imported").values("caption") if caption]) == 26

    # motion: its progress is seen, the clip that failed is shown by the button of the result
    done = "^motion of 30 clips: 28 done, 1 failed, 1 static"
    screen.run("Motive: compute motion", r"^motion: \d+ of 30", done, Run=RUN)
    page.get_by_role("dialog").get_by_role("button", name="Show failed clips").click()
    screen.counts(1)
    screen.show_all()
    screen.counts(30)

    screen.select(2)
    screen.run("Motive: mark queries", "^1 queries to follow", Group="new")
    dataset.reload()
    (added,) = dataset.match(fo.ViewField("motive_group") == "new").values("motive_id")
    screen.select(2)  # taken back

    screen.run("Motive: compute gradients", r"train gradients: \d+ of", "query: 5 done; train: ", Run=RUN)
    screen.close()
    screen.run("Motive: score influence", "^influence of ", Run=RUN)
    screen.close()
    screen.run("Motive: curate", "scored clips selected", Run=RUN, Budget="0.25")
    dataset.reload()
    chosen = dataset.load_saved_view(f"{RUN}: selection")
    screen.counts(len(chosen))
    assert len(chosen) == 6

    report, folder = tmp_path / "report.html", tmp_path / "export"
    screen.run("Motive: report", "the report is in", Run=RUN, File=str(report))
    assert added in report.read_text(encoding="utf-8")
    screen.close()
    screen.run("Motive: export", f"6 clips in {re.escape(str(folder))}", Run=RUN, Folder=str(folder))
    assert len((folder / "metadata.jsonl").read_text().splitlines()) == 6
    screen.close()

    screen.run("Motive: baselines", "^4 baselines saved as views", Run=RUN)
    screen.close()
    dataset.reload()
    assert len(dataset.load_saved_view(f"{RUN}: baseline random 0")) == 6

    screen.run("Motive: evaluate attribution", "^One step on each of 8 clips", Run=RUN, Clips="8", Queries="3")
    screen.close()

    screen.run(
        "Motive: replay run", "comes out again, equal to the bit: 8 clips, 3 training clips", Run=RUN, Sample="3"
    )
    screen.close()

    screen.run("Motive: write overlays", "overlays of 6 clips", Run=RUN)
    screen.close()
    _plays_with_its_overlay(screen)
    screen.run("Motive: map sketches", "clips mapped", Run=RUN)
    screen.close()
    screen.select(0)
    screen.run("Motive: sort by gradients", "clips with the most similar gradients", Run=RUN, Clips="4")
    screen.counts(4)
    screen.show_all()
    screen.run("Motive: open workspace", f"workspace '{RUN}: influence'", Run=RUN)
    page.get_by_text(re.compile("^6 of .* scored clips would be")).wait_for()  # the panel of that run
    screen.counts(30)

    screen.form("Motive: show run", Run=RUN)
    page.get_by_text(str(folder)).wait_for()
    screen.close()
    screen.run("Motive: delete overlays", "overlays deleted", Run=RUN)
    screen.run("Motive: delete run", f"deleted run '{RUN}'", button="Delete", Run=RUN, Confirm=RUN)
    dataset.reload()
    assert dataset.list_runs() == ["motive"]
    assert not [path for path in dataset.get_field_schema(flat=True) if path.startswith(RUN)]
    assert not [name for name in dataset.list_saved_views() if name.startswith(RUN)]
    unseen = {label for label in listed - screen.ran if label.startswith("Motive: ")}
    assert unseen == {"Motive: show jobs", "Motive: cancel job", "Motive: show failed", "Motive: adopt store"}


def _plays_with_its_overlay(screen):
    """A clip is opened and played, and the mask changes the picture."""
    page = screen.page
    page.locator('[data-cy="looker"]').first.click()
    clock = page.get_by_text(re.compile(r"^\d:\d\d\.\d\d / \d:\d\d\.\d\d$"))
    clock.wait_for()
    player = page.locator('[data-cy="modal-looker-container"]')
    player.hover()
    box = player.bounding_box()
    middle = {"x": box["x"] + box["width"] / 4, "y": box["y"] + box["height"] / 4}
    middle |= {"width": box["width"] / 2, "height": box["height"] / 2}
    pictures = []
    for _ in range(3):
        page.wait_for_timeout(1500)
        shot = np.frombuffer(page.screenshot(clip=middle), np.uint8)
        pictures.append(cv2.imdecode(shot, cv2.IMREAD_COLOR).astype(float))
        page.locator(f"[data-cy='checkbox-frames.{RUN}_motion_mask']").last.click()
    with_and_without, same = (np.abs(pictures[0] - other).mean() for other in pictures[1:])
    assert with_and_without > 1 > same
    player.hover()
    before = clock.inner_text()
    page.keyboard.press("Space")
    page.wait_for_timeout(700)
    assert clock.inner_text() != before, "it does not play"
    for _ in range(10):  # the first ones are for what has the focus
        page.keyboard.press("Escape")
        page.wait_for_timeout(700)
        if not player.is_visible():
            break
    player.wait_for(state="hidden")


def test_a_job_in_the_background_is_seen_and_cancelled(screen):
    dialog = screen.form("Motive: compute gradients", Run="third", Run_in_the_background=True)
    dialog.get_by_role("button", name="Execute", exact=True).click()
    screen.says("^job .* is started")
    screen.form("Motive: show jobs")
    screen.says(f"compute_gradients {screen.name}")
    screen.close()
    screen.run("Motive: cancel job", "^job .* is cancelled", button="Cancel the job")
    dialog = screen.form("Motive: show jobs")
    dialog.get_by_role("cell", name="cancelled").first.wait_for()
    screen.close()


def test_a_scheduled_step_is_worked_off_by_the_worker_of_motive_app(screen):
    import fiftyone as fo
    from fiftyone.operators.delegated import DelegatedOperationService

    dialog = screen.form("Motive: compute motion", Run="later")
    dialog.get_by_role("button", name="Execute", exact=True).locator("xpath=following::button[1]").click()
    screen.page.get_by_role("menuitem").filter(has_text="Schedule").click()
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    state, until = "", time.monotonic() + 120
    while state not in ("completed", "failed") and time.monotonic() < until:
        time.sleep(1)
        operations = DelegatedOperationService().list_operations(dataset_name=screen.name)
        state = str(operations[-1].run_state) if operations else ""
    assert state == "completed"
    dataset = fo.load_dataset(screen.name)
    dataset.reload()
    assert dataset.count("later.motion_mean") == 29
