"""The Avro schemas of all topics: a topic's canonical name in, its documented schema out, wherever this is installed."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import fastavro
import msgspec

from upwell.events import contracts
from upwell.resources import folder

CONTRACTS: Final[dict[str, type[msgspec.Struct]]] = {
    "items": contracts.Item,
    "interactions": contracts.Interaction,
    "requests": contracts.Request,
    "rules": contracts.Rule,
    "item-features": contracts.ItemFeatures,
    "rankings": contracts.Ranking,
    "content-triggers": contracts.ContentTrigger,
    "contents": contracts.Content,
    "statistics": contracts.Statistics,
    "trends": contracts.Trend,
    "dlq-settled": contracts.Settlement,
}
"""Schema name to the struct that says the same. The three trigger topics share one."""


@cache
def load(name: str) -> dict[str, Any]:
    """The schema as its file says it, documentation included.

    Raises:
        KeyError: no schema has this name.
    """
    if name not in CONTRACTS:
        raise KeyError(f"no schema is called {name}: there are {', '.join(CONTRACTS)}")
    found: dict[str, Any] = json.loads((folder("schemas") / f"{name}.avsc").read_text("utf-8"))
    return found


@cache
def parsed(name: str) -> Any:
    """The schema as fastavro takes it."""
    return fastavro.parse_schema(load(name))
