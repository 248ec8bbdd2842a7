"""A running deployment in; the features of its items, as its workers stored them, out. No encoder runs again.

The vectors before fusion are Postgres's; what their parts mean, and which encoders made them, the served model says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upwell.inference.features import FusionEncoder
from upwell.items.worker import connect
from upwell.settings import Settings
from upwell.store import database
from upwell.store.models import ModelStore
from upwell.store.published import PublishedStore
from upwell.training.fusion import MODALITIES, Layout, Part
from upwell.training.fusion_features import Features, FeaturesError, Tick, Vectors


def stored_features(settings: Settings, tick: Tick = lambda *_: None) -> Features:
    """Features of all items of the live model version; 12 kB an item with the demo's encoders.

    Raises:
        FeaturesError: there is nothing to be fused, or what is stored is not what the served model makes.
        InferenceUnavailable: Triton does not answer, or the model that is live is not loaded.
        InferenceRejected: the served model does not fuse what `items.modalities` names.
        psycopg.OperationalError: Postgres does not answer.
    """
    with database.pool(settings.postgres) as connections:
        models, store = ModelStore(connections), PublishedStore(connections)
        held = models.of_items()
        encoder = connect(settings, models.live_as())
        try:
            if not isinstance(encoder, FusionEncoder):
                raise FeaturesError(
                    "items.modalities is text alone: there is nothing to fuse. Items that were embedded with more of them "
                    "are what this learns from"
                )
            encoders, version = encoder.encoders(), encoder.model_version
        finally:
            encoder.close()
        if held != [version]:
            raise FeaturesError(_other(held, version))
        layout: Layout = {name: tuple(Part(**part) for part in parts) for name, parts in encoders.layout.items()}
        found: dict[str, dict[str, Vectors]] = {}
        for number, name in enumerate(MODALITIES):
            tick("stored vectors", number, len(MODALITIES))
            found[name] = store.parts(version, name)
    used = [name for name in MODALITIES if found[name]]
    if len(used) < 2:
        raise FeaturesError(
            f"the items under {version} have {'nothing but ' + used[0] if used else 'no vectors before fusion'} stored: "
            "at least two modalities are needed, to learn how much each says"
        )
    items = sorted(set().union(*found.values()))
    rows = {item_id: row for row, item_id in enumerate(items)}
    inputs = {name: _array(found[name], rows, layout[name], name) for name in MODALITIES}
    present = np.array([[item_id in found[name] for name in MODALITIES] for item_id in items], bool)
    return Features(items, inputs, present, layout, encoders.versions)


def _array(vectors: dict[str, Vectors], rows: dict[str, int], parts: Sequence[Part], name: str) -> Vectors:
    width = sum(part.size for part in parts)
    made = np.zeros((len(rows), width), np.float32)
    for item_id, vector in vectors.items():
        if len(vector) != width:
            raise FeaturesError(f"{name} of {item_id} is stored with {len(vector)} numbers: the encoder gives {width}")
        made[rows[item_id]] = vector
    return made


def _other(held: list[str], version: str) -> str:
    if not held:
        return "there are no items yet: run the items worker first"
    if len(held) > 1:
        return f"items are under {' and '.join(sorted(held))}: a switch is under way; train when it is over"
    return f"the items were made by {held[0]}, and Triton serves {version}: `upwell models list` tells more"
