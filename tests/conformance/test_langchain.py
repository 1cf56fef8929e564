"""LangChain's OpenAI integration against the running server."""

from __future__ import annotations

import pytest
from langchain_openai import ChatOpenAI

from tests.conformance.conftest import MODEL_NAME
from tests.server_process import ServerProcess


@pytest.fixture
def chat(server: ServerProcess) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{server.url}/v1", api_key="none", model=MODEL_NAME, temperature=0, max_tokens=8, stream_usage=True
    )


def test_invoke_gives_text_and_usage(chat: ChatOpenAI) -> None:
    message = chat.invoke([("system", "Be brief."), ("human", "Hello!")])
    assert message.content
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] > 0
    assert message.response_metadata["finish_reason"] in ("stop", "length")


def test_stream_joins_to_the_same_text(chat: ChatOpenAI) -> None:
    chunks = list(chat.stream("Hello!"))
    assert "".join(str(chunk.content) for chunk in chunks) == chat.invoke("Hello!").content
    assert any(chunk.usage_metadata for chunk in chunks)


async def test_asynchronous_calls(chat: ChatOpenAI) -> None:
    assert (await chat.ainvoke("Hello!")).content == "".join(
        [str(chunk.content) async for chunk in chat.astream("Hello!")]
    )


def test_a_conversation_with_tool_messages_is_accepted(chat: ChatOpenAI) -> None:
    def get_weather(city: str) -> str:
        """Say how the weather is in a city."""
        return city

    call = {"name": "get_weather", "args": {"city": "Rome"}, "id": "call_1", "type": "tool_call"}
    messages = [
        {"role": "user", "content": "How is the weather in Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
    ]
    assert chat.bind_tools([get_weather]).invoke(messages).response_metadata["finish_reason"] in ("stop", "length")
