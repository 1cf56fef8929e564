"""Computes batches of whole sequences: gathers them on the device, runs the model, pools. Makes no decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain, groupby, repeat

import torch
from torch import Tensor
from torch.nn import functional as F

from octavo.engine.pooling.messages import PoolingRequest
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.models.layers.decoder import CausalLM
from octavo.models.layers.encoder import Encoder, EncoderBatch
from octavo.models.layers.pooling import pool
from octavo.models.pooling_config import PoolingConfig
from octavo.plan.memory import blocks_of_sequence

Groups = Sequence[tuple[int, int]]
"""``(number of sequences, their length)``, in the order in which the sequences lie end to end."""


class VectorRunner(ABC):
    """Holds a model on one device.

    Args:
        pooling: how a vector is made of those of the tokens.
    """

    def __init__(self, pooling: PoolingConfig, device: torch.device) -> None:
        self.pooling = pooling
        self.device = device

    @torch.inference_mode()
    def execute(self, requests: Sequence[PoolingRequest]) -> list[bytes]:
        """Return the result of each request as float32 in the machine's byte order."""
        # Sequences of equal length lie side by side, so that attention takes them as one batch without padding.
        order = sorted(range(len(requests)), key=lambda index: len(requests[index].token_ids))
        ordered = [requests[index] for index in order]
        groups = [(len(list(same)), length) for length, same in groupby(len(item.token_ids) for item in ordered)]
        input_ids = torch.tensor(list(chain.from_iterable(item.token_ids for item in ordered)), device=self.device)
        vectors = self.compute(input_ids, ordered, groups).cpu()
        results = [b""] * len(requests)
        for index, request, vector in zip(order, ordered, vectors, strict=True):
            results[index] = self.finish(vector, request).numpy().tobytes()
        return results

    @abstractmethod
    def compute(self, input_ids: Tensor, requests: Sequence[PoolingRequest], groups: Groups) -> Tensor:
        """Return ``[num_seqs, size]`` float32 for sequences laid end to end."""

    def finish(self, vector: Tensor, request: PoolingRequest) -> Tensor:
        """Cut and scale the vector ``[size]`` of a request as it wants."""
        if request.dimensions is not None:
            vector = vector[: request.dimensions]
        return F.normalize(vector, dim=0) if request.use_activation else vector


class EncoderRunner(VectorRunner):
    """Runs an encoder, and the head of a cross-encoder if it has one."""

    def __init__(self, model: Encoder, pooling: PoolingConfig, device: torch.device) -> None:
        super().__init__(pooling, device)
        self.model = model

    def compute(self, input_ids: Tensor, requests: Sequence[PoolingRequest], groups: Groups) -> Tensor:
        batch = EncoderBatch(self._positions(input_ids, groups), self._type_ids(requests), groups)
        pooled = pool(self.model(input_ids, batch), groups, self.pooling.pooling_type)
        if self.model.head is None:
            return pooled
        scores: Tensor = self.model.head(pooled.to(self.model.norm.weight.dtype))
        return scores.float()

    def finish(self, vector: Tensor, request: PoolingRequest) -> Tensor:
        if self.model.head is None:
            return super().finish(vector, request)
        return vector.sigmoid() if request.use_activation else vector

    def _positions(self, input_ids: Tensor, groups: Groups) -> Tensor:
        config = self.model.config
        if not config.skips_padding:
            return torch.cat([torch.arange(length, device=self.device).repeat(count) for count, length in groups])
        # The k-th token that is no padding takes position k behind the padding's own, which all padding takes.
        is_text = (input_ids != config.pad_token_id).long()
        parts = torch.split(is_text, [count * length for count, length in groups])
        ranks = [part.view(group).cumsum(1).flatten() for part, group in zip(parts, groups, strict=True)]
        return torch.cat(ranks) * is_text + config.pad_token_id

    def _type_ids(self, requests: Sequence[PoolingRequest]) -> Tensor:
        type_ids = (item.type_ids or repeat(0, len(item.token_ids)) for item in requests)
        return torch.tensor(list(chain.from_iterable(type_ids)), device=self.device)


class DecoderRunner(VectorRunner):
    """Runs a decoder over whole prompts.

    Nothing outlives a step, and a layer's keys and values are read by that layer alone: so all layers share one cache,
    which has room for one step.

    Args:
        max_num_seqs, max_num_tokens: of one step.
    """

    def __init__(
        self,
        model: CausalLM,
        pooling: PoolingConfig,
        device: torch.device,
        *,
        dtype: torch.dtype,
        block_size: int,
        max_num_seqs: int,
        max_num_tokens: int,
    ) -> None:
        super().__init__(pooling, device)
        self.model = model
        self.block_size = block_size
        # Each sequence may leave the rest of a block empty; block 0 is padding.
        num_blocks = max_num_tokens // block_size + max_num_seqs + 1
        shape = (num_blocks, block_size, model.num_kv_heads, model.head_dim)
        (self._cache,) = LayerKVCache.allocate(1, shape, dtype, device, num_parts=model.config.cached_parts)

    def compute(self, input_ids: Tensor, requests: Sequence[PoolingRequest], groups: Groups) -> Tensor:
        return pool(self.model(input_ids, self._context(groups)), groups, self.pooling.pooling_type)

    def _context(self, groups: Groups) -> ForwardContext:
        lengths = [length for count, length in groups for _ in range(count)]
        num_blocks = [blocks_of_sequence(length, self.block_size) for length in lengths]
        tables = torch.zeros((len(lengths), max(num_blocks)), dtype=torch.int32, device=self.device)
        first = 1
        for table, number in zip(tables, num_blocks, strict=True):
            torch.arange(first, first + number, out=table[:number])
            first += number
        seq_lens = torch.tensor(lengths, device=self.device)
        sequence = torch.repeat_interleave(seq_lens)
        starts = F.pad(seq_lens.cumsum(0), (1, 0))
        positions = torch.arange(len(sequence), device=self.device) - starts[sequence]
        blocks = tables[sequence, positions // self.block_size].long()
        return ForwardContext(
            positions=positions,
            slots=blocks * self.block_size + positions % self.block_size,
            block_tables=tables,
            query_starts=starts.to(torch.int32),
            seq_lens=seq_lens.to(torch.int32),
            prompt_lens=seq_lens[sequence],
            query_lens_host=lengths,
            seq_lens_host=lengths,
            kv_caches=[self._cache] * self.model.config.num_hidden_layers,
        )
