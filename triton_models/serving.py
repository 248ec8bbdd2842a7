"""Many requests in, one answer each out, computed together. Every encoder's folder links to this file.

What one request got wrong is that request's error; its neighbours in the batch are answered.
"""

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils

REFUSED = "refused: "
"""What the message begins with: between models, only the message arrives."""


class Refused(ValueError):
    """An input that the model does not take; the message goes to whoever sent it."""


def settings(args):
    """The parameters of config.pbtxt, by name."""
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return {key: value["string_value"] for key, value in parameters.items()}


def threads(given):
    """Threads of the model: $UPWELL_ENCODER_THREADS, else its parameter, else 1."""
    return int(os.environ.get("UPWELL_ENCODER_THREADS") or given.get("threads") or 1)


def array(request, name):
    """An input tensor as an array."""
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def check_audio(rows, rate, least, max_seconds):
    """Raises Refused unless float32 [n, samples] is sound that a model can take."""
    samples = rows.shape[-1]
    if samples < least:
        raise Refused(f"AUDIO has {samples} samples: at least {least} ({least / rate:g} s at {rate} Hz) are needed")
    if samples > max_seconds * rate:
        raise Refused(f"AUDIO is {samples / rate:.1f} s long at {rate} Hz: at most {max_seconds:g} s are possible")
    if not np.isfinite(rows).all():
        raise Refused("AUDIO holds values that are not finite numbers")


def column(text, rows):
    """A text in every row: BYTES [rows, 1]."""
    return np.full((rows, 1), text.encode(), dtype=np.object_)


def answer(requests, read, work):
    """Triton's responses, one per request and in their order.

    read: request -> list of rows; raises Refused. work: list of n rows -> {output: array [n, ...]}.
    """
    responses = [None] * len(requests)
    rows, owners = [], []
    for i, request in enumerate(requests):
        try:
            found = read(request)
        except Refused as refusal:
            responses[i] = refuse(refusal)
            continue
        owners.append((i, len(rows), len(found)))
        rows += found
    if not rows:
        return responses
    try:
        _fill(responses, owners, work(rows))
    except Exception as error:
        if len(owners) == 1:
            responses[owners[0][0]] = _failed(error)
            return responses
        # One of them broke the batch: each for itself.
        for i, start, count in owners:
            try:
                _fill(responses, [(i, 0, count)], work(rows[start : start + count]))
            except Exception as alone:
                responses[i] = _failed(alone)
    return responses


def _fill(responses, owners, outputs):
    for i, start, count in owners:
        part = slice(start, start + count)
        responses[i] = pb_utils.InferenceResponse([pb_utils.Tensor(n, value[part]) for n, value in outputs.items()])


def _failed(failure):
    # Asking again would fail the same way: for the client that is an input refused.
    return refuse(f"{type(failure).__name__}: {failure}")


def refuse(reason):
    """A response to an input that would be refused again."""
    problem = pb_utils.TritonError(f"{REFUSED}{reason}", pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(error=problem)
