"""The making of `octavo-nano`: honest data, honest scores, and a shipped folder that stands on its own."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

import octavo
from tools.train_nano.batches import Encoder, Shape, block_data
from tools.train_nano.conversations import SKILLS, exchange, mixture_at, question, training_conversation
from tools.train_nano.draft import Distillation, start_draft
from tools.train_nano.evaluate import questions
from tools.train_nano.model import Nano, NanoConfig
from tools.train_nano.sample import Conversation, Split, in_split
from tools.train_nano.scoring import Answer, parse, passes
from tools.train_nano.skills import SINGLE_TURN
from tools.train_nano.template import render
from tools.train_nano.trainer import Learned

BOX = Path(octavo.__file__).parent / "models" / "box" / "octavo-nano"
DRAFT = BOX.parent / "octavo-nano-draft"
SHAPE = Shape(steps=100, total_steps=110, step_tokens=500, micro_tokens=1024, max_length=2048)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BOX / "tokenizer.json"))


def right_answer(conversation: Conversation) -> Answer:
    """The expected last message, as it would come back from a model."""
    last = conversation.messages[-1]
    calls = [call["function"] for call in last.get("tool_calls", [])]
    return Answer(last["content"] or "", calls, finished=True)


@pytest.mark.parametrize("skill", SKILLS)
def test_questions_are_the_same_for_the_same_seed(skill: str) -> None:
    assert questions([skill], 20, seed=5) == questions([skill], 20, seed=5)
    assert questions([skill], 20, seed=5) != questions([skill], 20, seed=6)


def test_training_conversations_are_the_same_for_the_same_seed() -> None:
    def drawn() -> list[Conversation]:
        rng = Random(1)
        return [training_conversation(rng, mixture_at(1.0)) for _ in range(100)]

    assert drawn() == drawn()


@pytest.mark.parametrize("skill", list(SINGLE_TURN))
def test_held_out_questions_never_occur_in_training(skill: str) -> None:
    def keys(split: Split) -> set[str]:
        rng = Random(2)
        return {exchange(rng, skill, split).key for _ in range(300)}

    held_out = keys("heldout")
    assert held_out
    assert not held_out & keys("train")
    assert all(in_split(key, "heldout") for key in held_out)


def test_every_call_and_every_json_answer_parses() -> None:
    rng = Random(3)
    found = 0
    for _ in range(400):
        conversation = training_conversation(rng, mixture_at(0.5))
        text = render(conversation.messages, conversation.tools)
        for block in text.split("<|im_start|>assistant\n")[1:]:
            answer = parse(block.split("<|im_end|>")[0], finished=True)
            assert "<tool_call>" not in answer.text
            for call in answer.calls:
                found += 1
                offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in conversation.tools}
                assert set(call["arguments"]) == set(offered[call["name"]]["properties"])
            if answer.text.startswith("{"):
                found += 1
                assert isinstance(json.loads(answer.text), dict)
    assert found > 200


@pytest.mark.parametrize("skill", SKILLS)
def test_the_right_answer_passes(skill: str) -> None:
    for conversation in questions([skill], 50, seed=0):
        assert conversation.check is not None
        assert passes(conversation.check, right_answer(conversation))


SPOILERS: dict[str, Callable[[Answer], Answer]] = {
    "cut off": lambda answer: Answer(answer.text, answer.calls, finished=False),
    "empty": lambda answer: Answer("", [], finished=True),
    "about something else": lambda answer: Answer("I do not know 7.", [], finished=True),
    "another call": lambda answer: Answer(answer.text, [{"name": "nothing", "arguments": {}}], finished=True),
}


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
def test_a_wrong_answer_fails(skill: str, spoil: Callable[[Answer], Answer]) -> None:
    for conversation in questions([skill], 20, seed=0):
        assert conversation.check is not None
        assert not passes(conversation.check, spoil(right_answer(conversation)))


def test_a_number_inside_a_longer_number_does_not_count() -> None:
    sums = [one for one in questions(["arithmetic"], 50, seed=0) if one.check is not None]
    for one in sums:
        assert one.check is not None
        assert not passes(one.check, Answer(right_answer(one).text + "0", [], finished=True))


def test_a_changed_argument_fails() -> None:
    conversation = question(Random(0), "tool_call")
    assert conversation.check is not None
    call = conversation.check.expected[0]
    changed = {**call, "arguments": dict.fromkeys(call["arguments"], "other")}
    assert not passes(conversation.check, Answer("", [changed], finished=True))


def test_json_with_words_around_it_fails() -> None:
    conversation = question(Random(0), "json")
    assert conversation.check is not None
    assert not passes(conversation.check, Answer("Here: " + right_answer(conversation).text, [], finished=True))


def test_only_the_assistants_tokens_are_learned(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, max_length=2048)
    messages = [{"role": "user", "content": "Repeat: sun"}, {"role": "assistant", "content": "sun"}]
    ids, targets = encoder.encode(render(messages * 2, []))
    learned = [int(target) for target in targets if target >= 0]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "sun<|im_end|>sun<|im_end|>"
    assert all(target in (-1, following) for target, following in zip(targets, ids[1:], strict=False))


def test_a_resumed_run_sees_the_same_data(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, max_length=2048)
    first, again = (block_data(encoder, 0, 16, SHAPE) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert [batch.tokens.tolist() for batch in one.micro_batches] == [
            batch.tokens.tolist() for batch in other.micro_batches
        ]
    assert all(batch.tokens.size <= SHAPE.micro_tokens or len(batch.tokens) == 1 for batch in first[0].micro_batches)


@pytest.mark.parametrize(
    "text", ["Hello, world!", "中国的首都是哪里?", "naïve café 🦊👩‍🚀", 'a\n\n  b\t{"x": 12.5}', "\u0000Zürich"]
)
def test_the_tokenizer_gives_back_every_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_digits_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    assert [token for token in tokenizer.encode("x2048").tokens if token.isdigit()] == ["2", "0", "4", "8"]


def test_the_shipped_folder_is_whole_and_small() -> None:
    names = {path.name for path in BOX.iterdir()}
    assert {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert sum(path.stat().st_size for path in BOX.rglob("*")) <= 8_000_000


def test_the_shipped_weights_are_bf16_and_fit_the_config(tokenizer: Tokenizer) -> None:
    with (BOX / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__")
    config = json.loads((BOX / "config.json").read_text())
    assert {tensor["dtype"] for tensor in header.values()} == {"BF16"}
    assert header["model.embed_tokens.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    assert tokenizer.get_vocab_size() == config["vocab_size"] <= 4096
    assert config["max_position_embeddings"] >= 2048
    assert "lm_head.weight" not in header
    assert config["tie_word_embeddings"]


def test_the_shipped_draft_is_small_and_has_the_same_tokens() -> None:
    assert sum(path.stat().st_size for path in DRAFT.rglob("*")) <= 1_500_000
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (DRAFT / name).read_bytes() == (BOX / name).read_bytes()
    config, of_model = (json.loads((folder / "config.json").read_text()) for folder in (DRAFT, BOX))
    assert config["max_position_embeddings"] == of_model["max_position_embeddings"]
    assert config["vocab_size"] == of_model["vocab_size"]


def test_a_draft_learns_what_the_model_says() -> None:
    torch.manual_seed(0)
    config = NanoConfig(vocab_size=50, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=8)
    teacher, same = Nano(config), Nano(config)
    same.load_state_dict(teacher.state_dict())
    batch = Learned(torch.randint(50, (2, 5)), torch.tensor([True, False] * 5), torch.zeros(5, dtype=torch.int64))
    loss = Distillation(teacher)(same, batch)
    loss.backward()
    probabilities = batch.logits(teacher).softmax(-1)
    torch.testing.assert_close(loss, -(probabilities * probabilities.log()).sum())  # the least that there is
    assert all(parameter.grad is None for parameter in teacher.parameters())
    gradients = torch.cat([parameter.grad.flatten() for parameter in same.parameters() if parameter.grad is not None])
    assert gradients.abs().max() < 1e-3


def test_a_draft_begins_with_the_models_embedding() -> None:
    teacher = Nano(NanoConfig(num_layers=1))
    full = teacher.model.embed_tokens.weight.detach()
    start = start_draft(teacher, seed=0).model.embed_tokens.weight.detach()
    best = torch.linalg.svdvals(full)[: start.shape[1]].square().sum()
    torch.testing.assert_close(start.square().sum(), best)


def test_the_shipped_template_renders_tools_calls_and_results() -> None:
    source = json.loads((BOX / "tokenizer_config.json").read_text())["chat_template"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    conversation = question(Random(0), "tool_answer")
    arguments = {"messages": conversation.prompt, "tools": conversation.tools, "add_generation_prompt": True}
    text = environment.from_string(source).render(arguments)
    assert text == render(conversation.prompt, conversation.tools, add_generation_prompt=True)
    assert text.index("<tools>") < text.index("<tool_call>\n{") < text.index("<tool_response>\n")
    assert text.endswith("</tool_response><|im_end|>\n<|im_start|>assistant\n")


def test_arguments_render_alike_as_object_and_as_text() -> None:
    def call(arguments: object) -> str:
        function = {"name": "f", "arguments": arguments}
        return render([{"role": "assistant", "content": None, "tool_calls": [{"function": function}]}], [])

    assert call({"a": 1}) == call('{"a": 1}')
