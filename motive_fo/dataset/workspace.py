"""The App laid out for a run: grid, influence panel and map side by side, and the run's fields first in the sidebar."""

from __future__ import annotations

from typing import Any, Final

from motive_fo.dataset.connect import as_samples, dataset_of, fiftyone
from motive_fo.dataset.embeddings import map_key
from motive_fo.dataset.fields import FIELDS
from motive_fo.dataset.run_record import load_run, save_run
from motive_fo.errors import InputError

INFLUENCE_PANEL: Final = "motion_influence"
#: what is filtered by most, first; all other fields of the run follow.
_FIRST: Final = ("influence", "selected", "votes", "status", "motion_mean", "camera_share", "dynamic_score")


def workspace_name(run: str) -> str:
    """Name of a run's workspace."""
    return f"{run}: influence"


def save_workspace(dataset: Any, run: str = "motive") -> str:
    """Save a workspace for a run, and put the run's fields first in the sidebar. Saving again renews it.

    The map is in it where ``map_sketches`` made one. The App's menu of workspaces opens it.

    Returns:
        its name.

    Raises:
        InputError: no such run, or a workspace of that name that is not motive's.
    """
    dataset = dataset_of(as_samples(dataset))
    record = load_run(dataset, run)
    name = workspace_name(run)
    if dataset.has_workspace(name) and name not in record.workspaces:
        raise InputError(f"dataset {dataset.name!r} has a workspace {name!r} that is not motive's: rename it")
    if name not in record.workspaces:
        record.workspaces.append(name)
        save_run(dataset, record)
    dataset.save_workspace(
        name, _layout(dataset, run), description=f"grid, influence and map of the run {run}", overwrite=True
    )
    arrange_sidebar(dataset, run)
    return name


def arrange_sidebar(dataset: Any, run: str) -> None:
    """The run's group right below the tags and open, with what is filtered by most on top."""
    fo = fiftyone()
    schema = dataset.get_field_schema(flat=True)
    order = [*_FIRST, *(name for name in FIELDS if name not in _FIRST)]
    paths = [path for name in order if (path := f"{run}.{name}") in schema]
    groups = dataset.app_config.sidebar_groups
    if groups is None:
        groups = fo.DatasetAppConfig.default_sidebar_groups(dataset)
    groups = [group for group in groups if group.name != run]
    after = next((place for place, group in enumerate(groups, 1) if group.name == "tags"), 0)
    groups.insert(after, fo.SidebarGroupDocument(name=run, paths=paths, expanded=True))
    dataset.app_config.sidebar_groups = groups
    dataset.save()


def _layout(dataset: Any, run: str) -> Any:
    fo = fiftyone()
    samples = fo.Panel(type="Samples", pinned=True)
    grid = fo.Space(children=[samples], active_child=samples.component_id)  # the App shows an empty space otherwise
    beside = [fo.Panel(type=INFLUENCE_PANEL, state={"state": {"run": run}})]
    if dataset.has_brain_run(map_key(run)):
        state = {"brainResult": map_key(run), "colorByField": f"{run}.influence"}
        beside.append(fo.Panel(type="Embeddings", state=state))
    right = fo.Space(children=beside, active_child=beside[0].component_id)
    return fo.Space(children=[grid, right], orientation="horizontal", sizes=[0.55, 0.45])
