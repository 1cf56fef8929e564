"""How requests are spread over replicas: one small class a policy, all deterministic for a seed.

A policy knows what a gateway could know: what it has sent where and what has come back, the input of a request, and how
full a replica's KV cache was after its last step.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from octavo.bench.traces import TraceRequest
from octavo.errors import ConfigError, nearest_name
from octavo.simulate.replica import Replica


class Balancer(Protocol):
    """Chooses a replica for each request, in the order of their arrival."""

    def choose(self, request: TraceRequest) -> Replica:
        """Return the replica that is to serve a request."""


class RoundRobin:
    """One after the other."""

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._turns = itertools.cycle(replicas)

    def choose(self, request: TraceRequest) -> Replica:
        return next(self._turns)


class Random:
    """Any, with equal chances."""

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._replicas = replicas
        self._random = random.Random(seed)

    def choose(self, request: TraceRequest) -> Replica:
        return self._random.choice(self._replicas)


class LeastOutstanding:
    """The one with the fewest requests that are not answered."""

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._replicas = replicas

    def choose(self, request: TraceRequest) -> Replica:
        return min(self._replicas, key=lambda replica: replica.num_outstanding)


class LeastTokens:
    """Join the shortest queue, measured in input and output tokens of the requests that are not answered."""

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._replicas = replicas

    def choose(self, request: TraceRequest) -> Replica:
        return min(self._replicas, key=lambda replica: replica.num_outstanding_tokens)


class LeastKV:
    """The one whose KV cache is the least used; of equal ones that with the fewest requests."""

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._replicas = replicas

    def choose(self, request: TraceRequest) -> Replica:
        return min(self._replicas, key=lambda replica: (replica.num_used_blocks, replica.num_outstanding))


class PrefixAffinity:
    """The one that served the longest known prefix of the request last, unless it is overloaded.

    Overloaded is one with more than twice the requests of the least loaded one and a few more. Without a known prefix
    it is the least loaded one.
    """

    _TOLERANCE = 4

    def __init__(self, replicas: Sequence[Replica], seed: int) -> None:
        self._least = LeastOutstanding(replicas, seed)
        self._owners: dict[int, Replica] = {}

    def choose(self, request: TraceRequest) -> Replica:
        chosen = self._least.choose(request)
        hash_ids = request.hash_ids or ()
        owner = next((self._owners[hash_id] for hash_id in reversed(hash_ids) if hash_id in self._owners), None)
        if owner is not None and owner.num_outstanding <= 2 * chosen.num_outstanding + self._TOLERANCE:
            chosen = owner
        self._owners.update(dict.fromkeys(hash_ids, chosen))
        return chosen


POLICIES: Mapping[str, Callable[[Sequence[Replica], int], Balancer]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-outstanding": LeastOutstanding,
    "least-tokens": LeastTokens,
    "least-kv": LeastKV,
    "prefix-affinity": PrefixAffinity,
}


def make_balancer(policy: str, replicas: Sequence[Replica], seed: int) -> Balancer:
    """Return a balancer over replicas.

    Raises:
        ConfigError: there is no such policy.
    """
    if policy not in POLICIES:
        near = nearest_name(policy, POLICIES)
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(f"there is no balancing policy {policy!r}{hint} (policies: {', '.join(POLICIES)})")
    return POLICIES[policy](replicas, seed)
