"""float32 matrices to and from pgvector's binary form, without a Python object per number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format


class VectorArray:
    """A [n, d] float32 matrix as a parameter of type `vector[]`; cast it in the statement."""

    def __init__(self, matrix: NDArray[np.float32]) -> None:
        self.matrix = matrix


class _VectorArrayDumper(Dumper):
    format = Format.BINARY
    oid = 0  # the statement's cast says the type

    def dump(self, obj: VectorArray) -> bytes:
        matrix = np.ascontiguousarray(obj.matrix, ">f4")
        count, dimension = matrix.shape
        # Array header: dimensions, no nulls, element type (looked up at connect), length, lower bound.
        header = np.array([1, 0, _oid(self.connection), count, 1], ">i4").tobytes()
        row = np.dtype([("bytes", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", ">f4", (dimension,))])
        rows = np.zeros(count, row)
        rows["bytes"] = 4 + 4 * dimension
        rows["dimension"] = dimension
        rows["values"] = matrix
        return header + rows.tobytes()


def _oid(connection: object) -> int:
    assert isinstance(connection, Connection)
    info = connection.adapters.types.get("vector")
    assert info is not None, "pgvector's types are registered at connect"
    return info.oid


def register(connection: Connection[object]) -> None:
    connection.adapters.register_dumper(VectorArray, _VectorArrayDumper)


def vector(sent: bytes) -> NDArray[np.float32]:
    """[d] float32 from what `vector_send` gives."""
    return np.frombuffer(sent, ">f4", offset=4).astype(np.float32)
