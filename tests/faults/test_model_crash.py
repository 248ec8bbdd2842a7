"""A model's own process is killed: Triton keeps calling it ready, and the next call still gets its answer."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

from support import eventually
from upwell.inference.calls import BreakerState
from upwell.inference.encode import TextEncoder
from upwell.inference.errors import InferenceUnavailable

pytestmark = pytest.mark.faults


def _processes(stack, model):
    return [
        p for p in psutil.Process(stack.pid("triton")).children() if any(f"/{model}/" in word for word in p.cmdline())
    ]


def test_a_killed_model_answers_again(full_stack):
    encoder = TextEncoder(full_stack.endpoints().triton)
    before = encoder.encode(["a film about the sea"])
    for process in _processes(full_stack, "text_encoder"):
        process.kill()

    def answered():
        try:
            return [encoder.encode(["a film about the sea"])]
        except InferenceUnavailable:
            return []

    (after,) = eventually(answered, timeout=120, message="the encoder answers again")
    assert np.array_equal(before, after)
    assert encoder.client.breaker.state is BreakerState.CLOSED
    encoder.close()
