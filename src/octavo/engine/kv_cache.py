"""Gives requests the blocks that their tokens need: prefix matching, allocation, publication, release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.engine.block_pool import BlockPool
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from octavo.engine.request import Request


class KVCacheManager:
    """Keeps each request's block list and the block pool in step.

    Args:
        num_blocks: blocks that requests may hold together.
        block_size: tokens in a block.
        enable_prefix_caching: whether full blocks can be found and shared by their contents.
    """

    def __init__(self, num_blocks: int, block_size: int, *, enable_prefix_caching: bool) -> None:
        self.pool = BlockPool(num_blocks)
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.num_queried_tokens = 0
        self.num_hit_tokens = 0

    def admit(self, request: Request) -> bool:
        """Give a request that holds nothing its cached prefix, if there is room for all of its known tokens.

        Room for all of them, though a first step may compute only a chunk: a request that is let in on the hope of more
        room would be preempted by its own next chunk. At least one token is left to compute, since a step must have a
        query to sample from.

        Returns:
            Whether the request was admitted; its ``num_computed_tokens`` then says how much the cache held.
        """
        hits = self._cached_prefix(request)
        num_needed = blocks_of_sequence(request.num_tokens, self.block_size) - len(hits)
        num_hits_taken_from_free = sum(map(self.pool.is_free, hits))
        if num_needed + num_hits_taken_from_free > self.pool.num_free:
            return False
        for block in hits:
            self.pool.acquire(block)
        request.block_ids = hits
        request.num_published_blocks = len(hits)
        request.num_computed_tokens = len(hits) * self.block_size
        if request.num_cached_tokens < 0:
            request.num_cached_tokens = request.num_computed_tokens
            self.num_queried_tokens += request.prompt_len
            self.num_hit_tokens += request.num_computed_tokens
        return True

    def extend(self, request: Request, num_tokens: int) -> list[int] | None:
        """Allocate what the first ``num_tokens`` tokens of a request need on top of what it holds.

        Returns:
            The new blocks (perhaps none), or None if there are not enough free ones; then nothing has changed.
        """
        num_new = blocks_of_sequence(num_tokens, self.block_size) - len(request.block_ids)
        if num_new > self.pool.num_free:
            return None
        new_blocks = [self.pool.allocate() for _ in range(num_new)]
        request.block_ids += new_blocks
        return new_blocks

    def publish(self, request: Request) -> None:
        """Make the blocks that the request has filled with known, computed tokens findable for others."""
        if not self.enable_prefix_caching:
            request.next_publication = request.max_num_tokens + 1
            return
        num_full = min(request.num_computed_tokens, len(request.token_ids)) // self.block_size
        hashes = request.block_hashes(self.block_size)
        for index in range(request.num_published_blocks, num_full):
            self.pool.publish(request.block_ids[index], hashes[index])
        request.num_published_blocks = max(request.num_published_blocks, num_full)
        request.next_publication = (request.num_published_blocks + 1) * self.block_size

    def release(self, request: Request) -> None:
        """Take all blocks from a request; the end of a prefix is evicted before its beginning."""
        for block in reversed(request.block_ids):
            self.pool.release(block)
        request.block_ids = []
        request.num_published_blocks = 0
        request.next_publication = 0

    def _cached_prefix(self, request: Request) -> list[int]:
        if not self.enable_prefix_caching or request.num_unscored_tokens:
            return []
        hits = []
        max_hits = (len(request.token_ids) - 1) // self.block_size
        for block_hash in request.block_hashes(self.block_size)[:max_hits]:
            block = self.pool.find(block_hash)
            if block is None:
                break
            hits.append(block)
        return hits
