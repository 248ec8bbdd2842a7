"""Texts and references in; BLEU, ROUGE-L, METEOR, variety and word error rates out. Pure, and nothing is downloaded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

import numpy as np

from upwell.evaluation.content_measures import Measure
from upwell.training.examine import distinct, shape
from upwell.training.pairs import Lesson

NORMALISATION: Final = "NFKC, lower case, apostrophes dropped, other punctuation as spaces, numbers as they are written"
"""What both sides of a word error rate go through."""
_PUNCTUATION = re.compile(r"[^\w\s]|_")


class _NoThesaurus:
    """What NLTK asks for synonyms where there is no WordNet: it knows none, and the other stages remain."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def likeness(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[Measure]:
    """BLEU (of the corpus), ROUGE-L and METEOR (means over texts, each with its best reference).

    Args:
        references: for each text at least one.
    """
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    if not texts:
        return [Measure(key, None, lacking="no texts by the model") for key in ("bleu", "rouge_l", "meteor")]
    columns = [list(column) for column in zip_longest(*references)]  # None where a text has fewer
    bleu = float(sacrebleu.corpus_bleu(list(texts), columns).score)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = list(zip(texts, references, strict=True))
    rouge = [float(scorer.score_multi(list(given), text)["rougeL"].fmeasure) for text, given in pairs]
    n = len(texts)
    meteors, stages = _meteors(pairs)
    return [
        Measure("bleu", bleu, n),
        Measure("rouge_l", float(np.mean(rouge)), n),
        Measure("meteor", float(np.mean(meteors)), n, note=stages),
    ]


def _meteors(pairs: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[float], str]:
    """METEOR of each text, and which stages of matching there were."""
    from nltk.translate.meteor_score import meteor_score

    thesaurus, stages = _thesaurus()
    scores = [
        float(meteor_score([_words(reference) for reference in given], _words(text), wordnet=thesaurus))
        for text, given in pairs
    ]
    return scores, stages


def _thesaurus() -> tuple[Any, str]:
    import nltk

    try:
        nltk.data.find("corpora/wordnet")
    except LookupError:
        try:
            nltk.data.find("corpora/wordnet.zip")
        except LookupError:
            return _NoThesaurus(), "exact words and stems; no synonyms, for WordNet is not at hand"
    from nltk.corpus import wordnet

    return wordnet, "exact words, stems and WordNet's synonyms"


def variety(lessons: Sequence[Lesson]) -> list[Measure]:
    """distinct-n of the texts, and the number of sentence shapes, as `upwell train writer` counts them.

    `lessons`: each text with its facts and reasons.
    """
    keys = ("distinct_1", "distinct_2", "distinct_3", "shape_distinct_2", "shapes")
    if not lessons:
        return [Measure(key, None, lacking="no texts by the model") for key in keys]
    texts = [lesson.text.casefold() for lesson in lessons]
    shapes = [shape(lesson.text, lesson) for lesson in lessons]
    values = [*(distinct(texts, n) for n in (1, 2, 3)), distinct(shapes, 2), float(len(set(shapes)))]
    return [Measure(key, value, len(lessons)) for key, value in zip(keys, values, strict=True)]


def normalised(text: str) -> list[str]:
    """Words for a word error rate.

    >>> normalised("It's Sci-Fi, from “1979”.")
    ['its', 'sci', 'fi', 'from', '1979']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _PUNCTUATION.sub(" ", re.sub(r"['’]", "", folded)).split()


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Fewest words to insert, delete or replace (Levenshtein 1966) that make `said` of `heard`, and the words of `said`.

    >>> word_errors("Meet the pig.", "meet a big pig")
    (2, 3)
    """
    one, other = normalised(said), normalised(heard)
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        above, row = row, [i]
        for j, found in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != found)))
    return row[-1], len(one)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’-]\w+)*|[^\w\s]", text.casefold())
