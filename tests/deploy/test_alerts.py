"""The alert rules: accepted by promtool, seen firing and not firing, and made of metrics that a server really has."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.deploy.prometheus_process import OBSERVABILITY, program

UNIT_TESTS = OBSERVABILITY.parents[1] / "tests/deploy/alerts_test.yml"
RULES = [
    rule
    for group in yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
METRIC = re.compile(r"\b(?:octavo_|process_|http_)\w+")
NEEDS_A_GPU = re.compile("octavo_gpu_.*")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", str(OBSERVABILITY / "prometheus.yml")],
        ["check", "rules", str(OBSERVABILITY / "alerts.yml")],
        ["test", "rules", str(UNIT_TESTS)],
    ],
    ids=" ".join,
)
def test_promtool_is_content(arguments):
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing_and_not_firing():
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    assert set(cases) == {(name, fires) for name in NAMES for fires in (True, False)}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_every_alert_says_what_it_means_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "action"}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_alerts_are_made_of_metrics_that_a_server_has(scraped, rule):
    names = {name for name in METRIC.findall(rule["expr"]) if not NEEDS_A_GPU.fullmatch(name)}
    assert all(scraped.query(name) for name in names)


def test_a_healthy_server_sets_off_no_alert(scraped):
    def are_evaluated() -> bool:
        return all(rule["health"] == "ok" for rules in scraped.rule_groups().values() for rule in rules)

    scraped.wait_until(are_evaluated)
    groups = scraped.rule_groups()
    assert {rule["name"] for rules in groups.values() for rule in rules} == set(NAMES)
    of_the_server = [rule for name, rules in groups.items() for rule in rules if name != "octavo-hardware"]
    assert {rule["name"]: rule["state"] for rule in of_the_server if rule["state"] != "inactive"} == {}
