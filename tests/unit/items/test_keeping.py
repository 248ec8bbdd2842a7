"""What is stored of embedded items: their media in the store, by their own hash; near-duplicates marked."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest

from media_files import image_file
from upwell.events.contracts import Item, Media
from upwell.items.keeping import Keeper, mark_near_duplicates
from upwell.media.errors import MediaRejected
from upwell.media.fetch import Fetcher
from upwell.media.store import open_store
from upwell.settings import MediaSettings
from upwell.store.items import Embedding, ItemRow, Place

PICTURE = image_file("PNG")


def row(item: Item, **perceived: object) -> ItemRow:
    return ItemRow(item, Place(0, 0), Embedding(np.ones(2, np.float32), {"text": 1.0}, perceived), {}, 1.0)


def kept(media: list[Media], settings: MediaSettings) -> list[Media]:
    keeper = Keeper(open_store(settings), settings.max_bytes)
    try:
        first, again = (keeper.keep([row(Item("a", media=media))])[0].item.media for _ in range(2))
    finally:
        keeper.close()
    assert first == again
    return first


def test_inline_media_lie_in_the_store_and_can_be_read_from_there(tmp_path: Path) -> None:
    settings = MediaSettings(store=f"file://{tmp_path}", schemes=[])
    encoded = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    media = kept(
        [
            Media("image", data=PICTURE, mime="image/png"),
            Media("image", uri=encoded, mime="image/png"),
            Media("image", data=b"<script>", mime="text/html"),
            Media("image", uri="https://example.org/a.png"),
        ],
        settings,
    )
    sha256 = hashlib.sha256(PICTURE).hexdigest()
    uri = f"file://{tmp_path}/{sha256[:2]}/{sha256}.png"
    assert media[:2] == [Media("image", uri=uri, mime="image/png")] * 2
    assert (media[2].uri or "").endswith(".bin")
    assert media[3] == Media("image", uri="https://example.org/a.png")
    fetcher = Fetcher(settings)
    try:
        assert fetcher.fetch(media[0]) == PICTURE
        # Nothing else of that folder, and nothing whose bytes were changed.
        (tmp_path / "secret.png").write_bytes(PICTURE)
        with pytest.raises(MediaRejected, match=r"no such file"):
            fetcher.fetch(Media("image", uri=f"file://{tmp_path}/secret.png"))
        Path(uri.removeprefix("file://")).write_bytes(PICTURE[::-1])
        with pytest.raises(MediaRejected, match="changed or cut"):
            fetcher.fetch(media[0])
    finally:
        fetcher.close()


def test_without_a_store_and_beyond_the_limit_no_bytes_are_kept(tmp_path: Path) -> None:
    piece = Media("image", data=PICTURE, mime="image/png")
    broken = Media("image", uri="data:image/png;base64,%%%")
    assert kept([piece, broken], MediaSettings()) == [Media("image", mime="image/png"), Media("image")]
    small = MediaSettings(store=f"file://{tmp_path}", max_bytes=8)
    assert kept([piece, broken], small) == [Media("image", mime="image/png"), Media("image")]
    assert not list(tmp_path.iterdir())


def test_the_store_of_the_local_stack_is_found_by_items_and_content_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_store(MediaSettings()) is None
    monkeypatch.setenv("UPWELL_STACK", str(tmp_path))
    store = open_store(MediaSettings())
    assert store is not None
    assert store.put(PICTURE, "image/png").uri.startswith(f"file://{tmp_path}/media/")


def test_near_duplicates_are_marked_and_none_is_left_out() -> None:
    text = "a story of seven people who meet in a small house at the end of the road and tell each other of the sea"
    rows = [
        row(Item("a", title=text)),
        row(Item("b", title=text.upper() + "!"), labels=["sea"]),
        row(Item("c", title="another story"), duplicate_of="gone"),
        row(Item("d")),
        row(Item("e")),
    ]
    marked, count = mark_near_duplicates(rows)
    assert count == 1
    assert [found.embedding.perceived for found in marked] == [{}, {"labels": ["sea"], "duplicate_of": "a"}, {}, {}, {}]
    assert [found.item for found in marked] == [found.item for found in rows]
