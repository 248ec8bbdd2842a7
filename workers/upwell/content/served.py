"""Settings in; the clients of the models that write and judge texts out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from upwell.content.safety import Gate
from upwell.inference.generate import TextGenerator, TextWriter
from upwell.inference.safety import ImageSafety, TextSafety
from upwell.settings import ConfigError, GeneratorSettings, Settings

ATTEMPTS: Final = 2
"""The template answers soon enough."""


def writer_of(settings: Settings) -> TextWriter:
    """The generator that `generator.kind` names, waited for as long as the settings say. Close it.

    Raises:
        ConfigError: its client is not installed, or the file of its key cannot be read.
    """
    triton, own, in_flight = settings.triton, settings.generator, settings.content.batch
    timeout_s, url, model = triton.generate_timeout_s, own.url or triton.url, own.model or triton.text_generator
    if own.kind == "triton":
        return TextGenerator(
            url, model=model, timeout_s=timeout_s, options=triton.options, in_flight=in_flight, attempts=ATTEMPTS
        )
    if own.kind == "openai":
        from upwell.inference.generate_openai import OpenAiGenerator

        return OpenAiGenerator(
            url, model, api_key=_key(own), timeout_s=timeout_s, max_tokens_field=own.max_tokens_field, stop=own.stop,
            options=own.options, in_flight=in_flight, attempts=ATTEMPTS,
        )  # fmt: skip
    from upwell.inference.generate_text_input import Dialect, TextInputGenerator

    return TextInputGenerator(
        url, model, Dialect(own.kind), timeout_s=timeout_s, chat_format=own.chat_format, channel=triton.options,
        stop=own.stop, options=own.options, in_flight=in_flight, attempts=ATTEMPTS,
    )  # fmt: skip


def _key(own: GeneratorSettings) -> str:
    if not own.api_key_file:
        return own.api_key.get_secret_value()
    try:
        return Path(own.api_key_file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"generator.api_key_file: {error}") from error


def gate_of(settings: Settings) -> Gate:
    """The gate with its judges of texts and pictures. Close it."""
    triton = settings.triton
    return Gate(
        settings.content,
        TextSafety(triton.url, model=triton.text_safety, timeout_s=triton.make_timeout_s, options=triton.options),
        ImageSafety(triton.url, model=triton.image_safety, timeout_s=triton.make_timeout_s, options=triton.options),
    )
