"""The circuit breaker and the sorting of errors into infrastructure and input."""

from __future__ import annotations

import pytest
from tritonclient.utils import InferenceServerException

from upwell.inference import client
from upwell.inference.calls import Breaker, BreakerState, Transient
from upwell.inference.client import ModelClient, text_column
from upwell.inference.errors import InferenceRejected, InferenceUnavailable
from upwell.inference.generate import TextGenerator


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_through():
    clock = Clock()
    breaker = Breaker(failures=3, pause_s=2.0, clock=clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allow()
        breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allow()
    clock.now += 2.0
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.allow()
    assert not breaker.allow()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_a_failed_probe_opens_it_again():
    clock = Clock()
    breaker = Breaker(failures=1, pause_s=2.0, clock=clock)
    breaker.failed()
    clock.now += 2.0
    assert breaker.allow()
    breaker.failed()
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("StatusCode.INVALID_ARGUMENT", "TEMPERATURE is 5.0", InferenceRejected),
        ("StatusCode.INTERNAL", "Failed to process the request(s) for model: ValueError", InferenceRejected),
        ("StatusCode.INTERNAL", "Failed to process the request(s): Stub process 'x' is not healthy.", client._Crashed),
        ("StatusCode.UNAVAILABLE", "connection refused", Transient),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", Transient),
        ("StatusCode.NOT_FOUND", "unknown model", Transient),
    ],
)
def test_errors_are_sorted(code, message, kind):
    assert type(client._classify(InferenceServerException(message, code))) is kind


def test_no_server_is_infrastructure_and_opens_the_breaker():
    model = ModelClient(
        "127.0.0.1:1", "text_encoder", timeout_s=1, attempts=2, breaker=Breaker(failures=2, pause_s=600)
    )
    try:
        with pytest.raises(InferenceUnavailable, match="does not answer"):
            model.infer({"TEXT": text_column(["a"])}, ("EMBEDDING",))
        assert model.breaker.state is BreakerState.OPEN
        with pytest.raises(InferenceUnavailable, match="asked again shortly"):
            model.infer({"TEXT": text_column(["a"])}, ("EMBEDDING",))
    finally:
        model.close()
    with pytest.raises(InferenceUnavailable, match="closed"):
        model.infer({"TEXT": text_column(["a"])}, ("EMBEDDING",))


def test_a_text_column_holds_any_string():
    assert text_column(["é", "\ud800", ""]).tolist() == [["é".encode()], [b"?"], [b""]]


def test_seeds_must_match_the_prompts():
    generator = TextGenerator("127.0.0.1:1")
    try:
        assert generator.generate([]) == []
        with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
            generator.generate(["a", "b"], seeds=[1])
    finally:
        generator.close()
