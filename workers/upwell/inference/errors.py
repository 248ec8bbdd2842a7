"""What a model server's answer means for the caller."""

from __future__ import annotations


class InferenceUnavailable(Exception):
    """The model server or the model does not answer: infrastructure. Retry, or stop with offsets unmoved."""


class InferenceRejected(Exception):
    """The model refuses this input: bad data. Asking again gives the same answer."""
