"""The oracle is transformers' apply_chat_template on templates like those that models come with."""

import copy
import datetime
import json

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import ConfigError, ModelError, RequestError
from octavo.text import ChatTemplate, load_chat_template

from .made_tokenizers import byte_level_bpe

CHATML = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}{%- continue %}{%- endif %}
    {%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
            {{- message.content }}
            {%- for call in message.tool_calls or [] %}
                {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
                {{- call.function.arguments | tojson }}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

LLAMA = """
{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if message['role'] == 'user' %}
{{ '[INST] ' + message['content'] + ' [/INST]' }}
{% else %}
{{ ' ' + message['content'] + eos_token }}{% break %}
{% endif %}
{% endfor %}{{ documents }}{{ pad_token is defined }}"""

TEMPLATES = [CHATML, LLAMA, MISTRAL]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <now> & 'then' in a 城市",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CONVERSATIONS = {
    "one question": [{"role": "user", "content": "What is the <capital> of France? 你好"}],
    "answer": [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": " Hello there. "}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
}
USER = [{"role": "user", "content": "Hi"}]


def made(source: str, **arguments) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>", **arguments)


def by_transformers(source: str, messages: list[dict], **arguments) -> str:
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(), bos_token="<s>", eos_token="</s>", chat_template=source
    )
    text = tokenizer.apply_chat_template(copy.deepcopy(messages), tokenize=False, **arguments)
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        *((source, messages) for source in (CHATML, LLAMA) for messages in CONVERSATIONS.values()),
        (MISTRAL, CONVERSATIONS["one question"]),
        (MISTRAL, CONVERSATIONS["answer"]),
    ],
)
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_rendering_agrees_with_transformers(source, messages, tools, add_generation_prompt):
    arguments = {"tools": tools, "add_generation_prompt": add_generation_prompt}
    assert made(source).render(messages, **arguments) == by_transformers(source, messages, **arguments)


@pytest.mark.parametrize("source", TEMPLATES, ids=["chatml", "llama", "mistral"])
@given(content=st.text(min_size=1, max_size=12))
def test_a_continued_message_is_left_open_as_transformers_leaves_it(source, content):
    messages = [*USER, {"role": "assistant", "content": content}]
    arguments = {"add_generation_prompt": False, "continue_final_message": True}
    assert made(source).render(messages, **arguments) == by_transformers(source, messages, **arguments)


def test_extra_variables_reach_the_template():
    text = made(CHATML).render(USER, enable_thinking=False)
    assert text == by_transformers(CHATML, USER, add_generation_prompt=True, enable_thinking=False)
    assert text.endswith("</think>\n\n")


def test_tool_call_arguments_given_as_json_text_are_objects_for_the_template():
    def conversation(arguments):
        call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
        return [*USER, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "sunny"}]

    as_clients_send_it = conversation(json.dumps({"city": "上海"}))
    as_clients_send_it[1]["content"] = None
    before = copy.deepcopy(as_clients_send_it)
    expected = by_transformers(CHATML, conversation({"city": "上海"}), add_generation_prompt=True)
    assert made(CHATML).render(as_clients_send_it) == expected
    assert '"arguments": {"city": "上海"}' in expected
    assert as_clients_send_it == before


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [('{"a": 1}', {"a": 1}), ("", {}), ("[1]", "[1]"), ("{broken", "{broken"), ("[" * 100_000, "[" * 100_000)],
    ids=["object", "empty", "list", "broken", "deep"],
)
def test_what_a_template_sees_of_arguments(arguments, seen):
    calls = [{"function": {"name": "f", "arguments": arguments}}, {"function": None}, "odd"]
    text = made("{{ messages[0].tool_calls[0].function.arguments | tojson }}").render(
        [{"role": "assistant", "tool_calls": calls}]
    )
    assert json.loads(text) == seen


def test_text_parts_are_joined_and_fields_that_are_null_are_left_out():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    template = made("{{ messages[0].content }}{{ messages[0].tool_calls is defined }}")
    assert template.render([{"role": "user", "content": parts, "tool_calls": None}]) == "one\ntwoFalse"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            r"content\[0\].*'image_url'.*text only",
        ),
        ({"role": "user", "content": ["bare"]}, r"content\[0\] is of type 'str'"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, r"text must be a string, not int"),
        ({"role": "user", "content": 3}, "a string or a list of text parts, not int"),
        ({"content": "Hi"}, r"messages\[1\] must be an object with a role"),
        ("Hi", r"messages\[1\] must be an object with a role"),
    ],
    ids=str,
)
def test_messages_that_are_not_text_are_refused(message, reason):
    with pytest.raises(RequestError, match=reason) as refused:
        made(CHATML).render([*USER, message])
    assert refused.value.param == "messages"


