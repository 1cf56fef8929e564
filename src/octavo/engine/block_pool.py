"""The blocks of the KV cache: who holds them, which are free, and which still hold a reusable prefix.

Knows ids and hashes only, no tensors and no requests. Every operation is O(1).
"""

from __future__ import annotations

NULL_BLOCK = 0
"""Block that no request ever holds; padding points at it."""


class OutOfBlocksError(RuntimeError):
    """A block was asked for although none is free; callers check ``num_free`` first."""


class BlockPool:
    """Reference-counted blocks with ids 1 to ``num_blocks``.

    A block whose reference count is zero is free. Free blocks stand in one doubly linked list, least valuable first:
    those that hold no reusable prefix, then cached ones from least to most recently used. A cached block stays
    findable by its hash until it is handed out again.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._ref_counts = [0] * (num_blocks + 1)
        self._hashes: list[bytes | None] = [None] * (num_blocks + 1)
        self._block_of_hash: dict[bytes, int] = {}
        # The list is circular through entry 0, which stands for both ends.
        self._next = [*range(1, num_blocks + 1), 0]
        self._previous = [num_blocks, *range(num_blocks)]

    @property
    def num_used(self) -> int:
        """Blocks that some request holds."""
        return self.num_blocks - self.num_free

    @property
    def num_cached(self) -> int:
        """Blocks, free or held, that can be found by their hash."""
        return len(self._block_of_hash)

    def ref_count(self, block: int) -> int:
        """Number of holders of ``block``."""
        return self._ref_counts[block]

    def allocate(self) -> int:
        """Hand out the least valuable free block, with one reference; what it cached is forgotten."""
        if not self.num_free:
            raise OutOfBlocksError("every block of the KV cache is held")
        block: int = self._next[0]
        self._unlink(block)
        block_hash = self._hashes[block]
        if block_hash is not None:
            del self._block_of_hash[block_hash]
            self._hashes[block] = None
        self._ref_counts[block] = 1
        return block

    def find(self, block_hash: bytes) -> int | None:
        """Return the block that holds the prefix with this hash, if one does."""
        return self._block_of_hash.get(block_hash)

    def is_free(self, block: int) -> bool:
        """Whether nobody holds ``block``."""
        return self._ref_counts[block] == 0

    def acquire(self, block: int) -> None:
        """Add a reference to a block that was found by its hash."""
        if self._ref_counts[block] == 0:
            self._unlink(block)
        self._ref_counts[block] += 1

    def release(self, block: int) -> None:
        """Drop one reference; without any left the block is free, and the last of its kind to be handed out."""
        count = self._ref_counts[block] - 1
        if count < 0:
            raise ValueError(f"block {block} was released more often than it was acquired")
        self._ref_counts[block] = count
        if count == 0:
            if self._hashes[block] is None:
                self._link(block, after=0)
            else:
                self._link(block, after=self._previous[0])

    def publish(self, block: int, block_hash: bytes) -> None:
        """Make a full block findable by its hash. If another block already is, that one stays the one found."""
        if block_hash not in self._block_of_hash and self._hashes[block] is None:
            self._block_of_hash[block_hash] = block
            self._hashes[block] = block_hash

    def forget_cached(self) -> None:
        """Make no block findable any more; held blocks stay held."""
        for block in self._block_of_hash.values():
            self._hashes[block] = None
        self._block_of_hash.clear()

    def free_blocks(self) -> list[int]:
        """Return the free blocks in the order in which they would be handed out."""
        blocks = []
        block = self._next[0]
        while block:
            blocks.append(block)
            block = self._next[block]
        return blocks

    def _unlink(self, block: int) -> None:
        before, after = self._previous[block], self._next[block]
        self._next[before] = after
        self._previous[after] = before
        self.num_free -= 1

    def _link(self, block: int, after: int) -> None:
        following = self._next[after]
        self._next[after] = block
        self._previous[block] = after
        self._next[block] = following
        self._previous[following] = block
        self.num_free += 1
