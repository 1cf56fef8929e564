"""What crosses the line between a client and an engine process that makes vectors."""

from __future__ import annotations

import msgspec


class PoolingRequest(msgspec.Struct, omit_defaults=True):
    """One sequence to make a vector or a score of.

    Attributes:
        request_id: unique among the requests that the engine holds.
        type_ids: type of each token; None if all are of type 0.
        dimensions: numbers of the vector that are wanted; None is all.
        use_activation: scale the vector to length 1, or give the score through the model's activation.
    """

    request_id: str
    token_ids: list[int]
    type_ids: list[int] | None = None
    dimensions: int | None = None
    use_activation: bool = False


class AddPoolingRequests(msgspec.Struct, tag="add_pooling"):
    """Requests to start."""

    requests: list[PoolingRequest]


class PooledVector(msgspec.Struct, array_like=True):
    """The result of one request.

    Attributes:
        data: the vector, or the one number of a score, as float32 in the machine's byte order.
    """

    request_id: str
    data: bytes
