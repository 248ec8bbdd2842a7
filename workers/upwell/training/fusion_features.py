"""Items with their media in; per modality a float32 array, and who has what, out: what fusion learns from.

The encoders are the very files that Triton serves (`triton_models/*/1`), called in this process, one item at a time:
the same numbers, without a server. Kept features are safetensors: nothing of them runs when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from upwell.events.contracts import Item
from upwell.items.cleaning import clean_item, encoder_text
from upwell.media.errors import MediaError
from upwell.media.prepare import Prepared, Preparer
from upwell.settings import MediaSettings
from upwell.training.fusion import MODALITIES, Fusion, Layout, Part
from upwell.training.served import module

Vectors = NDArray[np.float32]
Tick = Callable[[str, int, int], None]
"""What is being done, how much of it is done, how much there is."""

LEAST_SOUND: Final = 441
LEAST_SPEECH: Final = 1_600
"""Samples below which an encoder takes no sound: 10 ms and 100 ms."""


class FeaturesError(Exception):
    """Features cannot be read, or do not fit together; the message says why."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of n items; rows in the order of `items`."""

    items: list[str]
    inputs: dict[str, Vectors]
    """By modality: float32 [n, d_modality], zeros where it is absent; see `fusion.Fusion.forward`."""
    present: NDArray[np.bool_]
    """bool [n, 4], columns in the order of `MODALITIES`."""
    layout: Layout
    versions: dict[str, str]
    """Modality to `name@hash` of the model that made it."""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.items)
        if self.present.shape != (n, len(MODALITIES)):
            raise FeaturesError(f"present is {self.present.shape}: {(n, len(MODALITIES))} was expected")
        for name in MODALITIES:
            wanted = (n, sum(part.size for part in self.layout[name]))
            if name not in self.inputs or self.inputs[name].shape != wanted:
                raise FeaturesError(f"{name} is {getattr(self.inputs.get(name), 'shape', None)}: {wanted} was expected")
            if not np.isfinite(self.inputs[name]).all():
                raise FeaturesError(f"{name} holds numbers that are not finite")

    def counts(self) -> dict[str, int]:
        """How many items have each modality."""
        return dict(zip(MODALITIES, self.present.sum(0).tolist(), strict=True))


def encode(items: Sequence[Item], models: Path, media: MediaSettings, tick: Tick = lambda *_: None) -> Features:
    """Features of items through the demo's encoders; minutes for a thousand items with media.

    Args:
        models: folder of the converted models.
        media: limits of decoding, and which files may be read.

    Raises:
        FileNotFoundError: a model is not in `models`.
    """
    cleaned = [clean_item(item) for item in items]
    notes: list[str] = []
    pictures, sounds, spoken = _Rows(), _Rows(), _Rows()
    image_encoder = module("image_encoder", "encoder").Encoder(str(models / "image_encoder"))
    audio_encoder = module("audio_encoder", "encoder").Encoder(str(models / "audio_encoder"))
    recognizer = module("speech_recognizer", "recognizer").Recognizer(str(models / "speech_recognizer"))
    preparer = Preparer(media)
    said: dict[int, str] = {}
    try:
        for i, outcome in enumerate(preparer.prepare_many(item.media for item in cleaned)):
            tick("pictures, sounds and speech", i, len(cleaned))
            if isinstance(outcome, MediaError):
                notes.append(f"{cleaned[i].item_id}: {outcome}")
                continue
            _see(i, outcome, image_encoder, pictures)
            _hear(i, outcome, audio_encoder, sounds)
            if outcome.speech is not None and len(outcome.speech) >= LEAST_SPEECH:
                text = recognizer.recognize([outcome.speech])["TEXT"][0, 0].decode().strip()
                if text:
                    said[i] = text
    finally:
        preparer.close()
    # What no item has is probed with a blank: the model must have its place for it all the same.
    blank_image = image_encoder.embed([np.full((224, 224, 3), 128, np.uint8)])
    blank_sound = audio_encoder.embed([np.zeros(44_100, np.float32)])
    text_encoder = module("text_encoder", "encoder").Encoder(str(models / "text_encoder"))
    texts = {
        i: text
        for i, item in enumerate(cleaned)
        if (text := encoder_text(item.title, item.categories, item.description, item.attributes))
    }
    width = text_encoder.embed(["a"]).shape[1]
    for kind, found in (("texts", texts), ("recognised speech", said)):
        tick(kind, 0, len(found))
        if kind == "texts":
            written = _texts(found, text_encoder)
        else:
            spoken.update(_texts(found, text_encoder))
    joint, embedding = blank_image["JOINT"].shape[1], blank_image["EMBEDDING"].shape[1]
    image_parts = (Part(joint, shared=joint == width), Part(embedding))
    audio_parts = (Part(blank_sound["EMBEDDING"].shape[1]), Part(blank_sound["MFCC"].shape[1], scaled=True))
    layout: Layout = {
        "text": (Part(width, shared=True),),
        "image": tuple(part for part in image_parts if part.size),
        "audio": audio_parts,
        "speech": (Part(width, shared=True),),
    }
    held = {"text": written, "image": pictures, "audio": sounds, "speech": spoken}
    inputs = {name: _array(held[name], len(items), sum(part.size for part in layout[name])) for name in MODALITIES}
    present = np.array([[i in held[name] for name in MODALITIES] for i in range(len(items))], bool)
    versions = {
        "text": text_encoder.version, "image": image_encoder.version, "audio": audio_encoder.version,
        "speech": f"{recognizer.version}+{text_encoder.version}",
    }  # fmt: skip
    return Features([item.item_id for item in items], inputs, present.reshape(-1, 4), layout, versions, notes)


