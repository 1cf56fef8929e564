"""The offline face of the engine: what vLLM users type works, mistakes are told, and nothing breaks the next call."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, RequestOutput, SamplingParams
from octavo.engine.sampling_params import RequestOutputKind
from octavo.engine.step import StepPlan, StepResult
from octavo.errors import ConfigError, ModelError, RequestError
from tests.checkpoints import load_oracle

SETTINGS: dict[str, Any] = {"kv_cache_memory_bytes": "8MiB", "max_num_seqs": 8, "cpu_threads": 1}
GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
EOS = 317


@pytest.fixture(scope="module")
def shared(checkpoint: Path) -> LLM:
    return LLM(str(checkpoint), **SETTINGS)


@pytest.fixture
def llm(shared: LLM) -> Iterator[LLM]:
    """An engine that holds no cached prefix, and must hold no request when the test is over."""
    shared.reset_prefix_cache()
    yield shared
    assert_empty(shared)


def assert_empty(llm: LLM) -> None:
    stats = llm._core.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_used_blocks) == (0, 0, 0)
    assert not llm._core.has_work


def generate(llm: LLM, prompts: Any, params: Any = GREEDY, **options: Any) -> list[RequestOutput]:
    return llm.generate(prompts, params, use_tqdm=False, **options)


def tokens(outputs: list[RequestOutput]) -> list[list[int]]:
    return [sequence.token_ids for output in outputs for sequence in output.outputs]


# --- Prompts and parameters -----------------------------------------------------------------------------------------


def test_greedy_tokens_and_text_are_those_of_transformers(llm: LLM, checkpoint: Path):
    prompt = "The quick brown fox"
    (output,) = generate(llm, prompt)
    ids = llm.get_tokenizer().encode(prompt)
    expected = load_oracle(checkpoint).generate(
        torch.tensor([ids]), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0
    )[0, len(ids) :]
    assert output.outputs[0].token_ids == expected.tolist()
    assert output.outputs[0].text == llm.get_tokenizer().decode(expected.tolist())
    assert (output.prompt, output.prompt_token_ids, output.finished) == (prompt, ids, True)
    assert output.outputs[0].finish_reason == "length"


def test_all_forms_of_a_prompt_give_the_same(llm: LLM):
    ids = llm.get_tokenizer().encode("hello")
    forms: list[Any] = ["hello", ids, tuple(ids), {"prompt": "hello"}, {"prompt_token_ids": ids}]
    alone = [generate(llm, form) for form in forms]
    together = generate(llm, forms)
    assert all(len(outputs) == 1 for outputs in alone)
    assert len({tuple(tokens(outputs)[0]) for outputs in [*alone, together]}) == 1
    assert len(together) == len(forms)
    assert [output.prompt for output in together] == ["hello", None, None, "hello", None]


def test_outputs_come_in_the_order_of_the_prompts_though_they_end_in_another(llm: LLM):
    lengths = [9, 1, 5, 3] * 5  # more than run at the same time
    params = [SamplingParams(temperature=0, max_tokens=length, ignore_eos=True) for length in lengths]
    outputs = generate(llm, [[place + 1] for place in range(20)], params)
    assert [output.prompt_token_ids for output in outputs] == [[place + 1] for place in range(20)]
    assert [len(ids) for ids in tokens(outputs)] == lengths


def test_no_prompts_give_no_outputs(llm: LLM):
    assert generate(llm, []) == []


def test_without_parameters_there_are_sixteen_tokens_as_in_vllm(llm: LLM):
    (output,) = llm.generate([1, 2, 3], use_tqdm=False)
    assert 1 <= len(output.outputs[0].token_ids) <= 16


def test_the_callers_parameters_stay_as_they_were(llm: LLM):
    params = SamplingParams(max_tokens=1, output_kind=RequestOutputKind.DELTA)
    (output,) = generate(llm, [1], params)
    assert params.output_kind is RequestOutputKind.DELTA
    assert not output.is_delta


def test_n_sequences_of_one_prompt(llm: LLM):
    params = SamplingParams(n=3, seed=1, max_tokens=8, ignore_eos=True)
    (output,) = generate(llm, [5], params)
    assert [sequence.index for sequence in output.outputs] == [0, 1, 2]
    assert len({tuple(sequence.token_ids) for sequence in output.outputs}) == 3


def test_the_same_seed_gives_the_same_tokens_alone_and_in_company(llm: LLM):
    params = SamplingParams(temperature=1.5, seed=42, max_tokens=12, ignore_eos=True)
    alone = tokens(generate(llm, [1, 2, 3], params))[0]
    others = [SamplingParams(top_p=0.5, max_tokens=9), SamplingParams(presence_penalty=1, top_k=2), GREEDY]
    together = generate(llm, [[7], [1, 2, 3], [8] * 40, [9]], [others[0], params, *others[1:]])
    assert tokens(together)[1] == alone
    assert tokens(generate(llm, [1, 2, 3], SamplingParams(temperature=1.5, max_tokens=12, ignore_eos=True)))[0] != alone


def test_priorities_are_taken_one_a_prompt(checkpoint: Path):
    llm = LLM(str(checkpoint), scheduling_policy="priority", **(SETTINGS | {"max_num_seqs": 1}))
    order: list[list[int]] = []
    execute = llm._core.runner.execute

    def watch(plan: StepPlan) -> StepResult:
        order.extend(admission.token_ids for admission in plan.admissions)
        return execute(plan)

    llm._core.runner.execute = watch  # type: ignore[method-assign]
    generate(llm, [[1], [2], [3]], SamplingParams(max_tokens=1), priority=[5, -1, 0])
    assert order == [[2], [3], [1]]


# --- Ends -----------------------------------------------------------------------------------------------------------


def test_an_end_of_sequence_token_ends_the_output_but_not_before_min_tokens(llm: LLM):
    wants_to_end = SamplingParams(temperature=0, logit_bias={EOS: 100}, min_tokens=3, max_tokens=10)
    (output,) = generate(llm, [1], wants_to_end)
    assert output.outputs[0].finish_reason == "stop"
    assert output.outputs[0].token_ids.index(EOS) == 3
    ignores_it = SamplingParams(temperature=0, logit_bias={EOS: 100}, ignore_eos=True, max_tokens=4)
    (output,) = generate(llm, [1], ignores_it)
    assert (output.outputs[0].token_ids, output.outputs[0].finish_reason) == ([EOS] * 4, "length")


def test_a_stop_string_ends_one_request_and_leaves_the_others(llm: LLM):
    text = generate(llm, [1, 2])[0].outputs[0].text
    stop = next(char for char in text if char.isascii())
    ended, other = generate(
        llm, [[1, 2], [1, 2]], [SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, stop=stop), GREEDY]
    )
    assert (ended.outputs[0].text, ended.outputs[0].stop_reason) == (text[: text.index(stop)], stop)
    assert other.outputs[0].text == text


def test_without_max_tokens_the_output_goes_on_to_the_greatest_length(checkpoint: Path):
    llm = LLM(str(checkpoint), max_model_len=40, **SETTINGS)
    (output,) = generate(llm, [1] * 30, SamplingParams(max_tokens=None, ignore_eos=True))
    assert (len(output.outputs[0].token_ids), output.outputs[0].finish_reason) == (10, "length")
    assert llm.max_model_len == 40


def test_logprobs_are_those_of_transformers(llm: LLM, checkpoint: Path):
    params = SamplingParams(temperature=0, max_tokens=3, ignore_eos=True, logprobs=4)
    (output,) = generate(llm, [3, 1, 4], params)
    sequence = output.outputs[0]
    with torch.no_grad():
        logits = load_oracle(checkpoint)(torch.tensor([[3, 1, 4, *sequence.token_ids]])).logits[0, 2:-1]
    expected = logits.log_softmax(dim=-1)
    assert sequence.logprobs is not None
    for position, token_id, row in zip(sequence.logprobs, sequence.token_ids, expected, strict=True):
        assert next(iter(position)) == token_id
        assert list(position) == row.topk(4).indices.tolist()
        for known, entry in position.items():
            assert entry.logprob == pytest.approx(row[known].item(), abs=1e-4)


# --- Prefix caching -------------------------------------------------------------------------------------------------


def test_a_prompt_that_comes_again_is_found_until_the_cache_is_reset(llm: LLM):
    prompt = list(range(50))
    first, again = generate(llm, prompt)[0], generate(llm, prompt)[0]
    assert (first.num_cached_tokens, again.num_cached_tokens) == (0, 48)
    assert again.outputs == first.outputs
    llm.reset_prefix_cache()
    assert generate(llm, prompt)[0].num_cached_tokens == 0


# --- Chat -----------------------------------------------------------------------------------------------------------


def test_a_conversation_is_written_with_the_models_template(llm: LLM):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    (output,) = llm.chat(messages, GREEDY, use_tqdm=False)
    written = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert output.prompt == written
    assert output.prompt_token_ids == llm.get_tokenizer().encode(written, add_special_tokens=False)
    assert tokens([output]) == tokens(generate(llm, output.prompt_token_ids))


def test_several_conversations_at_once_with_parameters_for_each(llm: LLM):
    conversations = [[{"role": "user", "content": text}] for text in ("one", "two")]
    params = [SamplingParams(max_tokens=1), SamplingParams(max_tokens=2, ignore_eos=True)]
    outputs = llm.chat(conversations, params, use_tqdm=False)
    assert ["one" in str(outputs[0].prompt), "two" in str(outputs[1].prompt)] == [True, True]
    assert [len(ids) for ids in tokens(outputs)] == [1, 2]


def test_a_final_message_can_be_continued(llm: LLM):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, I"}]
    (output,) = llm.chat(messages, GREEDY, use_tqdm=False, add_generation_prompt=False, continue_final_message=True)
    assert str(output.prompt).endswith("assistant\nWell, I")


def test_another_template_and_its_variables(checkpoint: Path):
    template = "{{ greeting }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ tools | length if tools else 0 }}"
    llm = LLM(str(checkpoint), chat_template=template, **SETTINGS)
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    (output,) = llm.chat(
        [{"role": "user", "content": "x"}],
        GREEDY,
        use_tqdm=False,
        tools=[tool],
        chat_template_kwargs={"greeting": "Good day"},
    )
    assert output.prompt == "Good day[x]1"


def test_a_model_without_a_template_says_what_to_do(checkpoint: Path, tmp_path: Path):
    directory = shutil.copytree(checkpoint, tmp_path / "model")
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    for other in directory.glob("chat_template*"):
        other.unlink()
    llm = LLM(str(directory), **SETTINGS)
    with pytest.raises(RequestError, match=r"no chat template.*LLM\(chat_template="):
        llm.chat([{"role": "user", "content": "Hello"}])
    with pytest.raises(ConfigError, match="no such file"):
        LLM(str(directory), chat_template="/no/such/file.jinja", **SETTINGS)


@pytest.mark.parametrize("messages", [[], [{"content": "Hello"}], [[]]])
def test_broken_messages_are_refused(llm: LLM, messages: Any):
    with pytest.raises(RequestError):
        llm.chat(messages, GREEDY)


# --- Mistakes and interruptions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_modl_len": 5}, ConfigError, "max_model_len"),
        ({"dtype": "int3"}, ConfigError, "int3"),
        ({"tensor_parallel_size": 2}, ConfigError, "tensor_parallel_size"),
        ({"max_model_len": 100_000}, ConfigError, "1024"),
        ({"kv_cache_memory_bytes": "1kB"}, ConfigError, "--kv-cache-memory-bytes"),
        ({"model": "/no/such/model"}, ModelError, "/no/such/model"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_wrong(
    checkpoint: Path, settings: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        LLM(**({"model": str(checkpoint)} | SETTINGS | settings))


@pytest.mark.parametrize(
    ("prompts", "params", "options"),
    [
        ([[1, 2], [], [3]], GREEDY, {}),
        ([[1, 2], [9999]], GREEDY, {}),
        ([[1, 2], [1] * 5000], GREEDY, {}),
        ([[1, 2], "ok", 5], GREEDY, {}),
        (None, GREEDY, {}),
        (5, GREEDY, {}),
        ([[1], [2]], [GREEDY], {}),
        ([[1]], [], {}),
        ([[1]], {"temperature": 0}, {}),
        ([[1]], [{"temperature": 0}], {}),
        ([[1], [2]], GREEDY, {"priority": [1]}),
        ([[1], [2]], GREEDY, {"priority": [1, 2**40]}),
        ([[1], [2]], SamplingParams(stop="x" * 20_000), {}),
        ([[1], [2]], SamplingParams(stop_token_ids=[-5]), {}),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_computed(
    llm: LLM, prompts: Any, params: Any, options: dict[str, Any]
):
    expected = tokens(generate(llm, [1, 2]))
    steps = llm._core.stats().total_steps
    with pytest.raises(RequestError):
        generate(llm, prompts, params, **options)
    assert llm._core.stats().total_steps == steps
    assert tokens(generate(llm, [1, 2])) == expected


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RuntimeError("the device is gone")])
@pytest.mark.parametrize("before_computing", [True, False])
def test_an_interruption_leaves_an_empty_engine_that_gives_the_same_tokens(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, before_computing: bool
):
    """Also when the step that was cut off had promised its blocks to the prefix cache but not computed them."""
    prompt = list(range(70, 170))
    expected = generate(llm, prompt)
    llm.reset_prefix_cache()
    execute = llm._core.runner.execute
    num_steps = 0

    def interrupted(plan: StepPlan) -> StepResult:
        nonlocal num_steps
        num_steps += 1
        if before_computing:
            raise interruption
        result = execute(plan)
        if num_steps == 3:
            raise interruption
        return result

    for cache in llm._core.runner.kv_caches:  # type: ignore[attr-defined]
        cache.key.zero_()
    with monkeypatch.context() as patch:
        patch.setattr(llm._core.runner, "execute", interrupted)
        with pytest.raises(type(interruption)):
            generate(llm, [prompt, prompt, [1]])
    assert_empty(llm)
    assert tokens(generate(llm, prompt)) == tokens(expected)


# --- Progress -------------------------------------------------------------------------------------------------------


def test_a_terminal_sees_requests_and_tokens_a_second(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    llm.generate([[1], [2], [3]], GREEDY)
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert "tokens/s" in shown.err
    assert "0.0 tokens/s" not in shown.err.splitlines()[-1]
    assert shown.out == ""


@pytest.mark.parametrize("use_tqdm", [True, False])
def test_nothing_is_shown_where_there_is_no_terminal_or_no_wish(
    llm: LLM, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, use_tqdm: bool
):
    if not use_tqdm:
        monkeypatch.setenv("FORCE_COLOR", "1")
    llm.generate([[1]], GREEDY, use_tqdm=use_tqdm)
    shown = capsys.readouterr()
    assert (shown.out, shown.err.strip()) == ("", "")


def test_the_class_can_be_imported_without_torch():
    program = "import json, sys; from octavo import LLM, AsyncLLM; print(json.dumps(sorted(sys.modules)))"
    assert "torch" not in json.loads(subprocess.check_output([sys.executable, "-c", program]))
