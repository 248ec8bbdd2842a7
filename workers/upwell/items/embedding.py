"""Cleaned items in; their features out. An item's vector is fixed per model version: profiles are sums of it, so a
changed text or picture changes what is shown, and the vector with the next model. What the encoder refuses is found by
halving, so that one bad item never holds up its batch. While a group is encoded the next one is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from upwell.events.contracts import Item
from upwell.inference.errors import InferenceRejected
from upwell.inference.features import Features, ItemEncoder, ItemInput
from upwell.items.cleaning import encoder_text
from upwell.media.errors import MediaRejected, MediaUnavailable

GROUP: Final = 256
"""Items that are encoded together: texts of like length share a call ..."""
GROUP_MEDIA: Final = 64
"""... as long as no more of them have pictures or sounds, two calls of the encoder, ..."""
GROUP_BYTES: Final = 64 * 2**20
"""... and these are no more than this. Two groups are held, one that is encoded and one that
is read: a flood of items is no flood of memory."""
LOOK_S: Final = 1.0
"""Longest time between two looks at what else there is to do."""

Input = ItemInput | MediaRejected | MediaUnavailable
Read = Callable[[Sequence[Item]], Iterable[Input]]
"""What the encoder reads of each item, in their order, or why it cannot be had."""


def no_more() -> None:
    """Nothing else is to be done meanwhile."""


def text_only(items: Sequence[Item]) -> Iterable[Input]:
    """What is written about items, and nothing else of them."""
    for item in items:
        text = text_of(item)
        yield ItemInput(text) if text else MediaRejected("it has media alone, and items.modalities says text alone")


def text_of(item: Item) -> str:
    return encoder_text(item.title, item.categories, item.description, item.attributes)


@dataclass(slots=True)
class Newest:
    """`counting` has, by item id, the index of the record that counts; `refused` (item id, index, step, why) of newer
    ones; step is `media` or `encode`."""

    counting: dict[str, int]
    features: dict[str, Features]
    refused: list[tuple[str, int, str, str]]


def embed_newest(
    records: Mapping[str, Sequence[Item]],
    known: dict[str, Features],
    encoder: ItemEncoder,
    read: Read = text_only,
    meanwhile: Callable[[], None] = no_more,
) -> Newest:
    """Of each item's records, oldest first, the newest one that deletes it or that the encoder takes; embedded.

    Args:
        known: features of the encoder's model version, by item id; what is embedded is added, so that a repetition does
            only what is left.
        meanwhile: called again and again, after every item and at least about once a second while the encoder works.

    Raises:
        InferenceUnavailable, MediaUnavailable: not everything was decided; repeat it.
    """
    counting = {item_id: len(items) - 1 for item_id, items in records.items()}
    refused: list[tuple[str, int, str, str]] = []
    undecided = list(counting)
    while undecided:
        newest = [records[item_id][counting[item_id]] for item_id in undecided]
        undecided = []
        remaining = [item for item in newest if item.op != "delete"]
        for item_id, (step, why) in embed(remaining, known, encoder, read, meanwhile).items():
            refused.append((item_id, counting[item_id], step, why))
            counting[item_id] -= 1
            if counting[item_id] < 0:
                del counting[item_id]
            else:
                undecided.append(item_id)
    return Newest(counting, known, refused)


def embed(
    items: Sequence[Item],
    known: dict[str, Features],
    encoder: ItemEncoder,
    read: Read = text_only,
    meanwhile: Callable[[], None] = no_more,
) -> dict[str, tuple[str, str]]:
    """Embed items, each id once, into `known`; those that are there already stay as they are.

    Args:
        meanwhile: as in `embed_newest`; what it raises ends this, once the group in hand is encoded.

    Returns:
        Step and reason of those that were refused, by item id.

    Raises:
        InferenceUnavailable: the encoder does not answer.
        MediaUnavailable: some media cannot be fetched now; everything else has been embedded.
    """
    refused: dict[str, tuple[str, str]] = {}
    missing: MediaUnavailable | None = None
    fresh = [item for item in items if item.item_id not in known]
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as thread:
        at_work: Future[None] | None = None

        def submit(group: list[tuple[str, ItemInput]]) -> Future[None]:
            if at_work is not None:
                _await(at_work, meanwhile)
            return thread.submit(_encode, group, encoder, known, refused)

        group: list[tuple[str, ItemInput]] = []
        size = with_media = 0
        for item, found in zip(fresh, read(fresh), strict=True):
            meanwhile()
            if isinstance(found, MediaRejected):
                refused[item.item_id] = ("media", str(found))
            elif isinstance(found, MediaUnavailable):
                missing = missing or found
            else:
                if group and (len(group) == GROUP or with_media == GROUP_MEDIA or size + found.nbytes > GROUP_BYTES):
                    at_work = submit(group)
                    group, size, with_media = [], 0, 0
                group.append((item.item_id, found))
                size += found.nbytes
                with_media += found.nbytes > 0
        if group:
            at_work = submit(group)
        if at_work is not None:
            _await(at_work, meanwhile)
    if missing is not None:
        raise missing
    return refused


def _await(work: Future[None], meanwhile: Callable[[], None]) -> None:
    while not wait([work], LOOK_S).done:
        meanwhile()
    work.result()


def _encode(
    group: Sequence[tuple[str, ItemInput]],
    encoder: ItemEncoder,
    known: dict[str, Features],
    refused: dict[str, tuple[str, str]],
) -> None:
    try:
        encoded = encoder.encode([found for _, found in group])
    except InferenceRejected as error:
        if len(group) == 1:
            refused[group[0][0]] = ("encode", str(error))
            return
        middle = len(group) // 2
        _encode(group[:middle], encoder, known, refused)
        _encode(group[middle:], encoder, known, refused)
    else:
        known.update((item_id, features) for (item_id, _), features in zip(group, encoded, strict=True))
