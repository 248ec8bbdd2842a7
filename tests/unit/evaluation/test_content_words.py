"""The second judge goes by rare words that a text shares with what its user liked."""

from __future__ import annotations

import numpy as np

from upwell.evaluation.content_words import vectors
from upwell.events.hashing import key64
from upwell.store.published import Entry

CATALOGUE = [
    Entry("alien", "Alien", ["Horror"], {"director": "Ridley Scott"}),
    Entry("fargo", "Fargo", ["Crime"], {"director": "Joel Coen"}),
    Entry("heat", "Heat", ["Crime"], {"director": "Michael Mann"}),
]


def test_a_text_is_closer_to_who_liked_what_it_speaks_of() -> None:
    liked = {
        "ann": {key64("alien"): 1.0, key64("heat"): -1.0},
        "bob": {key64("fargo"): 1.0, key64("gone"): 1.0},
        "eve": {key64("heat"): -1.0},
    }
    texts, users = vectors(
        ["More by Ridley Scott, after Alien.", "A crime film by Joel Coen.", "Nothing."], CATALOGUE, liked
    )
    assert users.keys() == {"ann", "bob"}
    cosines = texts @ np.stack([users["ann"], users["bob"]]).T
    assert cosines[0, 0] > 0 == cosines[0, 1]
    assert cosines[1, 1] > 0 == cosines[1, 0]
    assert not cosines[2].any()
