"""Which runs may be scored together as checkpoints of one model."""

from __future__ import annotations

from collections.abc import Sequence

from motive_fo.errors import ConfigError, StoreError
from motive_fo.influence.checkpoints import unlike_model
from motive_fo.store.identity import require_equal
from motive_fo.store.run_store import RunStore
from motive_fo.store.sketches import Sample, SketchTables

_MODEL = "model"


def require_checkpoint(
    name: str, store: RunStore, other: RunStore, samples: Sequence[Sample], train: Sequence[str], queries: Sequence[str]
) -> None:
    """Raise unless ``other`` holds the sketches of the same clips under the same settings by another checkpoint.

    Args:
        name: of the other run, for errors.
        samples: timesteps and noises that are scored with.

    Raises:
        ConfigError: the other run's model is the same, or of another kind.
        StoreMismatchError: another setting differs.
        StoreError: it lacks sketches, or they are of other versions of the clips.
    """
    ours, theirs = (each.sketches("train", samples) for each in (store, other))
    model, its = ours.identity.get(_MODEL, {}), theirs.identity.get(_MODEL, {})
    if model == its:
        raise ConfigError(
            f"influence.checkpoints: run {name!r} has the very weights of this run, which would count twice: name a "
            "run with another checkpoint"
        )
    if not unlike_model(model, its):
        raise ConfigError(
            f"influence.checkpoints: run {name!r} is of {its.get('name')} ({its.get('objective')}), this run of "
            f"{model.get('name')} ({model.get('objective')}): name a run with another checkpoint of the same model"
        )
    one, another = ({k: v for k, v in each.identity.items() if k != _MODEL} for each in (ours, theirs))
    require_equal(another, one, f"the gradients of run {name!r}, named as a checkpoint of this one,")
    _require_same_clips(name, ours, theirs, train, "training clips")
    _require_same_clips(name, store.sketches("query", samples), other.sketches("query", samples), queries, "queries")


def _require_same_clips(name: str, ours: SketchTables, theirs: SketchTables, ids: Sequence[str], what: str) -> None:
    absent = [clip_id for clip_id in ids if clip_id not in theirs]
    if absent:
        raise StoreError(
            f"run {name!r} has no gradients of {len(absent)} of {len(ids)} {what} ({absent[0]}): run its gradient step "
            "for them first"
        )
    changed = ours.read("content", ids) != theirs.read("content", ids)
    if changed.any():
        raise StoreError(
            f"{int(changed.sum())} of {len(ids)} {what} were changed between the gradients of this run and those of "
            f"run {name!r} ({ids[int(changed.argmax())]}): run both gradient steps again"
        )
