"""One decoding process for all tests of a module that only look at what comes out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from upwell.media.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()
