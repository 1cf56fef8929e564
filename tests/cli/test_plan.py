"""``octavo plan``: what is printed, exit codes, and what is fetched."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from huggingface_hub import constants

from octavo.cli.config_flags import config_options
from octavo.config.schema import ServerConfig
from tests.models.fake_hub import fake_hub
from tests.plan.published_models import DEEPSEEK_V3, LLAMA_31_8B, LLAMA_31_70B


@pytest.fixture
def llama(tmp_path):
    path = tmp_path / "llama" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(LLAMA_31_8B), encoding="utf-8")
    return path


def test_plan_says_what_fits_how_fast_and_for_how_much(octavo, llama):
    ran = octavo("plan", str(llama), "--gpu", "H100")
    assert (ran.exit_code, ran.errors) == (0, [])
    for part in (
        "8,030,261,248 parameters",
        "16.06 GB",
        "131,072 bytes a token",
        "It fits.",
        "Time to first token",
        "output tokens/s",
        "$6.88 an hour",
        "2026-09-01",
        f"octavo serve {llama.parent}",
    ):
        assert part in ran.out


def test_json_says_the_same(octavo, llama):
    ran = octavo("plan", str(llama.parent), "--gpu=h100", "--max-model-len", "8k", "--json")
    plan = json.loads(ran.out)
    assert ran.exit_code == 0
    assert plan["num_parameters"] == 8_030_261_248
    assert plan["weight_bytes"] == 16_060_522_496
    assert plan["kv_bytes_per_token"] == 131_072
    memory = plan["memory_per_gpu"]
    blocks = memory["kv_cache_bytes"] // (16 * 131_072) - 1
    assert plan["max_batch"] == blocks // (8000 // 16)
    assert plan["recommended_command"].startswith("octavo serve ")
    assert plan["fits"] is True


def test_model_in_the_box_is_planned_for_this_machine(octavo, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ran = octavo("plan", "--gpu", "cpu")
    assert ran.exit_code == 0
    assert "octavo-nano" in ran.out
    assert "Add --calibrate" in ran.out
    assert "octavo serve octavo-nano --device cpu" in ran.out


def test_bfloat16_asked_for_by_name_is_told_from_auto_on_a_cpu(octavo, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ran = octavo("plan", "--gpu", "cpu", "--dtype", "bfloat16")
    assert ran.exit_code == 0
    assert "bfloat16, activations rounded to bfloat16" in ran.out
    assert "octavo serve octavo-nano --dtype bfloat16 --device cpu" in ran.out
    assert "rounded" not in octavo("plan", "--gpu", "cpu").out
    assert "rounded" not in octavo("plan", "--gpu", "H100", "--dtype", "bfloat16").out


def test_what_does_not_fit_ends_with_1_and_says_what_to_change(octavo, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_31_70B), encoding="utf-8")
    ran = octavo("plan", str(path), "--gpu", "H100", "--max-model-len", "8192")
    assert (ran.exit_code, ran.errors) == (1, [])
    assert "131.4 GiB weights" in ran.out
    assert "--gpus 2 --tensor-parallel-size 2" in ran.out
    again = octavo("plan", str(path), "--gpu", "H100", *shlex.split("--gpus 2 --tensor-parallel-size 2"))
    assert again.exit_code == 0
    assert "one device" in again.out


def test_recommended_command_has_only_flags_of_serve(octavo, llama):
    ran = octavo("plan", str(llama), "--gpu", "L4", "--concurrency", "3", "--block-size", "32", "--json")
    command = shlex.split(json.loads(ran.out)["recommended_command"])
    flags = {"--" + option.name.replace("_", "-") for option in config_options(ServerConfig)}
    assert command[:2] == ["octavo", "serve"]
    assert {part for part in command if part.startswith("--")} == {
        "--max-model-len",
        "--max-num-seqs",
        "--block-size",
    }
    assert {part for part in command if part.startswith("--")} <= flags


def test_own_prices_take_the_place_of_the_table(octavo, llama, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("- {gpu: H100, usd_per_hour: 1.5, provider: ours, date: 2026-02-03, source: invoice}")
    ran = octavo("plan", str(llama), "--gpu", "H100", "--prices", str(prices))
    assert "$1.50 an hour" in ran.out
    assert "ours, 2026-02-03, invoice" in ran.out


def test_gpu_without_a_price_is_planned_without_a_cost(octavo, llama):
    ran = octavo("plan", str(llama), "--gpu", "RTX 4090")
    assert ran.exit_code == 0
    assert "no list price of this GPU is known" in ran.out


def test_catalogue_is_listed(octavo):
    ran = octavo("plan", "--list-gpus")
    assert ran.exit_code == 0
    for name in ("T4", "A100-80GB-SXM", "H100-SXM", "RTX-PRO-6000", "MI355X"):
        assert name in ran.out


def test_of_a_hub_model_only_the_configuration_is_fetched(octavo, llama, monkeypatch, tmp_path):
    (llama.parent / "tokenizer.json").write_text("{}")
    (llama.parent / "model.safetensors").write_text("weights")
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with fake_hub(llama.parent) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        ran = octavo("plan", "octavo/tiny", "--gpu", "H100", "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.out)["recommended_command"] == "octavo serve octavo/tiny"
    assert {path.name for path in cache.rglob("snapshots/*/*")} == {"config.json"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--gpu", "H10O"], "did you mean H100-SXM?"),
        (["--gpu", "H100", "--gpus", "0"], "'0' is less than 1"),
        (["--gpu", "H100", "--gpus", "3"], "tensor_parallel_size may be 1, 2, 4"),
        (["--gpu", "cpu", "--gpus", "2"], "--gpus 2 makes no sense with --gpu cpu"),
        (["--gpu", "H100", "--calibrate"], "--calibrate and --calibration are for --gpu cpu"),
        (["--gpu", "H100", "--max-model-len", "many"], "'many' is not a count"),
        (["--gpu", "H100", "--gpu-memory-utilization", "1.5"], "should be less than or equal to 1"),
        (["--gpu", "H100", "--prices", "/no/prices.json"], "/no/prices.json: No such file or directory"),
        (["--gpu", "H100", "--quantisation", "fp8"], "did you mean --quantization?"),
        (["--gpu", "cpu", "--calibration", "/no/file.json"], "/no/file.json: No such file or directory"),
    ],
)
def test_wrong_values_are_one_clear_line(octavo, llama, arguments, reason):
    ran = octavo("plan", str(llama), *arguments)
    assert ran.exit_code == 2
    assert len(ran.errors) == 1
    assert reason in ran.errors[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "cannot be read as JSON"), ("[]", "must hold a JSON object, not a list"), ("{}", "'unnamed' is not known")],
)
def test_broken_configuration_is_one_clear_line(octavo, llama, content, reason):
    llama.write_text(content)
    ran = octavo("plan", str(llama), "--gpu", "H100")
    assert ran.exit_code == 2
    assert reason in ran.errors[0]


def test_planning_needs_no_torch(llama):
    llama.write_text(json.dumps(DEEPSEEK_V3), encoding="utf-8")
    script = (
        "import sys; from octavo.cli import main; "
        f"code = main(['plan', {str(llama)!r}, '--gpu', 'H200', '--gpus', '8']); "
        "sys.exit(code or ('torch' in sys.modules and 3) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
