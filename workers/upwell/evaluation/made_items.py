"""A seed in; items with a text and a small picture each, and clicks on some of them, out. The same seed, the same items."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from upwell.events.contracts import Interaction, Item, Media

SIDE: Final = 256
"""Pixels of a picture."""
PLACES: Final = np.arange(SIDE)
WORDS: Final = np.array(
    "amber anchor apple arrow basket beacon bell bicycle bottle bridge bronze candle canvas castle cedar chair chalk cherry"
    " circus clock cloud cobalt comet copper coral cotton crane crystal dance desert drum eagle ember fabric feather fern"
    " field flute forest fountain garden glass granite guitar harbour hazel honey horizon island ivory jacket jasmine kettle"
    " lamp lantern leather lemon linen lunar maple marble meadow mirror mosaic mountain needle night oak ocean olive orchid"
    " paper pearl pepper piano pine planet plum pocket quartz rain raven ribbon river road rose saddle saffron sail silver"
    " sketch smoke snow sparrow spring stone storm sugar summer table tea thunder tiger timber trail valley velvet violet"
    " violin walnut water willow window winter wood wool".split()
)
KINDS: Final = np.array(["kitchen", "music", "garden", "travel", "books", "toys", "clothes", "art"])


def made_items(count: int, folder: Path, seed: int, prefix: str = "item-") -> Iterator[Item]:
    """Items whose pictures are written to `folder`: smooth colours and a shape, JPEG of 256 x 256 pixels, some 5 KB."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        item_id = f"{prefix}{number:06d}"
        path = folder / f"{item_id}.jpg"
        path.write_bytes(_picture(rng))
        words = rng.choice(WORDS, 24)
        yield Item(
            item_id,
            title=" ".join(words[:3]).capitalize(),
            description=f"{' '.join(words[3:14])}, {' '.join(words[14:])}.".capitalize(),
            language="en",
            categories=[str(kind) for kind in rng.choice(KINDS, 2, replace=False)],
            media=[Media("image", uri=path.as_uri(), mime="image/jpeg")],
        )


def _picture(rng: np.random.Generator) -> bytes:
    smooth = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    x, y, radius = rng.integers(15, 200, 3).tolist()
    pixels = np.asarray(smooth).copy()
    pixels[(PLACES - x) ** 2 + (PLACES[:, None] - y) ** 2 < radius**2] = rng.integers(0, 256, 3, dtype=np.uint8)
    into = io.BytesIO()
    Image.fromarray(pixels).save(into, "JPEG", quality=85)
    return into.getvalue()


def made_clicks(count: int, item_ids: list[str], users: int, begin_ms: int, seed: int) -> Iterator[Interaction]:
    """Clicks of users on items, a millisecond apart."""
    rng = np.random.default_rng(seed)
    for number, (user, item) in enumerate(
        zip(rng.integers(0, users, count).tolist(), rng.integers(0, len(item_ids), count).tolist(), strict=True)
    ):
        yield Interaction(f"click-{seed}-{number}", f"user-{user}", "click", begin_ms + number, item_ids[item])
