"""What can be measured of published content: each measure's name, meaning and source, and a value or why there is none.

What a deployment lacks is a measure without a value, never a 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

Z95: Final = 1.959964
"""Of the standard normal distribution: 95% lie within."""


@dataclass(frozen=True, slots=True)
class About:
    """What a measure says."""

    group: str
    title: str
    meaning: str
    source: str = ""
    """The paper or document of its formula."""
    form: str = "share"
    """How a value is shown: `share`, `number`, `count` or `dB`."""
    target: float | None = None
    """At least this is asked for."""


ABOUT: Final[dict[str, About]] = {
    "model_texts": About("Texts", "Texts by the model", "Among the contents looked at.", form="count"),
    "model_share": About("Texts", "Share by the model", "Of published contents; the others come from a template."),
    "triggers_ended_by_model": About(
        "Texts", "Occasions that end with a model's text",
        "Of all ended occasions, skipped ones included, by the outcomes in the committed offsets.", target=0.7,
    ),
    "answered_by_model": About(
        "Texts", "... of those answered at all", "The same without those skipped to keep up, or gone."
    ),
    "candidates_refused": About(
        "Texts", "Candidates refused", "Of the candidate texts of the contents looked at, those that the check or the gate refused.",
    ),
    "bleu": About(
        "Likeness to references", "BLEU", "Overlap of 1- to 4-grams with the references, 0 to 100.",
        "Papineni et al. 2002; sacrebleu, Post 2018", "number",
    ),
    "rouge_l": About(
        "Likeness to references", "ROUGE-L", "F-measure of the longest common subsequence, best reference, stemmed.", "Lin 2004",
    ),
    "meteor": About(
        "Likeness to references", "METEOR", "Weighted harmonic mean of matched words with a penalty for scatter, best reference.",
        "Banerjee and Lavie 2005; NLTK",
    ),
    "distinct_1": About("Variety", "distinct-1", "Different words as a share of all.", "Li et al. 2016"),
    "distinct_2": About("Variety", "distinct-2", "Different word pairs as a share of all.", "Li et al. 2016"),
    "distinct_3": About("Variety", "distinct-3", "Different word triples as a share of all.", "Li et al. 2016"),
    "shape_distinct_2": About(
        "Variety", "distinct-2 of shapes", "The same with every fact replaced by its kind: how varied the sentences are.",
        "Li et al. 2016",
    ),
    "shapes": About("Variety", "Sentence shapes", "Different texts once every fact is replaced by its kind.", form="count"),
    "faithful": About(
        "Faithfulness", "No unsupported fact",
        "Texts in which a second look at the facts in Postgres finds no title, name, number, kind or role that they lack.",
        target=0.95,
    ),
    "planted_found": About(
        "Faithfulness", "... planted inventions found",
        "The same texts with a year, person, kind or title of another item put in: how many of them the second look finds.",
    ),
    "passes_check": About(
        "Faithfulness", "Pass the worker's own check", "The same texts, by the check that let them through when they were written.",
    ),
    "reason_in_history": About(
        "Faithfulness", "Told reasons that are true",
        "Of texts that name an item as liked, those whose user has an event of positive weight with it in the stored history.",
    ),
    "closer_to_own": About(
        "Personalisation", "Closer to its user's profile",
        "Of pairs of users (A, B), drawn at random: the text for A has the larger cosine with A's profile than with B's.",
        target=0.7,
    ),
    "closer_to_own_all": About("Personalisation", "... over all pairs", "The same, every other user being asked: no luck in the draw."),
    "closer_to_own_centred": About(
        "Personalisation", "... what all share taken off",
        "The same as the first after the mean profile and the mean text are taken off: likeness to an average user helps nobody.",
    ),
    "closer_to_own_item": About(
        "Personalisation", "... by the item alone",
        "The same with the item's stored vector in place of the text: what the choice of the item achieves.",
    ),
    "closer_to_own_words": About(
        "Personalisation", "... by words, not by the encoder",
        "The same by another judge: tf-idf of the text and of what is known of the items that the user liked. No shared word: no hit.",
        "Salton and Buckley 1988; scikit-learn",
    ),
    "right_user_of_ten": About(
        "Personalisation", "Right text among ten",
        "Asked with a user's profile, the judge finds that user's text among ten, nine of them of others; chance is 10%.",
    ),
    "poster_ssim": About(
        "Pictures", "SSIM of posters", "Structure kept of the item's picture above the lettering; the style is meant to change it.",
        "Wang et al. 2004", "number",
    ),
    "poster_psnr": About("Pictures", "PSNR of posters", "The same as a peak signal-to-noise ratio.", "", "dB"),
    "poster_frechet": About(
        "Pictures", "Fréchet distance to item pictures",
        "Between normal distributions fitted to the image encoder's embeddings; like FID, with another network.",
        "Heusel et al. 2017", "number",
    ),
    "poster_frechet_floor": About(
        "Pictures", "... between two sets of item pictures", "What the same measure gives for the same kind of pictures: its floor.",
        "", "number",
    ),
    "speech_wer": About(
        "Speech", "Word error rate of the speech read back",
        "Words inserted, deleted or replaced by the served recogniser, as a share of the text's words.", "Levenshtein 1966",
    ),
    "speech_exact": About("Speech", "Read back without an error", "Recordings with a word error rate of 0."),
    "nsfw_mean": About("Safety", "Posters: not safe for work, mean", "Mean probability by the served judge of pictures."),
    "nsfw_largest": About("Safety", "... largest", "Largest probability."),
    "nsfw_over_limit": About("Safety", "... over the limit", "Posters with a probability over content.max_nsfw."),
    "profanity_mean": About("Safety", "Texts: profane, mean", "Mean probability of the text's own words, facts cut out."),
    "profanity_largest": About("Safety", "... largest", "Largest probability."),
    "profanity_flagged": About("Safety", "... on the word list", "Texts with a word that the list knows."),
    "texts_refused_again": About(
        "Safety", "Published, and refused when judged again", "By the models and terms that guard the topic, with today's settings.",
    ),
    "requests_refused": About("Safety", "Requests refused", "Ended in the dead letters, of all ended occasions."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. `value` is None where it was not measured; `lacking` says why."""

    key: str
    value: float | None
    n: int = 0
    """What it was measured on."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95% interval, where there is one."""
    lacking: str = ""
    note: str = ""

    @property
    def about(self) -> About:
        return ABOUT[self.key]

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none, or no value."""
        target = self.about.target
        return None if target is None or self.value is None else self.value >= target

    def as_dict(self) -> dict[str, Any]:
        """For JSON: without what it does not have."""
        if self.value is None:
            return {"not_measured": self.lacking}
        found: dict[str, Any] = {"value": round(self.value, 4), "n": self.n}
        if self.low is not None and self.high is not None:
            found |= {"low": round(self.low, 4), "high": round(self.high, 4)}
        if self.reached is not None:
            found |= {"target": self.about.target, "reached": self.reached}
        return found | ({"note": self.note} if self.note else {})


def share(key: str, hits: int, n: int, lacking: str = "", note: str = "") -> Measure:
    """A share with its 95% interval (Wilson 1927); not measured where n is 0, because of `lacking`."""
    if not n:
        return Measure(key, None, lacking=lacking or "there are none")
    low, high = wilson(hits, n)
    return Measure(key, hits / n, n, low, high, note=note)


def missing(keys: list[str], why: str) -> list[Measure]:
    """Measures that could not be taken."""
    return [Measure(key, None, lacking=why) for key in keys]


def wilson(hits: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a binomial share, `hits` of n > 0 (Wilson 1927): within 0 and 1, also at its ends."""
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the bounds are the ends; rounding would leave them just within.
    return (max(0.0, middle - half) if hits > 0 else 0.0), (min(1.0, middle + half) if hits < n else 1.0)


def differ(hits: int, n: int, other_hits: int, others: int, z: float = Z95) -> bool:
    """Whether two shares differ: the interval of their difference does not hold 0 (Newcombe 1998, method 10)."""
    p1, p2 = hits / n, other_hits / others
    (l1, u1), (l2, u2) = wilson(hits, n, z), wilson(other_hits, others, z)
    low = p1 - p2 - math.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + math.hypot(u1 - p1, p2 - l2)
    return low > 0 or high < 0
