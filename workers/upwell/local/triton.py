"""Triton Inference Server from a wheel, with its Python backend, on the packaged models; loopback only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from upwell.local.errors import StackError


class Triton:
    """The model server as a service of the stack."""

    name = "triton"
    port_names = ("triton", "triton_http", "triton_metrics")

    def __init__(
        self,
        home: Path,
        models: Path,
        ports: Mapping[str, int],
        wanted: Sequence[str] | None,
        shared_memory_prefix: str,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.ports = ports
        self.loaded: list[str] = []

    @property
    def endpoints(self) -> dict[str, str]:
        return {name: f"127.0.0.1:{self.ports[name]}" for name in self.port_names}

    def want(self, models: Sequence[str]) -> None: ...

    def prepare(self) -> None:
        raise StackError("Triton is not available yet")

    def process(self) -> dict[str, Any]:
        return {}

    def ready(self) -> bool:
        return False

    def after_exit(self) -> None: ...
