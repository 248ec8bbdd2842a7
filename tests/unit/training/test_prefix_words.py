"""Names of things without pictures: near to what names things, and without the words that are barred."""

from __future__ import annotations

import numpy as np

from upwell.training.prefix_words import Words, texts_alone, whole_words

THINGS = ("cat", "dog", "owl", "hat", "cup", "red", "big")


def embed(texts):
    """Things lie near each other, other words elsewhere."""
    rows = []
    for text in texts:
        row = np.zeros(9)
        for word in text.split():
            if word in THINGS:
                row[THINGS.index(word)] += 1
                row[7] += 1
            else:
                row[8] += 1
        rows.append(row / np.linalg.norm(row))
    return np.array(rows, np.float32)


def test_words_are_whole_and_of_letters():
    tokens = ["cat", "##s", "▁dog", "Ġowl", "of", "1998", "café", "[PAD]", "cat"]
    assert whole_words(tokens) == ["cat", "dog", "owl"]


def test_names_of_things_are_chosen_and_titles_varied():
    vocabulary = ["although", "cat", "dog", "hat", "owl", "perhaps", "red"]
    words = Words(single=5, varied=20, paired=10, repeated=2, seed=1)
    texts, meanings = texts_alone(["red cat", "big dog"], ["cup"], vocabulary, embed, words)
    assert len(texts) == len(meanings) == 5 + 20 + 10 + 2 * 3
    assert set(texts[:5]) == {"cat", "dog", "hat", "owl", "red"}
    assert any(text not in ("red cat", "big dog") for text in texts[5:25])
    np.testing.assert_allclose(np.stack([embed([text])[0] for text in texts]), meanings)
    assert texts == texts_alone(["red cat", "big dog"], ["cup"], vocabulary, embed, words)[0]


def test_barred_words_are_in_no_name_but_the_titles():
    words = Words(single=5, varied=20, paired=10, repeated=1, seed=1)
    barred = frozenset({"owl", "cup"})
    texts, _ = texts_alone(["red cat"], ["cup", "hat"], ["cat", "dog", "owl", "hat"], embed, words, barred)
    assert not {word for text in texts for word in text.split()} & barred
    assert "hat" in texts
