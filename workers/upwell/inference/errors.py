"""What a model server's answer means for the caller."""

from __future__ import annotations


class InferenceError(Exception):
    """A model could not answer."""


class InferenceUnavailable(InferenceError):
    """The model server or the model does not answer: infrastructure. Retry, or stop with offsets unmoved."""


class InferenceRejected(InferenceError):
    """The model refuses this input: bad data. Asking again gives the same answer."""


class ModelChanged(InferenceError):
    """Another model answers under the same name than before. Vectors of two models must not be mixed: restart."""
