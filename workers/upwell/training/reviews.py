"""Made-up reviews of one thing, and what they say in one or two sentences: what the writer is taught of summaries.

One phrase in five is kept for the examination: no lesson holds it, and every question holds one. Pure and seeded.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from upwell.training.shapes import opened

Claims = tuple[tuple[str, ...], tuple[str, ...]]

_TIMES: Final[Claims] = (
    ("moves along well", "never lets up", "is just right", "keeps the tension high", "came as a surprise", "stayed with me",
     "is worth the wait", "had everyone laughing", "ties it all together"),
    ("is slow in places", "takes too long", "felt rushed", "drags after a while", "is over too soon", "goes on forever",
     "lost me", "feels unfinished", "is far too predictable"),
)  # fmt: skip
_TELLING: Final[Claims] = (
    ("is touching", "is told with care", "keeps you guessing", "is clever", "feels honest", "is gripping from the start",
     "works on several levels", "is easy to follow", "rings true", "made me think", "is full of ideas", "is very funny"),
    ("is hard to follow", "has few surprises", "falls apart near the end", "is thin", "goes nowhere", "makes little sense",
     "repeats itself", "is full of holes", "tries too hard", "is rather flat", "feels borrowed"),
)  # fmt: skip
_PLAYING: Final[Claims] = (
    ("is superb", "carries the whole thing", "steals every scene", "feels natural", "is a delight", "is very convincing",
     "brings real warmth", "has great chemistry"),
    ("is wooden", "is miscast", "never convinces", "deserves more room", "is wasted here", "overdoes it", "seems bored"),
)  # fmt: skip
_LOOKS: Final[Claims] = (
    ("is stunning", "is simple and neat", "is a joy to look at", "is lovely", "looks expensive", "is rich in detail",
     "looks even better up close", "is bright and clear", "matches the pictures"),
    ("is too dark", "looks cheap", "feels dated", "is plain", "is blurry at times", "looks nothing like the pictures",
     "fades quickly", "is too busy"),
)  # fmt: skip
_SOUNDS: Final[Claims] = (
    ("is clear and warm", "fits perfectly", "stays in your head", "fills the room", "gave me goosebumps", "is well balanced"),
    ("is too loud", "is forgettable", "is too quiet", "crackles now and then", "drowns out everything", "is out of tune"),
)  # fmt: skip
_MAKE: Final[Claims] = (
    ("feels solid", "is easy to clean", "holds up well", "is well made", "is better than expected", "is soft to the touch",
     "still looks new", "survived a fall", "is pleasantly light", "closes tightly", "stays cool"),
    ("broke after a week", "scratches easily", "is stiff at first", "came loose", "feels flimsy", "gets hot", "leaks a little",
     "is poor for the money", "smells odd", "wore out in a month", "is hard to clean"),
)  # fmt: skip
_USE: Final[Claims] = (
    ("is just right", "takes two minutes", "is fair", "is very helpful", "could not be easier", "was quick",
     "is a real bargain", "suits small hands"),
    ("is smaller than expected", "is too high", "takes an hour", "is confusing", "was late", "is missing a page",
     "runs large", "is only in German"),
)  # fmt: skip
_WORDS: Final[Claims] = (
    ("is a pleasure to read", "explains everything step by step", "is full of useful tips", "is well researched",
     "gets to the point", "is great for beginners", "is warm and witty"),
    ("is dry", "assumes too much", "has too many mistakes", "is padded out", "skips the hard parts", "is out of date"),
)  # fmt: skip
_SUBJECTS: Final[Sequence[tuple[Claims, tuple[str, ...]]]] = (
    (_TIMES, ("the pace", "the first half", "the middle", "the ending", "the last chapter", "the opening", "the finale")),
    (_TELLING, ("the story", "the plot", "the dialogue", "the script", "the mystery", "the romance", "the humour",
                "the idea", "the twist", "the narration")),
    (_PLAYING, ("the acting", "the cast", "the lead", "the villain", "the supporting cast", "the host", "the singer")),
    (_LOOKS, ("the design", "the camera work", "the scenery", "the animation", "the colour", "the cover", "the screen",
              "the lighting", "the pattern", "the artwork")),
    (_SOUNDS, ("the sound", "the music", "the soundtrack", "the singing", "the bass", "the recording")),
    (_MAKE, ("the quality", "the material", "the handle", "the lid", "the fabric", "the finish", "the strap", "the zip",
             "the battery", "the frame", "the seam", "the cable")),
    (_USE, ("the size", "the price", "the setup", "the delivery", "the manual", "the fit", "the packaging")),
    (_WORDS, ("the writing", "the translation", "the text", "the course", "the introduction", "the recipe",
              "the explanation")),
)  # fmt: skip
_REVIEWS: Final = (
    "{S} {V}.", "{S} {V}.", "I think {S} {V}.", "For me {S} {V}, and that is what counts.", "{S} {V}. I use it often.",
    "Bought it last month. {S} {V}.", "Honestly, {S} {V}.", "My sister says {S} {V}.", "{S} {V}!", "In my view {S} {V}.",
    "{S} {V}. That is all I can say.", "What can I say: {S} {V}.", "{S} {V}, if you ask me.", "No question, {S} {V}.",
    "It took a while, but now I know: {S} {V}.", "We all found that {S} {V}.", "{S} {V}. Thank you!",
)  # fmt: skip
_BOTH: Final = ("{S} {V} and {S2} {V2}.", "{S} {V}. Also, {S2} {V2}.", "I found that {S} {V} and {S2} {V2}.")
_UNLIKE: Final = ("{S} {V}, but {S2} {V2}.", "{S} {V}. On the other hand, {S2} {V2}.", "{S} {V}, though {S2} {V2}.")
_ALONE: Final = ("A reviewer says {A}.", "One reviewer finds that {A}.", "According to a reviewer, {A}.")
_ONE: Final = (
    "Reviewers say {A}.", "Reviews mention that {A}.", "According to reviewers, {A}.", "Reviewers agree that {A}.",
    "{A}, reviewers say.", "Those who reviewed it find that {A}.",
)  # fmt: skip
_TWO: Final = (
    "Reviewers say {A} and {B}.", "{A}, reviewers say, and {B}.", "Reviews mention that {A}; others say {B}.",
    "Some reviewers find {A}, and others say {B}.", "According to reviewers, {A} and {B}.", "{A} and {B}, say reviewers.",
    "Reviewers find that {A}. They also mention that {B}.", "One says {A}, another that {B}.",
)  # fmt: skip
_CONTRAST: Final = (
    "Reviewers say {A}, but {B}.", "{A}, reviewers say, while {B}.", "Opinions are mixed: {A}, but {B}.",
    "Reviewers agree that {A}; some add that {B}.", "{A}, though reviewers also say that {B}.",
    "Reviews are mixed: some say {A}, others that {B}.", "While {A}, reviewers also find that {B}.",
)  # fmt: skip
_MORE: Final = (" One adds that {C}.", " Also, {C}.", " Others mention that {C}.", " Some say that {C}.", "", "")
UNSEEN_ONE_IN: Final = 5


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says of a thing."""

    subject: str
    claim: str
    good: bool

    @property
    def clause(self) -> str:
        return f"{self.subject} {self.claim}"


