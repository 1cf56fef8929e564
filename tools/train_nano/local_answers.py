"""Answers of a model folder, generated in this process with transformers: the reference to hold a server against."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.train_nano.sample import Conversation
from tools.train_nano.scoring import Answer, parse

_BATCH = 64


def ask_checkpoint(
    folder: Path, asked: list[Conversation], max_tokens: Callable[[Conversation], int]
) -> Iterator[tuple[Conversation, Answer]]:
    """Answer every question greedily, in batches of one skill and similar length, in fp32."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stops = set(model.generation_config.eos_token_id)
    prompts = [
        tokenizer.apply_chat_template(one.prompt, tools=one.tools or None, add_generation_prompt=True, tokenize=False)
        for one in asked
    ]
    order = sorted(
        range(len(asked)), key=lambda index: (max_tokens(asked[index]), asked[index].skill, len(prompts[index]))
    )
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        batch = tokenizer([prompts[index] for index in chosen], return_tensors="pt", padding=True)
        limit = max(max_tokens(asked[index]) for index in chosen)
        with torch.inference_mode():
            output = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=limit,
                do_sample=False,
            )
        for row, index in enumerate(chosen):
            new = output[row, batch["input_ids"].shape[1] :].tolist()
            end = next((place for place, token in enumerate(new) if token in stops), None)
            yield asked[index], parse(str(tokenizer.decode(new[:end])), end is not None)
