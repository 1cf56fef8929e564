"""What is said to be computed by a draft model is what its cache holds, whoever had the blocks before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.request import Request
from octavo.engine.speculation.draft_progress import DraftProgress
from tests.engine.made_requests import make_request

BLOCK_SIZE = 4


class ImaginedDrafts:
    """A large model and a draft model that write no numbers, but which tokens stand up to each place of a block."""

    def __init__(self, num_blocks: int = 12) -> None:
        self.kv_cache = KVCacheManager(num_blocks, BLOCK_SIZE, enable_prefix_caching=True)
        self.progress = DraftProgress(BLOCK_SIZE)
        self._written: dict[tuple[int, int], tuple[int, ...]] = {}

    def admit(self, request: Request) -> bool:
        """Give a request its blocks, and let the large model compute all of its tokens."""
        if not self.kv_cache.admit(request) or self.kv_cache.extend(request, len(request.token_ids)) is None:
            self.kv_cache.release(request)
            return False
        self._compute_large(request)
        return True

    def go_on(self, request: Request, tokens: list[int]) -> None:
        """The large model appends tokens and computes them, as far as there are blocks."""
        room = (len(request.block_ids) + self.kv_cache.pool.num_free) * BLOCK_SIZE - len(request.token_ids)
        request.token_ids += tokens[:room]
        self.kv_cache.extend(request, len(request.token_ids))
        self._compute_large(request)

    def draft(self, request: Request, guesses: list[int], limit: int) -> None:
        """Compute known tokens, at most ``limit``; then guesses, and beyond them what nobody has asked for."""
        start = self.num_computed(request)
        end = min(len(request.token_ids), start + limit)
        room = len(request.block_ids) * BLOCK_SIZE - end if end == len(request.token_ids) else 0
        beyond = [99] * (room - len(guesses))
        self._write(request, start, [*request.token_ids[:end], *guesses[:room], *beyond])
        self.progress.computed(request, end, guesses[:room])

    def num_computed(self, request: Request) -> int:
        """Return what is said to be computed, once it is checked."""
        num_computed = self.progress.num_computed(request)
        for place in range(num_computed):
            index = (request.block_ids[place // BLOCK_SIZE], place % BLOCK_SIZE)
            assert self._written[index] == tuple(request.token_ids[: place + 1])
        return num_computed

    def _compute_large(self, request: Request) -> None:
        request.num_computed_tokens = len(request.token_ids)
        self.kv_cache.publish(request)

    def _write(self, request: Request, start: int, tokens: list[int]) -> None:
        for place in range(start, len(tokens)):
            self._written[request.block_ids[place // BLOCK_SIZE], place % BLOCK_SIZE] = tuple(tokens[: place + 1])


tokens = st.lists(st.integers(0, 1), min_size=1, max_size=9)


@given(st.data())
def test_what_is_said_to_be_computed_is_there(data: st.DataObject) -> None:
    drafts = ImaginedDrafts()
    running: list[Request] = []
    preempted: list[Request] = []
    for number in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["admit", "go on", "draft", "draft", "preempt", "end"]))
        if action == "admit" or not running:
            again = preempted.pop() if preempted and data.draw(st.booleans()) else None
            request = again or make_request(str(number), [0] * 4 + data.draw(tokens))
            if drafts.admit(request):
                running.append(request)
            continue
        request = data.draw(st.sampled_from(running))
        if action == "go on":
            drafts.go_on(request, data.draw(tokens))
        elif action == "draft":
            drafts.draft(request, data.draw(tokens), limit=data.draw(st.sampled_from([3, 100])))
        else:
            running.remove(request)
            drafts.kv_cache.release(request)
            if action == "preempt":
                preempted.append(request)
            else:
                drafts.progress.forget(request)
        for one in running:
            drafts.num_computed(one)


def test_right_guesses_need_not_be_computed_again() -> None:
    drafts = ImaginedDrafts()
    request = make_request("a", [1, 2, 3])
    assert drafts.admit(request)
    drafts.kv_cache.extend(request, 7)
    drafts.draft(request, [4, 5, 6], limit=100)
    drafts.go_on(request, [4, 5, 7])
    assert drafts.num_computed(request) == 5


def test_a_prefix_is_shared_if_the_draft_model_has_computed_it() -> None:
    drafts = ImaginedDrafts()
    first, second, third = (make_request(name, [1, 2, 3, 4, 5, 6, 7, 8, 9]) for name in "abc")
    assert drafts.admit(first)
    assert drafts.admit(second)
    assert second.num_cached_tokens == 8
    assert drafts.num_computed(second) == 0
    drafts.draft(first, [], limit=6)
    drafts.kv_cache.release(first)
    assert drafts.admit(third)
    assert drafts.num_computed(third) == 4


def test_a_block_that_was_written_over_holds_no_prefix_any_more() -> None:
    drafts = ImaginedDrafts(num_blocks=2)
    prompt = [1, 2, 3, 4, 9]
    first, again, last = (make_request(name, prompt) for name in "acd")
    other = make_request("b", [5] * 6)
    assert drafts.admit(first)
    drafts.draft(first, [], limit=100)
    block = first.block_ids[0]
    drafts.kv_cache.release(first)
    assert drafts.admit(other)
    assert other.block_ids[1] == block
    drafts.draft(other, [5], limit=100)
    drafts.kv_cache.release(other)
    assert drafts.admit(again)
    assert again.block_ids[0] == block
    drafts.kv_cache.release(again)
    assert drafts.admit(last)
    assert (last.block_ids[0], last.num_cached_tokens) == (block, 4)
    assert drafts.num_computed(last) == 0


def test_what_was_computed_before_a_preemption_counts_no_more() -> None:
    drafts = ImaginedDrafts(num_blocks=2)
    preempted, other = make_request("a", [1, 2, 3]), make_request("b", [4, 5])
    assert drafts.admit(preempted)
    drafts.draft(preempted, [], limit=100)
    drafts.kv_cache.release(preempted)
    assert drafts.admit(other)
    drafts.draft(other, [], limit=100)
    assert drafts.admit(preempted)
    assert drafts.num_computed(preempted) == 0
