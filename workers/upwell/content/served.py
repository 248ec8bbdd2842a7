"""Settings in; the clients of the models that write and judge texts out."""

from __future__ import annotations

from upwell.content.safety import Gate
from upwell.inference.generate import TextGenerator
from upwell.inference.safety import ImageSafety, TextSafety
from upwell.settings import Settings


def writer_of(settings: Settings) -> TextGenerator:
    """The generator, waited for as long as the settings say. Close it."""
    triton = settings.triton
    return TextGenerator(
        triton.url,
        model=triton.text_generator,
        timeout_s=triton.generate_timeout_s,
        options=triton.options,
        in_flight=settings.content.batch,
        attempts=2,  # the template answers soon enough
    )


def gate_of(settings: Settings) -> Gate:
    """The gate with its judges of texts and pictures. Close it."""
    triton = settings.triton
    return Gate(
        settings.content,
        TextSafety(triton.url, model=triton.text_safety, timeout_s=triton.make_timeout_s, options=triton.options),
        ImageSafety(triton.url, model=triton.image_safety, timeout_s=triton.make_timeout_s, options=triton.options),
    )
