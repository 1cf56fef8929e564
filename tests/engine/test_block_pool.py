import pytest

from octavo.engine.block_pool import NULL_BLOCK, BlockPool, OutOfBlocksError


def test_every_block_is_handed_out_once_and_never_the_padding_block() -> None:
    pool = BlockPool(5)
    blocks = [pool.allocate() for _ in range(5)]
    assert sorted(blocks) == [1, 2, 3, 4, 5]
    assert NULL_BLOCK not in blocks
    assert pool.num_free == 0
    assert pool.num_used == 5


def test_allocating_from_an_empty_pool_is_an_error() -> None:
    pool = BlockPool(1)
    pool.allocate()
    with pytest.raises(OutOfBlocksError):
        pool.allocate()


def test_a_shared_block_is_free_only_after_its_last_release() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    pool.acquire(block)
    pool.release(block)
    assert pool.ref_count(block) == 1
    assert not pool.is_free(block)
    pool.release(block)
    assert pool.is_free(block)
    assert pool.num_free == 2


def test_releasing_a_free_block_is_an_error_and_changes_nothing() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    pool.release(block)
    with pytest.raises(ValueError, match="released more often"):
        pool.release(block)
    assert pool.num_free == 2


def test_cached_blocks_are_evicted_last_and_least_recently_used_first() -> None:
    pool = BlockPool(4)
    a, b, c, d = (pool.allocate() for _ in range(4))
    pool.publish(a, b"a")
    pool.publish(b, b"b")
    for block in (b, a, c, d):
        pool.release(block)
    assert pool.free_blocks() == [d, c, b, a]
    pool.acquire(b)  # used again, so a is now the older one
    pool.release(b)
    assert [pool.allocate() for _ in range(4)] == [d, c, a, b]


def test_a_cached_block_is_found_until_it_is_handed_out_again() -> None:
    pool = BlockPool(1)
    block = pool.allocate()
    pool.publish(block, b"hash")
    pool.release(block)
    assert pool.find(b"hash") == block
    assert pool.allocate() == block
    assert pool.find(b"hash") is None


def test_the_first_block_published_under_a_hash_stays_the_one_found() -> None:
    pool = BlockPool(2)
    first, second = pool.allocate(), pool.allocate()
    pool.publish(first, b"same")
    pool.publish(second, b"same")
    assert pool.find(b"same") == first
    assert pool.num_cached == 1
    pool.release(second)
    assert pool.free_blocks() == [second]


def test_forgetting_the_cache_keeps_held_blocks_held() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    pool.publish(block, b"hash")
    pool.forget_cached()
    assert pool.find(b"hash") is None
    assert pool.ref_count(block) == 1
