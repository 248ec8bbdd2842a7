"""One shared stack for the whole test session, on real servers, in a temporary home that goes with the session.

`stack`: Kafka and PostgreSQL. `full_stack`: the same one with Triton and its models. Topics and schemas are each test's
own (use a random prefix), so that tests share the servers without seeing each other.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

# Started in the background by a shell, SIGINT is ignored, and every child would inherit that: Ctrl-C is tested too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(Path(__file__).parent))  # `from support import eventually`, from any test folder

from upwell.local.stack import Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Kafka and PostgreSQL, ready. Ends with the session, also where that is killed."""
    # Not made here: where the session is killed before the stack starts, nothing is left.
    home = Path(tempfile.gettempdir()) / f"upwell-test-{os.getpid()}-{secrets.token_hex(4)}"
    shared = Stack(home, ephemeral=True)
    try:
        shared.start(("kafka", "postgres"), progress=lambda line: print(line, file=sys.stderr))
        yield shared
    finally:
        shared.stop()
        shared.wipe()


@pytest.fixture(scope="module")
def full_stack(stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """The same stack with Triton and the models that the test's module names in `MODELS`; what others named stays."""
    models = getattr(request.module, "MODELS", ("text_encoder", "text_generator", "text_safety"))
    stack.start(models=models, progress=lambda line: print(line, file=sys.stderr))
    return stack


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a test's own process was told about logging ends with the test: it may write into the test's captured output."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def prefix() -> str:
    """A name of the test's own, for topics, groups and schemas: letters, digits, underscores."""
    return f"t{os.getpid()}_{secrets.token_hex(4)}_"
