"""Failures of the local stack: each message says what happened, why, and what to do."""

from __future__ import annotations


class StackError(Exception):
    """The local stack cannot do what was asked; the message says why and what to do."""


class PrerequisiteError(StackError):
    """Something that the local stack stands on is missing on this machine."""
