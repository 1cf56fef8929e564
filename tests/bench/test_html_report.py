"""The report of a test: whole, self-contained, and safe against what it shows."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from octavo.bench.html_report import (
    describe_objectives,
    latency_axis,
    latency_samples_ms,
    render_report,
    write_html_report,
)
from octavo.bench.records import RequestRecord
from octavo.bench.summary import Slo, summarize
from octavo.errors import ConfigError
from tests.bench.made_up import made_up_records, made_up_result

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\x00'
_VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements, attributes and texts of a page; fails if elements are not nested properly."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += attributes
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return "\n".join(self.texts)


def assert_self_contained(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & set(page.elements)
    urls = {name: value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "data")}
    assert urls == {}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "@import" not in html
    assert "url(" not in html
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", *re.findall(r"https?://\S+", page.text)}
    return page


def test_a_report_shows_the_figures_of_the_summary():
    result = made_up_result(
        made_up_records(300, failing=4), slo=Slo(ttft_ms=150, tpot_ms=30), warnings=["Mind the gap."]
    )
    page = assert_self_contained(render_report(result))
    summary = result.summary
    for shown in (
        "Load test: tiny-llama",
        "http://127.0.0.1:8000/v1",
        f"{summary.request_throughput:.1f}",
        f"{summary.output_throughput:,.0f}",
        f"{summary.ttft_ms.p50:,.1f} ms",
        f"{summary.e2e_ms.p99:,.0f}",
        "Mind the gap.",
        "Time to first token",
        "Inter-token latency",
        "http_503",
        "the queue is full",
        "request_rate",
        "a CPU",
        "objective: 150 ms",
    ):
        assert shown in page.text, shown
    assert page.elements.count("svg") == 7


def test_gpu_memory_is_shown_where_the_server_tells_it():
    result = made_up_result()
    assert "GPU memory" not in render_report(result)
    result.summary.gpu_memory_used_bytes = 3 * 2**30
    assert "3.0 GiB" in Page(render_report(result)).text


def test_the_same_result_gives_the_same_report():
    assert render_report(made_up_result()) == render_report(made_up_result())


def test_hostile_names_stay_text():
    failed = RequestRecord(index=0, scheduled_at=0, sent_at=0, finished_at=1, error=HOSTILE, error_message=HOSTILE)
    result = made_up_result(
        [*made_up_records(5), failed],
        model=HOSTILE,
        target=HOSTILE,
        created_at=HOSTILE,
        octavo_version=HOSTILE,
        warnings=[HOSTILE],
        settings={HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}},
        environment={HOSTILE: HOSTILE},
    )
    page = assert_self_contained(render_report(result))
    assert HOSTILE.replace("\x00", "\ufffd") in page.text


@pytest.mark.parametrize("records", [[], made_up_records(1), made_up_records(3, failing=3)])
def test_a_test_of_little_or_no_success_has_a_report_too(records):
    page = assert_self_contained(render_report(made_up_result(records, slo=Slo(ttft_ms=1))))
    assert "requests/s" in page.text


def test_answers_that_were_not_streamed_have_no_token_latencies():
    records = [
        RequestRecord(index=i, scheduled_at=i, sent_at=i, finished_at=i + 1.5, output_tokens=4) for i in range(4)
    ]
    page = assert_self_contained(render_report(made_up_result(records)))
    assert "End-to-end latency" in page.text
    assert "Time to first token" not in page.text


def test_a_big_test_makes_a_small_file():
    records = made_up_records(100_000, num_output_tokens=3)
    assert len(render_report(made_up_result(records))) < 1_000_000


def test_goodput_is_told_with_its_objectives():
    result = made_up_result(made_up_records(100, failing=10), slo=Slo(e2e_ms=1e9))
    told = describe_objectives(result)
    assert "End-to-end latency at most 1,000,000,000 ms" in told
    assert "90 of 100 requests met all of them (90.0%)" in told


def test_samples_are_those_of_the_summary():
    records = made_up_records(50, failing=5)
    samples, summary = latency_samples_ms(records), summarize(records)
    for name, values in samples.items():
        assert len(values) == getattr(summary, name).count
        assert np.percentile(values, 99) == pytest.approx(getattr(summary, name).p99)


def test_a_long_tail_gets_a_logarithmic_axis():
    assert not latency_axis("TTFT", [np.array([1.0, 2.0, 3.0])]).log
    assert latency_axis("TTFT", [np.array([0.0, 1.0, 2.0, 3.0, 500.0])]).log
    assert not latency_axis("TTFT", []).log


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_html_report(made_up_result(), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ConfigError, match="No such file"):
        write_html_report(made_up_result(), tmp_path / "missing" / "report.html")
    with pytest.raises(ConfigError, match="Not a directory"):
        write_html_report(made_up_result(), path / "report.html")
