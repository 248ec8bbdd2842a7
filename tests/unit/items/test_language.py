"""The language of a text is told where the text says enough, and an item that states one is believed."""

from __future__ import annotations

import io
import pickle

import pytest

from upwell.items.language import _Plain, language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("In space no one can hear you scream, and nobody comes to help.", "en"),
        ("Im Weltraum hört dich niemand schreien, und niemand kommt dir zu Hilfe.", "de"),
        ("Dans l'espace, personne ne vous entend crier, et personne ne vient.", "fr"),
        ("En el espacio nadie puede oír tus gritos, y nadie viene a ayudarte.", "es"),
        ("В космосе никто не услышит твой крик.", "ru"),
        ("宇宙では、あなたの悲鳴は誰にも聞こえない。", "ja"),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert language(text) == code


@pytest.mark.parametrize("text", ["", "Alien", "Alien (1979)", "1234567890 " * 10, "\ud800" * 50, "x" * 10])
def test_too_little_says_nothing(text: str) -> None:
    assert not language(text)


def test_the_item_is_believed() -> None:
    assert language("In space no one can hear you scream, and nobody comes.", "pt-BR") == "pt-BR"


def test_long_texts_cost_no_more() -> None:
    assert language("In space no one can hear you scream. " * 100_000) == "en"


def test_a_table_that_would_run_code_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"may hold no builtins\.print"):
        _Plain(io.BytesIO(pickle.dumps(print))).load()
