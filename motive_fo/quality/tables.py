"""What was found on scores, as tables for people."""

from __future__ import annotations

from typing import Final

from motive_fo.quality.suite import ATTAINABLE, CHANCE, RetrievalQuality, TrainingQuality, said
from motive_fo.quality.trial import TrialQuality

#: figure -> its name in the field.
SHOWN: Final = {
    "precision_5": "P@5",
    "precision_10": "P@10",
    "precision_20": "P@20",
    "recall_20": "R@20",
    "reciprocal_rank": "MRR",
    "ndcg_20": "NDCG@20",
    "gap": "gap",
}

Table = tuple[list[str], list[list[str]]]
"""Head and rows."""


def retrieval_table(found: RetrievalQuality) -> Table:
    """A row for each score, chance and the attainable; intervals for what stands above chance."""
    head = ["scores by", *SHOWN.values(), "NDCG@20 above chance"]
    return head, [
        [
            name,
            *(f"{figures[each].value:.2f}" for each in SHOWN),
            said(found.above_chance[name]) if name not in (CHANCE, ATTAINABLE) else "",
        ]
        for name, figures in found.by_score.items()
    ]


def training_table(found: TrainingQuality) -> Table:
    """A row for each score, and what a perfect one would reach."""
    rows = [[name, said(each)] for name, each in found.by_score.items()]
    return ["scores by", "Spearman with the fall of the loss"], [*rows, ["perfect", f"{found.ceiling:.2f}"]]


def trial_table(found: TrialQuality) -> Table:
    """A row for each set that was trained on: percent by which it lowers the losses of the measured queries."""
    head = ["trained on", "fall of the motion loss, %", "of the ordinary loss, %"]
    return head, [[name, said(each), said(found.ordinary[name])] for name, each in found.falls.items()]
