"""Offline throughput and latency with a real engine and a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.bench.decode_traffic import DecodeTraffic, decode_traffic, read_bandwidth
from octavo.bench.offline import (
    LatencySettings,
    ThroughputSettings,
    run_latency_benchmark,
    run_throughput_benchmark,
)
from octavo.engine.llm import LLM
from octavo.errors import ConfigError
from octavo.models.loading import LoadOptions, load_model
from tests.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    directory = make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama", "llama", tokenizer=True)
    return LLM(str(directory), kv_cache_memory_bytes="1MiB", max_model_len=64, max_num_seqs=8)


def test_throughput_generates_every_token_of_every_request(llm):
    result = run_throughput_benchmark(llm, ThroughputSettings(input_len=10, output_len=5, num_prompts=12))
    summary = result.summary
    assert result.kind == "throughput"
    assert (summary.num_successful, summary.total_input_tokens, summary.total_output_tokens) == (12, 120, 60)
    assert summary.total_throughput == pytest.approx(180 / summary.duration_s)
    assert summary.duration_s == pytest.approx(result.records[0].e2e_s)
    assert result.settings["num_prompts"] == 12
    assert result.environment["dtype"] == "float32"


def test_latency_measures_as_many_batches_as_asked(llm):
    seen = []
    settings = LatencySettings(input_len=8, output_len=4, batch_size=3, num_iters=6, num_iters_warmup=2)
    run = run_latency_benchmark(llm, settings, lambda done, total: seen.append((done, total)))
    assert run.batch_ms.count == 6
    assert len(run.result.records) == 18
    assert len({record.finished_at for record in run.result.records}) == 6
    assert {record.output_tokens for record in run.result.records} == {4}
    assert run.result.summary.total_cached_tokens == 0
    assert run.result.summary.max_concurrency == 3
    assert run.result.summary.e2e_ms.p50 == pytest.approx(run.batch_ms.p50)
    assert seen == [(done, 11) for done in range(1, 12)]


def test_outputs_of_one_token_have_no_decode_steps(llm):
    settings = LatencySettings(input_len=8, output_len=1, batch_size=1, num_iters=1, num_iters_warmup=0)
    assert run_latency_benchmark(llm, settings).traffic is None


def test_a_step_reads_all_weights_once_and_the_keys_and_values_so_far(llm, monkeypatch):
    monkeypatch.setattr("octavo.bench.decode_traffic.read_bandwidth", lambda device, dtype: 1e9)
    config = llm.model_config
    directory, cpu = Path(llm.config.model), torch.device("cpu")
    model = load_model(directory, config, LoadOptions(dtype=torch.float32, device=cpu))
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    unread = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    kv_elements = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    traffic = decode_traffic(llm, batch_size=3, input_len=10, output_len=20, step_s=0.5)
    assert traffic.bytes_read == 4 * (num_weights - unread + 3 * 20 * kv_elements)
    assert traffic.bytes_per_s == 2 * traffic.bytes_read


def test_the_share_of_the_limit():
    traffic = DecodeTraffic(step_s=0.1, bytes_read=1e9, limit_bytes_per_s=4e10)
    assert traffic.share_of_limit == pytest.approx(0.25)


def test_bandwidth_is_that_of_a_memory(monkeypatch):
    monkeypatch.setattr("octavo.bench.decode_traffic._BUFFER_BYTES", 2**26)
    assert 1e8 < read_bandwidth(torch.device("cpu"), torch.float32) < 1e13


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"input_len": 60, "output_len": 5}, "exceed the model's greatest length of 64 tokens"),
        ({"batch_size": 9}, "a batch of 9 does not run at once: the engine takes 8 sequences"),
    ],
)
def test_what_does_not_fit_is_refused(llm, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        run_latency_benchmark(llm, LatencySettings(**{"input_len": 8, "output_len": 8, **settings}))


@pytest.mark.parametrize(
    ("make", "name"),
    [(LatencySettings, "batch_size"), (LatencySettings, "num_iters"), (ThroughputSettings, "num_prompts")],
)
def test_counts_must_be_positive(make, name):
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} must be at least 1, not 0"):
        make(**{name: 0})


def test_no_warmup_is_allowed_but_less_is_not():
    assert LatencySettings(num_iters_warmup=0).num_iters_warmup == 0
    with pytest.raises(ConfigError, match="--num-iters-warmup must be at least 0"):
        LatencySettings(num_iters_warmup=-1)
