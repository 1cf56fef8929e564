from octavo.engine.kv_cache import KVCacheManager
from tests.engine.made_requests import make_request


def admitted(manager: KVCacheManager, prompt: list[int], name: str = "r", **options: object):
    request = make_request(name, prompt, **options)
    assert manager.admit(request)
    assert manager.extend(request, request.num_tokens) is not None
    request.num_computed_tokens = request.num_tokens
    manager.publish(request)
    return request


def test_a_prompt_is_found_again_up_to_its_last_full_block() -> None:
    manager = KVCacheManager(16, 4, enable_prefix_caching=True)
    first = admitted(manager, list(range(10)))
    second = make_request("second", [*range(10), 99])
    assert manager.admit(second)
    assert second.num_computed_tokens == 8
    assert second.block_ids == first.block_ids[:2]
    assert manager.pool.ref_count(first.block_ids[0]) == 2


def test_one_token_is_always_left_to_compute() -> None:
    manager = KVCacheManager(16, 4, enable_prefix_caching=True)
    admitted(manager, list(range(8)))
    again = make_request("again", list(range(8)))
    assert manager.admit(again)
    assert again.num_computed_tokens == 4


def test_another_salt_or_another_beginning_shares_nothing() -> None:
    manager = KVCacheManager(16, 4, enable_prefix_caching=True)
    admitted(manager, list(range(9)))
    for prompt, salt in ((list(range(9)), "other"), ([7, *range(1, 9)], "")):
        request = make_request(f"{salt}{prompt}", prompt, cache_salt=salt)
        assert manager.admit(request)
        assert request.num_computed_tokens == 0


def test_without_prefix_caching_nothing_is_shared() -> None:
    manager = KVCacheManager(16, 4, enable_prefix_caching=False)
    admitted(manager, list(range(9)))
    again = make_request("again", list(range(9)))
    assert manager.admit(again)
    assert again.num_computed_tokens == 0
    assert manager.pool.num_cached == 0


def test_a_released_prefix_is_still_found() -> None:
    manager = KVCacheManager(16, 4, enable_prefix_caching=True)
    manager.release(admitted(manager, list(range(9))))
    assert manager.pool.num_used == 0
    again = make_request("again", list(range(9)))
    assert manager.admit(again)
    assert again.num_computed_tokens == 8


def test_the_end_of_a_prefix_is_evicted_before_its_beginning() -> None:
    manager = KVCacheManager(3, 4, enable_prefix_caching=True)
    manager.release(admitted(manager, list(range(12))))
    admitted(manager, [50, 51, 52], "other")
    again = make_request("again", list(range(12)))
    assert [manager.pool.find(h) is not None for h in again.block_hashes(4)] == [True, True, False]


def test_admission_needs_room_for_the_whole_prompt_and_changes_nothing_without_it() -> None:
    manager = KVCacheManager(3, 4, enable_prefix_caching=True)
    manager.release(admitted(manager, list(range(8))))
    held = admitted(manager, [90, 91, 92, 93, 94], "held")
    request = make_request("big", list(range(12)))
    assert not manager.admit(request)
    assert request.block_ids == []
    assert manager.pool.num_used == len(held.block_ids)


def test_hits_and_queries_are_counted_once_a_request() -> None:
    manager = KVCacheManager(16, 4, enable_prefix_caching=True)
    admitted(manager, list(range(9)))
    again = make_request("again", list(range(9)))
    assert manager.admit(again)
    manager.release(again)
    again.num_computed_tokens = 0
    assert manager.admit(again)
    assert (manager.num_queried_tokens, manager.num_hit_tokens) == (18, 8)
    assert again.num_cached_tokens == 8
