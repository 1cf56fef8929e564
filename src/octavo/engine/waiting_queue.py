"""Requests that wait for admission, in order of arrival or of priority."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from octavo.engine.request import Request


class WaitingQueue(ABC):
    """A queue whose cost a step does not grow with its length."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def push(self, request: Request) -> None:
        """Add a request that has just arrived."""

    @abstractmethod
    def push_back(self, request: Request) -> None:
        """Return a request that was preempted; it arrived before all that were never admitted."""

    @abstractmethod
    def peek(self) -> Request:
        """Return the next request without removing it; the queue must not be empty."""

    @abstractmethod
    def remove(self, request: Request) -> None:
        """Take out a request that is admitted or aborted."""


class FCFSQueue(WaitingQueue):
    """First come, first served."""

    def __init__(self) -> None:
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def push(self, request: Request) -> None:
        self._requests[request.request_id] = request

    def push_back(self, request: Request) -> None:
        self._requests[request.request_id] = request
        self._requests.move_to_end(request.request_id, last=False)

    def peek(self) -> Request:
        return next(iter(self._requests.values()))

    def remove(self, request: Request) -> None:
        del self._requests[request.request_id]


class PriorityQueue(WaitingQueue):
    """Lowest ``priority`` first, then first come; O(log n).

    A removed request stays in the heap until it comes up or until such entries are the majority.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def push(self, request: Request) -> None:
        self._requests[request.request_id] = request
        heapq.heappush(self._heap, (request.priority, request.arrival, request.request_id))

    def push_back(self, request: Request) -> None:
        self.push(request)

    def peek(self) -> Request:
        while True:
            _, arrival, request_id = self._heap[0]
            request = self._requests.get(request_id)
            if request is not None and request.arrival == arrival:
                return request
            heapq.heappop(self._heap)

    def remove(self, request: Request) -> None:
        del self._requests[request.request_id]
        if len(self._heap) > 2 * len(self._requests) + 16:
            self._heap = [(r.priority, r.arrival, r.request_id) for r in self._requests.values()]
            heapq.heapify(self._heap)


def create_waiting_queue(policy: Literal["fcfs", "priority"]) -> WaitingQueue:
    """Return an empty queue for a scheduling policy."""
    return PriorityQueue() if policy == "priority" else FCFSQueue()
