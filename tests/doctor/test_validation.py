"""What ``octavo.doctor.validation`` finds beside what a server refuses: warnings, caches of the hub, memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from octavo.config import ServerConfig
from octavo.config.sources import load_partial_config
from octavo.doctor.findings import Finding, Findings
from octavo.doctor.listening import check_listening
from octavo.doctor.validation import validate
from tests.checkpoints import make_checkpoint
from tests.lora_adapters import make_adapter
from tests.models.quantization.packed_checkpoints import make_packed_checkpoint

GIB = 2**30


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small random Llama with a tokenizer and a chat template; a sequence of 1,024 tokens takes 768 KiB of cache."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama", "llama", tokenizer=True)


def check(**settings: object) -> Findings:
    flags = {"port": 0, **settings}
    return validate(load_partial_config(ServerConfig, flags, config_file=None, environ={}))


def only(findings: Findings) -> Finding:
    (finding,) = findings.items
    return finding


def test_the_defaults_are_right():
    assert check().items == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_server_without_a_key_is_warned_of(host):
    found = only(check(host=host))
    assert (found.severity, found.check) == ("warning", "address")
    assert check(host=host, api_key=["secret"]).items == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_server_for_this_machine_alone_needs_no_key(host):
    findings = Findings()
    check_listening(ServerConfig(host=host, port=0), findings)
    assert findings.items == []


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"max_num_batched_tokens": 64, "max_num_seqs": 65}, "max_num_batched_tokens=64 is less than max_num_seqs=65"),
        ({"block_size": 128, "max_model_len": 100}, "Use --block-size 64 or less"),
        ({"kv_cache_memory_bytes": "1GiB", "gpu_memory_utilization": 0.5}, "gpu_memory_utilization has no effect"),
        ({"cpu_threads": 100_000}, "cpu_threads=100000 is more than the"),
        ({"revision": "main"}, "revision=main has no effect"),
        ({"served_model_name": ["a", "a"]}, "names one model twice"),
    ],
)
def test_settings_that_are_odd_together_are_warned_of(settings, part):
    found = only(check(**settings))
    assert found.severity == "warning"
    assert part in found.message


def test_a_check_that_needs_a_wrong_value_is_left_out():
    assert [item.check for item in check(port="x", host="nowhere.invalid").items] == ["settings"]
    assert [item.check for item in check(model=7, max_model_len="9M").items] == ["settings"]
    assert [item.check for item in check(max_model_len="?", kv_cache_memory_bytes=1).items] == ["settings"]


def test_a_model_without_a_chat_template_is_warned_of(checkpoint, tmp_path):
    model = shutil.copytree(checkpoint, tmp_path / "model")
    (model / "tokenizer_config.json").unlink()
    (model / "chat_template.jinja").unlink(missing_ok=True)
    found = only(check(model=str(model)))
    assert (found.severity, found.check) == ("warning", "chat template")
    assert check(model=str(model), chat_template="{{ messages[0].content }}").items == []


def test_a_tokenizer_with_more_tokens_than_the_model_is_warned_of(checkpoint, tmp_path):
    small = make_checkpoint(tmp_path / "small", "llama", vocab_size=300, bos_token_id=1, eos_token_id=2)
    found = only(check(model=str(small), tokenizer=str(checkpoint)))
    assert (found.severity, found.check) == ("warning", "tokenizer")
    assert "320 tokens, but the model only 300" in found.message


def test_weights_of_a_type_that_is_not_supported_are_wrong(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(checkpoint, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, model / "model.safetensors")
    found = only(check(model=str(model)))
    assert "model.norm.weight is int8" in found.message


def test_weights_are_checked_without_being_read(checkpoint, tmp_path, monkeypatch):
    model = shutil.copytree(checkpoint, tmp_path / "model")
    config = LlamaConfig(vocab_size=320, hidden_size=8192, intermediate_size=28672, num_hidden_layers=10)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(model)
    with torch.device("meta"):
        tensors = LlamaForCausalLM(config).state_dict()
    num_bytes = write_sparse_safetensors(model / "model.safetensors", tensors)
    assert num_bytes > 32 * GIB  # more than anybody would like to read
    monkeypatch.setattr("octavo.engine.memory.available_host_memory", lambda: 1024 * GIB)
    assert check(model=str(model)).items == []
    tensors["model.norm.weight"] = torch.empty(7, device="meta")
    write_sparse_safetensors(model / "model.safetensors", tensors)
    assert "model.norm.weight is [7], must be [8192]" in only(check(model=str(model))).message


def write_sparse_safetensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> int:
    """Write a float32 checkpoint whose contents are a hole in the file; return the length of the contents in bytes."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, path.stat().st_size + end)
    return end


