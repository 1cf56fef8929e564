"""How the answer to a chat request is going to look, from what the request asks and what the model writes."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.api.openai.after_thought import after_thought
from octavo.api.openai.answer_reader import AnswerFormat, new_call_id, new_mistral_call_id
from octavo.api.openai.requests import ChatCompletionRequest
from octavo.api.openai.service import ModelService
from octavo.api.openai.tool_call_schema import call_or_form, enforced_format, tool_call_schema
from octavo.api.openai.tool_choice import demands_call
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured.params import StructuredOutputsParams
from octavo.engine.thinking import ThinkingBudget
from octavo.errors import RequestError
from octavo.text import Tokenizer
from octavo.text.reasoning_parsers import ReasoningFormat
from octavo.text.tool_parsers import ToolFormat

_NUM_TOKENS_OF_PROMPT_END = 16


def settle_answer_format(
    body: ChatCompletionRequest, service: ModelService, prompt_token_ids: Sequence[int], params: SamplingParams
) -> AnswerFormat:
    """Return how the answers to a request are read, and set in ``params`` what makes the model answer so.

    Raises:
        RequestError: a tool must be called but the answer must have another form too, or thinking is bounded though
            nobody knows what thinking is.
    """
    tokenizer = service.llm.tokenizer
    reasoning = service.reasoning_format
    prompt_end = tokenizer.decode(prompt_token_ids[-_NUM_TOKENS_OF_PROMPT_END:], skip_special_tokens=False)
    is_open = reasoning is not None and reasoning.is_open_after(prompt_end)
    tools = _tool_format(body, service)
    form = AnswerFormat(
        make_tool_parser=tools.parser if tools is not None else None,
        make_call_id=new_mistral_call_id if tools is not None and tools.needs_short_ids else new_call_id,
        allows_several_calls=body.parallel_tool_calls is not False,
        reasoning=reasoning,
        is_open=is_open,
        includes_reasoning=body.include_reasoning,
    )
    structure = tool_call_schema(
        body.tools or [],
        body.tool_choice,
        service.tool_format,
        parallel=form.allows_several_calls,
        reasoning=reasoning,
        is_open=is_open,
        tokenizer=tokenizer,
    )
    if structure is not None:
        if params.structured_outputs is not None:
            raise RequestError(
                "tool_choice demands a tool call and another field another form of the answer: send one of them",
                param="tool_choice",
            )
        params.structured_outputs = structure
    elif params.structured_outputs is not None:
        thought = None if reasoning is None or _is_done_thinking(reasoning, prompt_end) else reasoning
        params.structured_outputs = _place_form(
            params.structured_outputs, body, tools, reasoning=thought, is_open=is_open, tokenizer=tokenizer
        )
    if body.thinking_token_budget is not None:
        params.thinking = _thinking_budget(body.thinking_token_budget, reasoning, tokenizer, is_open=is_open)
    if _has_special_markers(tools, reasoning, tokenizer):
        params.skip_special_tokens = False
    return form


def _place_form(
    form: StructuredOutputsParams,
    body: ChatCompletionRequest,
    tools: ToolFormat | None,
    *,
    reasoning: ReasoningFormat | None,
    is_open: bool,
    tokenizer: Tokenizer,
) -> StructuredOutputsParams:
    """Return a form that lets the model think first, and call tools instead, if it may."""
    either = None
    if tools is not None:
        either = call_or_form(
            form,
            body.tools or [],
            tools,
            parallel=body.parallel_tool_calls is not False,
            reasoning=reasoning,
            is_open=is_open,
            tokenizer=tokenizer,
        )
    if either is not None or reasoning is None:
        return either or form
    return after_thought(form, reasoning, is_open=is_open)


def _is_done_thinking(reasoning: ReasoningFormat, prompt_end: str) -> bool:
    return prompt_end.rstrip().endswith(reasoning.end)


def _tool_format(body: ChatCompletionRequest, service: ModelService) -> ToolFormat | None:
    """Return the format in which calls are looked for; None if there are none."""
    if not body.tools or body.tool_choice == "none":
        return None
    if demands_call(body.tool_choice):
        return enforced_format(service.tool_format)
    return service.tool_format if service.finds_auto_calls else None


def _thinking_budget(
    num_tokens: int, reasoning: ReasoningFormat | None, tokenizer: Tokenizer, *, is_open: bool
) -> ThinkingBudget:
    if reasoning is None:
        raise RequestError(
            "thinking_token_budget needs a server that was started with --reasoning-parser",
            param="thinking_token_budget",
            code="unsupported_value",
        )
    return ThinkingBudget(
        num_tokens=num_tokens,
        begin_token_ids=tokenizer.encode(reasoning.begin, add_special_tokens=False),
        end_token_ids=tokenizer.encode(reasoning.end, add_special_tokens=False),
        is_open=is_open,
    )


def _has_special_markers(tools: ToolFormat | None, reasoning: ReasoningFormat | None, tokenizer: Tokenizer) -> bool:
    markers = [*(tools.markers if tools else ()), *((reasoning.begin, reasoning.end) if reasoning else ())]
    return any(tokenizer.token_id(marker) in tokenizer.special_token_ids for marker in markers)
