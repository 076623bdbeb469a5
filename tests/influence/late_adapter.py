"""Another checkpoint of the embedded model: named ``tests.influence.late_adapter:Late``."""

from motive_fo.models.tiny.card import CARD
from motive_fo.models.tiny.model import TinyModel


class Late(TinyModel):
    """The same model with other weights."""

    card = CARD

    def __init__(self, device: str, precision: str) -> None:
        super().__init__(TinyModel.random(3, device)._parts, "random:3")
