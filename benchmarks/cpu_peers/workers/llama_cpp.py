"""llama.cpp through llama-cpp-python's low-level API: batches of several sequences, one ``llama_decode`` a step."""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import llama_cpp
import numpy as np

from benchmarks.cpu_peers.workers.loop import Prompts, run

_BATCH_TOKENS = 512
_CONTEXT_STEP = 256


@dataclass(slots=True)
class _Sequence:
    """A request on its way: what is still to be computed, and when its tokens came."""

    number: int
    todo: deque[int]
    num_computed: int = 0
    times: list[float] = field(default_factory=list)


class LlamaCpp:
    """One model, with a context for the shape of the last call.

    Args:
        model: a GGUF file, mapped.
        flash_attention: 1 on, 0 off, -1 llama.cpp's own choice.
        unified: one KV buffer for all sequences, and not one for each.
    """

    def __init__(self, model: str, threads: int, flash_attention: int = 1, unified: bool = False) -> None:
        llama_cpp.llama_backend_init()
        self.version = llama_cpp.__version__
        self._threads, self._flash_attention, self._unified = threads, flash_attention, unified
        params = llama_cpp.llama_model_default_params()
        params.load_mode, params.n_gpu_layers = llama_cpp.LLAMA_LOAD_MODE_MMAP, 0
        self._model = llama_cpp.llama_model_load_from_file(model.encode(), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {model}")
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._context, self._context_shape = None, (0, 0)
        self._batch = llama_cpp.llama_batch_init(_BATCH_TOKENS, 0, 1)
        self._prepare(1, _CONTEXT_STEP)

    def generate(self, prompts: Prompts, num_tokens: int) -> tuple[float, float]:
        self._prepare(len(prompts), max(map(len, prompts)) + num_tokens)
        started = time.perf_counter()
        sequences = [_Sequence(number, deque(prompt)) for number, prompt in enumerate(prompts)]
        while any(not sequence.times for sequence in sequences):
            self._step([sequence for sequence in sequences if not sequence.times])
        prefilled = time.perf_counter()
        for _ in range(num_tokens - 1):
            self._step(sequences)
        return prefilled - started, time.perf_counter() - prefilled

    def serve(self, prompts: Prompts, num_tokens: int) -> list[list[float]]:
        self._prepare(len(prompts), max(map(len, prompts)) + num_tokens)
        started = time.perf_counter()
        sequences = [_Sequence(number, deque(prompt)) for number, prompt in enumerate(prompts)]
        running = sequences
        while running:
            # Those that decode come first, as in llama.cpp's server; prompts fill up the batch.
            self._step(sorted(running, key=lambda sequence: not sequence.times))
            running = [sequence for sequence in running if len(sequence.times) < num_tokens]
        return [[at - started for at in sequence.times] for sequence in sequences]

    def turns(self, first: Sequence[int], more: Sequence[int]) -> tuple[float, float]:
        self._prepare(1, len(first) + len(more) + 2)
        sequence = _Sequence(0, deque())
        seconds = []
        for tokens in (first, more):
            sequence.todo = deque(tokens)
            started, num_answers = time.perf_counter(), len(sequence.times)
            while len(sequence.times) == num_answers:
                self._step([sequence])
            seconds.append(time.perf_counter() - started)
        return seconds[0], seconds[1]

    def _prepare(self, num_sequences: int, num_tokens: int) -> None:
        """Make an empty KV cache with room for sequences of some length."""
        per_sequence = -(-num_tokens // _CONTEXT_STEP) * _CONTEXT_STEP
        if self._context_shape != (num_sequences, per_sequence):
            if self._context:
                llama_cpp.llama_free(self._context)
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_seq_max = num_sequences * per_sequence, num_sequences
            params.n_batch = params.n_ubatch = _BATCH_TOKENS
            params.n_threads = params.n_threads_batch = self._threads
            params.flash_attn_type = self._flash_attention
            params.kv_unified = self._unified
            self._context = llama_cpp.llama_init_from_model(self._model, params)
            if not self._context:
                raise RuntimeError("llama.cpp cannot make a context")
            self._context_shape = (num_sequences, per_sequence)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _step(self, sequences: Sequence[_Sequence]) -> None:
        """Compute what fits into a batch, in the order of the sequences, and take a token for each that is through."""
        batch = self._batch
        size, ends = 0, []
        for sequence in sequences:
            for _ in range(min(len(sequence.todo), _BATCH_TOKENS - size)):
                batch.token[size] = sequence.todo.popleft()
                batch.pos[size] = sequence.num_computed
                batch.n_seq_id[size] = 1
                batch.seq_id[size][0] = sequence.number
                batch.logits[size] = not sequence.todo
                sequence.num_computed += 1
                size += 1
            if not sequence.todo:
                ends.append((sequence, size - 1))
        batch.n_tokens = size
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            raise RuntimeError(f"llama_decode answered {status}")
        for sequence, row in ends:
            logits = llama_cpp.llama_get_logits_ith(self._context, row)
            address = ctypes.addressof(logits.contents)
            values = np.frombuffer((ctypes.c_float * self._vocab_size).from_address(address), dtype=np.float32)
            sequence.todo.append(int(values.argmax()))
        now = time.perf_counter()
        for sequence, _ in ends:
            sequence.times.append(now)


if __name__ == "__main__":
    run(LlamaCpp)
