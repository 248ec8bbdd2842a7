"""Wire bytes to contracts and back. A record that cannot be read raises `DecodeError` with a reason for people.

JSON is the format on the wire; decoders are built once per contract.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

encode = msgspec.json.Encoder().encode


class DecodeError(ValueError):
    """The record is not valid JSON of the contract."""


@cache
def decoder(contract: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(contract)


def decode(contract: type[T], raw: bytes) -> T:
    """Decode one record.

    Raises:
        DecodeError: with the field and what is wrong with it.
    """
    try:
        found: T = decoder(contract).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from None
    return found