class _Rows(dict[int, Vectors]):
    """Vectors by row."""


def _see(row: int, prepared: Prepared, encoder: Any, into: _Rows) -> None:
    if len(prepared.images):
        found = encoder.embed(list(prepared.images))
        into[row] = np.concatenate([_unit(found[part].mean(0)) for part in ("JOINT", "EMBEDDING")])


def _hear(row: int, prepared: Prepared, encoder: Any, into: _Rows) -> None:
    if prepared.sound is not None and len(prepared.sound) >= LEAST_SOUND:
        found = encoder.embed([prepared.sound])
        into[row] = np.concatenate([found["EMBEDDING"][0], found["MFCC"][0]])


def _texts(texts: Mapping[int, str], encoder: Any) -> _Rows:
    vectors = encoder.embed(list(texts.values())) if texts else ()
    return _Rows(zip(texts, vectors, strict=True))


def _array(rows: _Rows, n: int, width: int) -> Vectors:
    found = np.zeros((n, width), np.float32)
    for row, vector in rows.items():
        found[row] = vector
    return found


def _unit(vector: Vectors) -> Vectors:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def fused(fusion: Fusion, features: Features, modalities: Sequence[str] = MODALITIES) -> dict[int, Vectors]:
    """Row of `features` to float32 [d], by these modalities alone; rows without any of them are missing."""
    given = torch.from_numpy(features.present & np.array([name in modalities for name in MODALITIES]))
    with torch.inference_mode():
        vectors, _ = fusion({name: torch.from_numpy(rows) for name, rows in features.inputs.items()}, given)
    return {row: vectors[row].numpy() for row in range(len(features.items)) if bool(given[row].any())}


def save(features: Features, path: Path) -> None:
    """Write features to a safetensors file, whole or not at all."""
    from safetensors.numpy import save_file

    about = {
        "items": features.items,
        "layout": {name: [part.as_dict() for part in parts] for name, parts in features.layout.items()},
        "versions": features.versions,
        "notes": features.notes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    arrays = {name: np.ascontiguousarray(array) for name, array in features.inputs.items()}
    save_file(arrays | {"present": features.present.astype(np.uint8)}, draft, metadata={"about": json.dumps(about)})
    draft.replace(path)


def load(path: Path) -> Features:
    """Read what `save` wrote.

    Raises:
        FeaturesError: the file cannot be read, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            about = json.loads(file.metadata()["about"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        layout: Layout = {name: tuple(Part(**part) for part in parts) for name, parts in about["layout"].items()}
        present = arrays.pop("present").astype(bool)
        return Features(about["items"], arrays, present, layout, about["versions"], about["notes"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FeaturesError(f"{path} holds no features: {error}") from None
