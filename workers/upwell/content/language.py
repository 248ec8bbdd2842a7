"""A text in, the language that its small words belong to out: enough to notice that a text is in the wrong one. Pure."""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = {
    "en": "the a an and of to in is it for with you your this that because if by from as was are on at one may should "
    "could here so since try not has have after",
    "de": "der die das und ist ein eine einen dem den des mit für von zu im auf nicht du dir dich dein sie es weil wenn "
    "auch aus nach wie als wird",
    "fr": "le la les un une et est de des du en pour avec vous votre tu ton que qui dans sur pas ce cette parce si au "
    "aux par comme plus",
    "es": "el la los las un una y es de del en para con tu te usted que por su se no si porque como más al lo le fue",
    "it": "il lo la gli le un una e è di del della in per con tu ti che non se perché come più al da sono anche",
    "pt": "o a os as um uma e é de do da em para com você que por seu se não porque como mais ao no na foi",
    "nl": "de het een en is van in voor met je jij jouw dat die niet als omdat om op te zijn ook naar uit aan",
}
SMALL_WORDS: Final = {language: frozenset(words.split()) for language, words in _WORDS.items()}
LETTERS: Final = re.compile(r"[^\W\d_]+")
_SCRIPTS: Final = (
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
)


def primary(tag: str) -> str:
    """`en` of `en-GB`; English where nothing is given."""
    return tag.replace("_", "-").split("-")[0].lower() or "en"


def detect(text: str) -> str:
    """ISO 639-1 code of the likeliest language, empty where there is no evidence or where two are equally likely.

    Small words for seven European languages, the script for others.
    """
    letters = sum(len(word) for word in LETTERS.findall(text))
    for language, script in _SCRIPTS:
        if len(script.findall(text)) * 2 > letters > 0:
            return language
    words = [word.lower() for word in LETTERS.findall(text)]
    counts = sorted(
        ((sum(w in small for w in words), language) for language, small in SMALL_WORDS.items()), reverse=True
    )
    (most, language), (second, _) = counts[0], counts[1]
    return language if most > second else ""