def unseen(phrase: str) -> bool:
    """Whether a phrase is kept for the examination."""
    return zlib.crc32(phrase.encode()) % UNSEEN_ONE_IN == 0


def reviewed(title: str, rng: random.Random, *, examined: bool = False) -> tuple[tuple[str, ...], str]:
    """(reviews, summary). `examined`: of phrases that no lesson holds.

    A summary tells at most three things, the more often said ones first.
    """
    said = _said(rng.choice((1, 2, 2, 3, 3)), rng, examined)
    reviews = _written(said, rng)
    if rng.random() < 0.2:  # a title says nothing about what reviewers say: it is now and then among their words
        reviews[0] = f"{title}: {reviews[0]}"
    first, *rest = said
    if not rest:
        alone = rng.choice(_ALONE if len(reviews) == 1 else _ONE)
        return tuple(reviews), opened(alone.format(A=first.clause))
    together = rng.choice(_TWO if first.good == rest[0].good else _CONTRAST)
    text = together.format(A=first.clause, B=rest[0].clause)
    if len(rest) > 1:
        text += rng.choice(_MORE).format(C=rest[1].clause)
    return tuple(reviews), opened(text)


def _said(count: int, rng: random.Random, examined: bool) -> list[Said]:
    said: list[Said] = []
    while len(said) < count:
        claims, subjects = rng.choice(_SUBJECTS)
        good = rng.random() < 0.6
        subject, claim = rng.choice(subjects), rng.choice(claims[0] if good else claims[1])
        if (unseen(subject) or unseen(claim)) != examined:
            continue
        if all(subject != one.subject and claim != one.claim for one in said):
            said.append(Said(subject, claim, good))
    return said


def _written(said: Sequence[Said], rng: random.Random) -> list[str]:
    """One to five reviews, in any order, that say these things and no more."""
    reviews = []
    left = list(said)
    while left:
        first = left.pop()
        if left and rng.random() < 0.35:
            second = left.pop()
            shape = rng.choice(_BOTH if first.good == second.good else _UNLIKE)
            reviews.append(shape.format(S=first.subject, V=first.claim, S2=second.subject, V2=second.claim))
        else:
            reviews.append(rng.choice(_REVIEWS).format(S=first.subject, V=first.claim))
    if rng.random() < 0.5:
        again = said[0]
        reviews.append(rng.choice(_REVIEWS).format(S=again.subject, V=again.claim))
    rng.shuffle(reviews)
    return list(dict.fromkeys(opened(review) for review in reviews))
