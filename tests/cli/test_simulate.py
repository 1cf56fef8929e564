"""``octavo simulate``: a load on replicas, the search for their number, and wrong flags."""

from __future__ import annotations

import msgspec
import pytest

from octavo.bench.records import read_result
from octavo.simulate.replica_search import ReplicaSearch

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(CONFIG))
    return [str(tmp_path), "--gpu", "L4"]


@pytest.fixture
def trace(tmp_path):
    file = tmp_path / "trace.csv"
    rows = [f"{index / 10},{300 + index},{20 + index % 7}" for index in range(60)]
    file.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return file


def test_a_trace_is_served_by_replicas(octavo, model, trace, tmp_path):
    output, html = tmp_path / "result.json", tmp_path / "result.html"
    ran = octavo(
        "simulate", *model, f"--trace={trace}", "--replicas=3", "--policy=round-robin", f"--output={output}",
        f"--html={html}", "--slo=ttft:1s,tpot:100ms",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.errors
    assert "requests            60" in ran.out
    assert "goodput" in ran.out
    result = read_result(output)
    assert result.kind == "simulate"
    assert result.settings["num_replicas"] == 3
    assert [record.input_tokens for record in result.records] == [300 + index for index in range(60)]
    assert {record.replica for record in result.records} == {0, 1, 2}
    assert "Simulated load" in html.read_text(encoding="utf-8")


def test_random_requests_need_no_file(octavo, model):
    flags = ["--num-prompts=50", "--input-len=100", "--output-len=10", "--range-ratio=0.2", "--request-rate=5"]
    first, second = (octavo("simulate", *model, *flags, "--seed=4") for _ in range(2))
    assert first.exit_code == 0, first.errors
    lines = [[line for line in ran.out.splitlines() if "simulated" not in line] for ran in (first, second)]
    assert lines[0] == lines[1]


def test_the_number_of_replicas_is_found(octavo, model, tmp_path):
    load = ["--num-prompts=300", "--input-len=1000", "--output-len=50", "--request-rate=30"]
    output, html, png = (tmp_path / name for name in ("search.json", "search.html", "search.png"))
    ran = octavo(
        "simulate", *model, *load, "--find-replicas", "--slo=ttft:500ms,tpot:50ms", "--price-per-hour=0.8",
        f"--output={output}", f"--html={html}", f"--png={png}",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.errors
    search = msgspec.json.decode(output.read_bytes(), type=ReplicaSearch)
    assert search.needed is not None
    assert search.needed > 1
    assert f"{search.needed} replicas: " in ran.out
    assert f"${0.8 * search.needed:.2f} an hour" in ran.out
    assert "Requests within the objectives" in html.read_text(encoding="utf-8")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_objectives_out_of_reach_give_exit_code_1(octavo, model):
    ran = octavo("simulate", *model, "--num-prompts=5", "--find-replicas", "--slo=ttft:0.001ms")
    assert ran.exit_code == 1
    assert "Not reached" in ran.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--find-replicas"], "--find-replicas needs --slo"),
        (["--find-replicas", "--slo=ttft:1s", "--replicas=2"], "that --replicas would set"),
        (["--png=x.png"], "--png is the curve of --find-replicas"),
        (["--slo=tfft:1s"], "did you mean ttft"),
        (["--policy=fastest"], "no balancing policy 'fastest'"),
        (["--trace=missing.csv"], "missing.csv: No such file"),
        (["--trace=missing.csv", "--request-rate=1"], "brings its own arrival times"),
        (["--input-len=4000"], "longest request has 4128"),
        (["--trace-sped=2"], "--trace-speed"),
        (["--gpu=H1000"], "no GPU 'H1000'"),
    ],
)
def test_wrong_flags_are_one_clear_line(octavo, model, flags, message):
    ran = octavo("simulate", *model, *flags)
    assert ran.exit_code == 2
    assert len(ran.errors) == 1
    assert message in ran.errors[0]
