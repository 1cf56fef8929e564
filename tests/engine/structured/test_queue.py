"""Requests whose grammars are being compiled wait beside the engine's loop."""

from __future__ import annotations

import threading

from llguidance import LLTokenizer

from octavo import StructuredOutputsParams
from octavo.engine.messages import EngineRequest
from octavo.engine.request import Request
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured.compiler import GrammarCompiler
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.queue import GrammarQueue

GOOD = write_grammar(StructuredOutputsParams(regex="a"))
WRONG = write_grammar(StructuredOutputsParams(json={"type": "strng"}))


def make_request(request_id: str) -> Request:
    message = EngineRequest(
        request_id=request_id,
        prompt_token_ids=[1],
        sampling_params=SamplingParams(),
        max_tokens=4,
        eos_token_ids=[],
        seed=0,
    )
    return Request(message, arrival=0)


def test_requests_become_ready_when_their_grammars_are(vocabulary: LLTokenizer) -> None:
    may_go_on = threading.Event()

    def load() -> LLTokenizer:
        may_go_on.wait(30)
        return vocabulary

    queue = GrammarQueue(GrammarCompiler(load))
    queue.add(make_request("good"), GOOD)
    queue.add(make_request("wrong"), WRONG)
    assert queue.take_ready() == ([], [])
    assert len(queue) == 2
    may_go_on.set()
    ready: list[Request] = []
    failed: list[tuple[str, str]] = []
    while queue:
        queue.wait(1.0)
        some_ready, some_failed = queue.take_ready()
        ready += some_ready
        failed += some_failed
    assert [request.request_id for request in ready] == ["good"]
    assert ready[0].grammar is not None
    assert [request_id for request_id, _ in failed] == ["wrong"]
    assert "Invalid type: strng" in failed[0][1]


def test_what_nobody_waits_for_any_more_is_not_compiled(vocabulary: LLTokenizer) -> None:
    may_go_on = threading.Event()

    def load() -> LLTokenizer:
        may_go_on.wait(30)
        return vocabulary

    compiler = GrammarCompiler(load)
    queue = GrammarQueue(compiler)
    queue.add(make_request("busy"), GOOD)
    queue.add(make_request("one"), WRONG)
    queue.add(make_request("two"), WRONG)
    pending = compiler.submit(WRONG)
    assert queue.abort("one")
    assert not pending.cancelled()
    assert queue.abort("two")
    assert pending.cancelled()
    assert not queue.abort("two")
    assert "busy" in queue
    may_go_on.set()
    assert compiler.submit(WRONG).exception(timeout=30) is not None  # asked for again, it is compiled
