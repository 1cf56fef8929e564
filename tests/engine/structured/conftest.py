"""A small random model, its vocabulary as grammars see it, and one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llguidance import LLTokenizer

from octavo import LLM, StructuredOutputsParams
from octavo.engine.structured.compiler import CompiledGrammar, GrammarCompiler
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.vocabulary import grammar_vocabulary
from octavo.text import Tokenizer
from tests.checkpoints import make_checkpoint

torch.set_num_threads(1)

VOCAB_SIZE = 320


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 tokens, byte-level: whatever the grammar allows, a random model is likely to write it."""
    path = tmp_path_factory.mktemp("model") / "llama"
    return make_checkpoint(path, "llama", tokenizer=True, num_hidden_layers=1, vocab_size=VOCAB_SIZE)


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_directory(checkpoint)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer) -> LLTokenizer:
    return grammar_vocabulary(tokenizer, VOCAB_SIZE)


@pytest.fixture(scope="session")
def compile_grammar(vocabulary: LLTokenizer) -> Callable[[StructuredOutputsParams], CompiledGrammar]:
    compiler = GrammarCompiler(lambda: vocabulary)

    def compile_one(params: StructuredOutputsParams) -> CompiledGrammar:
        return compiler.submit(write_grammar(params)).result(timeout=30)

    return compile_one


@pytest.fixture(scope="session")
def llm(checkpoint: Path) -> LLM:
    return LLM(model=str(checkpoint), max_num_seqs=64, kv_cache_memory_bytes=2**26, block_size=16)
