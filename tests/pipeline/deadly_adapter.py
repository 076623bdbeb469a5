"""A model whose process is killed by some captions: named ``tests.pipeline.deadly_adapter:Deadly``."""

import os
import signal
from pathlib import Path

from tests.models.own_adapter import Own


class Deadly(Own):
    def encode_caption(self, caption):
        if caption == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if caption.startswith("kill once "):
            marker = Path(caption.removeprefix("kill once "))
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        self.lost = caption == "lost"
        if caption == "refuse":
            raise ValueError("no such word")
        return super().encode_caption(caption)

    def predict(self, x_t, timestep, condition):
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().predict(x_t, timestep, condition)
