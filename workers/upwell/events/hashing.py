"""The 64-bit keys under which events and items are stored: xxh3, the same on every machine and in every release."""

from __future__ import annotations

import xxhash


def key64(text: str) -> int:
    """Unsigned 64-bit xxh3 of the UTF-8 bytes of `text`."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def arm(format_: str, framing: str = "") -> str:
    """What is learned about together: a format, and what the prompt tells where that was chosen too.

    >>> arm("poster", "taste")
    'poster-taste'
    """
    return f"{format_}-{framing}" if framing else format_


def parts_of(arm: str) -> tuple[str, str]:
    """Format and framing of an arm; the framing is empty where none was chosen."""
    format_, _, framing = arm.partition("-")
    return format_, framing


def content_id(trigger_id: str, arm: str) -> str:
    """A content's id: its trigger's hash and its arm, so that feedback to it says what it was."""
    return f"{identifier('content', trigger_id)}.{arm}"


def arm_of(content_id: str) -> str:
    """The arm that a content's id names; empty where it is none of ours."""
    return content_id.rpartition(".")[2] if "." in content_id else ""


def identifier(*parts: str) -> str:
    """A 128-bit hexadecimal id that is a function of its parts: the same cause gives the same id again."""
    return xxhash.xxh3_128_hexdigest("\x1f".join(parts).encode("utf-8", "surrogatepass"))