def test_no_messages_are_refused():
    with pytest.raises(RequestError, match="empty"):
        made(CHATML).render([])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (MISTRAL, "roles must alternate"),
        ("{{ messages[0].nothing.at_all }}", "no attribute"),
        ("{{ messages[0] + 1 }}", "unsupported operand"),
        ("{% for a in range(10**9) %}x{% endfor %}", "Range too big"),
        ("{{ messages[0].content.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 'x' * 10**12 }}", "repetition"),
        ("{{ 10**12 * ['x'] }}", "repetition"),
        ("{{ 10 ** (10 ** 9) }}", "power"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{% for a in range(40) %}{{ 'x' * 2**20 }}{% endfor %}", "more than 33554432 characters"),
        ("{{ lipsum() }}", "undefined"),
    ],
)
def test_what_a_template_refuses_or_must_not_do_is_an_error_of_the_request(source, reason):
    with pytest.raises(RequestError, match=reason) as refused:
        made(source).render([{"role": "assistant", "content": "Hi"}])
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("source", "expected"), [("{{ 3 * 4 }}", "12"), ("{{ 'ab' * 2 }}", "abab"), ("{{ 2**0.5 }}", "1.41")]
)
def test_ordinary_arithmetic_works(source, expected):
    assert made(source).render(USER).startswith(expected)


def test_variables_set_in_a_generation_block_stay_in_it():
    source = "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}"
    assert made(source).render(USER) == by_transformers(source, USER) == "21"


def test_the_template_knows_the_date():
    assert made("{{ strftime_now('%Y') }}").render(USER) in {str(datetime.date.today().year + late) for late in (0, -1)}


def test_further_special_tokens_reach_the_template():
    assert made("{{ pad_token }}{{ bos_token }}", special_tokens={"pad_token": "<pad>"}).render(USER) == "<pad><s>"


def test_a_special_token_that_the_model_lacks_is_undefined():
    assert ChatTemplate("{{ bos_token is defined }}").render(USER) == "False"


def test_continuing_and_beginning_a_message_exclude_each_other():
    with pytest.raises(RequestError, match="exclude each other") as refused:
        made(CHATML).render(USER, continue_final_message=True)
    assert refused.value.param == "continue_final_message"


@pytest.mark.parametrize("source", ["fixed", "{{ messages[-1].content | upper }}"])
def test_a_message_that_the_template_changes_cannot_be_continued(source):
    with pytest.raises(RequestError, match="changes or leaves out"):
        made(source).render(USER, continue_final_message=True, add_generation_prompt=False)


@pytest.mark.parametrize("arguments", [{"source": "a\n{% if %}"}, {"source": "", "tools_source": "a\n{% if %}"}])
def test_a_syntax_error_is_named_with_its_line(arguments):
    with pytest.raises(ModelError, match=r"model/chat_template\.jinja is not a valid Jinja template: line 2"):
        ChatTemplate(**arguments, origin="model/chat_template.jinja")


def test_a_chat_template_can_be_given_as_text_or_as_a_file(tmp_path):
    path = tmp_path / "template.jinja"
    path.write_text("{{ '你好' }}", encoding="utf-8")
    assert load_chat_template(str(path)) == load_chat_template("{{ '你好' }}") == "{{ '你好' }}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no/such/file.jinja", "no/such/file.jinja: there is no such file, and it is not a template"),
        (".", "cannot be read"),
        ("\0", "cannot be read"),
        ("{% if %}", "--chat-template is not a valid Jinja template: line 1"),
    ],
)
def test_a_wrong_chat_template_option_is_refused(value, reason):
    with pytest.raises(ConfigError, match=reason):
        load_chat_template(value)


def test_a_syntax_error_in_the_file_names_the_file(tmp_path):
    path = tmp_path / "template.jinja"
    path.write_text("a\n{% if %}")
    with pytest.raises(ConfigError, match=r"template\.jinja is not a valid Jinja template: line 2"):
        load_chat_template(str(path))