class TestMemory:
    """What the engine would find when it sizes its cache; the oracle is the arithmetic of the shapes."""

    def test_weights_that_do_not_fit_in_ram_are_wrong(self, checkpoint, monkeypatch):
        monkeypatch.setattr("octavo.engine.memory.available_host_memory", lambda: 100_000)
        found = only(check(model=str(checkpoint)))
        assert (found.severity, found.check) == ("error", "memory")
        assert found.message.startswith("the model's weights take ")

    def test_the_cache_gets_what_the_weights_leave(self, checkpoint, monkeypatch):
        num_weight_bytes = (checkpoint / "model.safetensors").stat().st_size
        one_sequence = 768 * 1024  # 3 layers x keys and values x 2 heads x 16 numbers x 4 bytes x 1,024 tokens
        for factor, is_enough in ((4.2, True), (3.8, False)):  # the cache may take a quarter of what is free
            free_bytes = num_weight_bytes + int(factor * one_sequence)
            monkeypatch.setattr("octavo.engine.memory.available_host_memory", lambda free=free_bytes: free)
            assert (check(model=str(checkpoint)).items == []) is is_enough

    def test_a_gpu_is_asked_for_its_own_memory(self, checkpoint, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (70 * GIB, 80 * GIB))
        assert check(model=str(checkpoint), device="cuda").items == []
        found = only(check(model=str(checkpoint), device="cuda", gpu_memory_utilization=0.1))
        assert found.message.startswith("no GPU memory is left for the KV cache")
        assert "10.0 GiB in use" in found.message


class TestHubCache:
    """Models of the hub, as far as the cache holds them; the layout of the cache is huggingface_hub's."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def snapshot(self, checkpoint, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        repository = tmp_path / "models--some--model"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs/main").write_text(self.COMMIT)
        return shutil.copytree(checkpoint, repository / "snapshots" / self.COMMIT)

    def test_a_model_in_the_cache_is_checked(self, snapshot):
        assert check(model="some/model").items == []
        assert only(check(model="some/model", max_model_len=2000)).check == "max_model_len"

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_model_that_is_not_whole_in_the_cache_is_not_checked(self, snapshot, name):
        (snapshot / name).unlink()
        found = only(check(model="some/model"))
        assert (found.severity, found.check) == ("not checked", "model")

    def test_a_model_with_a_missing_shard_is_not_checked(self, snapshot):
        (snapshot / "model.safetensors").unlink()
        index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
        assert only(check(model="some/model")).severity == "not checked"
        assert check(model="some/model", load_format="dummy").items == []

    def test_another_revision_is_not_checked(self, snapshot):
        assert only(check(model="some/model", revision="v2")).severity == "not checked"

    def test_offline_what_is_not_in_the_cache_is_wrong(self, snapshot, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert check(model="some/model").items == []
        found = only(check(model="other/model"))
        assert (found.severity, found.check) == ("error", "model")
        assert "HF_HUB_OFFLINE is set" in found.message

    def test_a_tokenizer_that_would_be_downloaded_does_not_hide_the_model(self, snapshot):
        findings = check(model="some/model", tokenizer="other/tokenizer", kv_cache_memory_bytes=1)
        assert [(item.severity, item.check) for item in findings.items] == [
            ("not checked", "tokenizer"),
            ("error", "memory"),
        ]


def test_adapters_are_checked_against_the_model(checkpoint, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", checkpoint, r=8)
    right = check(model=str(checkpoint), lora_modules=[f"right={adapter}"])
    assert right.items == []
    wrong = check(
        model=str(checkpoint), lora_modules=[f"high={adapter}", "lost=/nowhere"], max_lora_rank=4, max_cpu_loras=1
    )
    assert [(found.severity, found.check) for found in wrong.items] == [
        ("error", "LoRA adapter high"),
        ("error", "LoRA adapter lost"),
        ("error", "LoRA adapters"),
    ]


def test_adapters_of_a_model_that_makes_vectors_are_refused(checkpoint):
    found = only(check(model=str(checkpoint), runner="pooling", lora_modules=["name=/nowhere"]))
    assert (found.severity, found.check) == ("error", "LoRA adapters")
    assert "only models that generate take LoRA adapters" in found.message


def test_a_load_format_that_the_model_does_not_have_is_refused(checkpoint):
    found = only(check(model=str(checkpoint), load_format="gguf"))
    assert (found.severity, found.check) == ("error", "load_format")
    assert "is no GGUF file" in found.message


PACKED = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 32},
    "gptq-ordered": {"quant_method": "gptq", "bits": 8, "group_size": 32, "desc_act": True},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 32},
}


@pytest.mark.parametrize("variant", PACKED)
class TestPackedCheckpoints:
    def make(self, tmp_path: Path, variant: str) -> Path:
        make_packed_checkpoint(tmp_path / "packed", tmp_path / "dense", "llama", PACKED[variant])
        return tmp_path / "packed"

    def test_are_right_as_they_come(self, variant, tmp_path):
        assert check(model=str(self.make(tmp_path, variant))).items == []

    def test_names_shapes_and_types_of_packed_tensors_are_checked(self, variant, tmp_path):
        directory = self.make(tmp_path, variant)
        tensors = load_file(directory / "model.safetensors")
        name = "model.layers.1.mlp.up_proj"
        del tensors[f"{name}.qzeros"]
        tensors[f"{name}.scales"] = tensors[f"{name}.scales"][:, 1:].contiguous()
        tensors[f"{name}.qweight"] = tensors[f"{name}.qweight"].long()
        save_file(tensors, directory / "model.safetensors")
        found = only(check(model=str(directory)))
        assert (found.severity, found.check) == ("error", "weights")
        assert f"1 missing: {name}.qzeros" in found.message
        assert f"1 of a wrong shape: {name}.scales is" in found.message
        assert f"1 of an unsupported type: {name}.qweight is int64" in found.message
