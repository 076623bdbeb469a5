"""The workspace of a run, and the run's place in the sidebar."""

import uuid

import pytest

import motive_fo
from motive_fo.errors import InputError
from motive_fo.synthetic.corpus import write_corpus


@pytest.fixture
def dataset(database, tmp_path):
    corpus = write_corpus(tmp_path, train=3, queries=1, seed=8, size=(64, 64), seconds=1.25, fps=16)
    name = f"space-{uuid.uuid4().hex[:8]}"
    motive_fo.import_clips(corpus.train_metadata.parent, name)
    motive_fo.import_clips(corpus.query_metadata.parent, name, role="query")
    motive_fo.compute_gradients(name, attribution={"dimension": 128})
    import fiftyone as fo

    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def _panels(space):
    return [p for child in space.children for p in (_panels(child) if hasattr(child, "children") else [child.type])]


def test_grid_influence_and_map_side_by_side(dataset):
    name = motive_fo.save_workspace(dataset)
    assert name == "motive: influence"
    assert _panels(dataset.load_workspace(name)) == ["Samples", "motion_influence"]
    motive_fo.map_sketches(dataset)
    motive_fo.save_workspace(dataset)
    space = dataset.load_workspace(name)
    assert _panels(space) == ["Samples", "motion_influence", "Embeddings"]
    assert space.children[1].children[1].state["brainResult"] == "motive_map"


def test_the_runs_fields_come_first_in_the_sidebar_each_once(dataset):
    before = {group.name for group in dataset.app_config.sidebar_groups or []}
    motive_fo.save_workspace(dataset)
    motive_fo.save_workspace(dataset)
    dataset.reload()
    groups = dataset.app_config.sidebar_groups
    names = [group.name for group in groups]
    assert names.count("motive") == 1
    assert names.index("motive") == names.index("tags") + 1
    group = groups[names.index("motive")]
    assert group.expanded
    assert group.paths[:2] == ["motive.influence", "motive.selected"]
    assert set(group.paths) <= set(dataset.get_field_schema(flat=True))
    paths = [path for g in groups for path in g.paths or ()]
    assert len(paths) == len(set(paths))
    assert "motive_id" in paths
    assert before <= set(names)


def test_it_goes_with_the_run_and_anothers_is_not_touched(dataset):
    import fiftyone as fo

    motive_fo.save_workspace(dataset)
    motive_fo.delete_run(dataset)
    dataset.reload()
    assert not dataset.list_workspaces()
    assert "motive" not in [g.name for g in dataset.app_config.sidebar_groups if g.paths]
    motive_fo.compute_motion(dataset)
    dataset.save_workspace("motive: influence", fo.Space(children=[fo.Panel(type="Samples")]))
    with pytest.raises(InputError, match="not motive's"):
        motive_fo.save_workspace(dataset)
