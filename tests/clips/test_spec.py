from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from motive_fo.clips.spec import ClipSpec, FrameRule
from motive_fo.errors import ConfigError


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -0.1},
        {"start": float("nan")},
        {"fps": 0},
        {"fps": 1001},
        {"fps": float("nan")},
        {"frames": 1},
        {"height": 0},
        {"width": 0},
        {"crop": "left"},
    ],
)
def test_wrong_setting_is_refused_by_name(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"start": 0, "fps": 16, "frames": 17, "height": 64, "width": 64}
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ClipSpec(**(right | wrong))


def test_times_do_not_drift() -> None:
    spec = ClipSpec(0.5, 30000 / 1001, 3001, 8, 8)
    assert spec.times()[3000] == Fraction(1, 2) + Fraction(3000 * 1001, 30000)


def test_identity_tells_specifications_apart() -> None:
    one, other = ClipSpec(0, 16, 17, 64, 64), ClipSpec(0, 16, 17, 64, 64, crop="none")
    assert one.identity() != other.identity()
    assert one.identity() == ClipSpec(0, 16, 17, 64, 64).identity()


def test_frame_rule() -> None:
    wan = FrameRule(4)
    assert [n for n in range(12) if wan.accepts(n)] == [5, 9]
    assert [wan.below(n) for n in (1, 4, 5, 8, 9)] == [None, None, 5, 5, 9]
    assert str(FrameRule(8)) == "8n+1"
