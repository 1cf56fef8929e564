"""``octavo chat``: a conversation through OpenAI's API, line by line."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from octavo.cli.conversation import Conversation, open_client
from octavo.errors import OctavoError
from tests.cli.interrupts import hear_ctrl_c
from tests.cli.scripted_api import scripted_api


def test_answers_are_printed_and_every_turn_is_remembered(octavo):
    with scripted_api(answers=[["Hel", "lo!"], ["[b]You\n", "are Ada.[/b]"]]) as api:
        ran = octavo("chat", "--url", api.url, stdin="I am Ada.\n\nWho am I?\n")
    assert (ran.exit_code, ran.errors, ran.out) == (0, [], "Hello!\n[b]You\nare Ada.[/b]\n")
    assert api.requests[0] == {
        "model": "first",
        "messages": [{"role": "user", "content": "I am Ada."}],
        "stream": True,
    }
    assert api.requests[1]["messages"] == [
        {"role": "user", "content": "I am Ada."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Who am I?"},
    ]


def test_flags_choose_model_system_message_and_sampling(octavo):
    with scripted_api(answers=[["x"]], key="k") as api:
        url = f"{api.url}/v1/"
        flags = ["--url", url, "--api-key", "k", "--model", "m", "--system", "Be kind."]
        assert octavo("chat", *flags, "--temperature", "0", "--max_tokens", "5", stdin="Hi\n").exit_code == 0
    assert api.requests == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
            "stream": True,
            "temperature": 0.0,
            "max_tokens": 5,
        }
    ]


def test_reset_forgets_and_system_starts_over(octavo):
    lines = "a\n/reset\nb\n/system Be brief.\nc\n/system\nd\n/exit\nnever read\n"
    with scripted_api(answers=[["1"], ["2"], ["3"], ["4"]]) as api:
        assert octavo("chat", "--url", api.url, stdin=lines).exit_code == 0
    assert [request["messages"] for request in api.requests] == [
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "b"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "c"}],
        [{"role": "user", "content": "d"}],
    ]


def test_help_names_the_commands_and_a_typo_gets_the_nearest(octavo):
    with scripted_api() as api:
        ran = octavo("chat", "--url", api.url, stdin="/help\n/rest\n/nothing\n")
    for command in ("/reset", "/system TEXT", "/help", "/exit"):
        assert command in ran.out
    assert "there is no /rest; did you mean /reset?" in ran.out
    assert "there is no /nothing; /help lists the commands" in ran.out


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": {"message": "the prompt is too long"}}, "answered 400: the prompt is too long"),
        ({"detail": "no"}, 'answered 400: {"detail": "no"}'),
        (["so far", "<crash>"], "the server ended the answer: the engine ended"),
    ],
)
def test_an_error_of_the_server_is_told(octavo, answer, message):
    with scripted_api(answers=[answer]) as api:
        ran = octavo("chat", "--url", api.url, stdin="a\n")
    assert ran.exit_code == 1
    assert message in ran.errors[-1]


def test_a_failed_turn_leaves_no_trace():
    with scripted_api(answers=[["half", "<crash>"], ["whole"]]) as api, open_client(api.url, None) as client:
        conversation = Conversation(client, "m")
        with pytest.raises(OctavoError):
            list(conversation.say("a"))
        assert list(conversation.say("b")) == ["whole"]
    assert api.requests[1]["messages"] == [{"role": "user", "content": "b"}]


def test_an_answer_that_is_broken_off_is_kept_as_far_as_it_went():
    with scripted_api(answers=[["one", "two"], ["three"]]) as api, open_client(api.url, None) as client:
        conversation = Conversation(client, "m")
        pieces = conversation.say("a")
        assert next(pieces) == "one"
        pieces.close()
        assert list(conversation.say("b")) == ["three"]
    assert api.requests[1]["messages"][1] == {"role": "assistant", "content": "one"}


def test_a_wrong_key_is_told_with_the_flag_to_use(octavo):
    with scripted_api(key="right") as api:
        ran = octavo("chat", "--url", api.url, stdin="a\n")
    assert ran.exit_code == 1
    assert ran.errors[-1].endswith("answered 401: the key is wrong; name the key with --api-key")


def test_a_server_that_does_not_answer_is_named(octavo):
    ran = octavo("chat", "--url", "http://127.0.0.1:9")
    assert ran.exit_code == 1
    assert ran.errors[0].startswith("no answer from http://127.0.0.1:9/v1/: ")


def test_a_server_without_models_is_told(octavo):
    with scripted_api(models=[]) as api:
        ran = octavo("chat", "--url", api.url)
    assert ran.exit_code == 1
    assert ran.errors[0].endswith("/v1/models does not list a model; is this an OpenAI-compatible API?")


def test_flags_that_do_not_fit_together_are_refused(octavo):
    with_url = octavo("chat", "--url", "http://127.0.0.1:9", "--seed", "1", "--config", "x.yaml")
    assert with_url.errors == ["--seed, --config: for a model that octavo chat starts itself; with --url there is none"]
    assert octavo("chat", "--api-key", "k").errors == ["flag --api-key is for a server that --url names"]


def test_it_starts_a_model_of_its_own_and_ends_it(octavo, checkpoint, monkeypatch):
    monkeypatch.setenv("OCTAVO_API_KEY", "a key of another server")
    monkeypatch.setenv("OCTAVO_PORT", "1")
    ran = octavo("chat", str(checkpoint), "--max-tokens", "4", "--no-enable-prefix-caching", stdin="Hi\n")
    assert (ran.exit_code, ran.errors) == (0, [])
    assert ran.out.strip()


def test_its_own_model_does_not_outlive_it(checkpoint):
    command = [sys.executable, "-m", "octavo", "chat", str(checkpoint), "--max-tokens", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(b"Hi\n")
        chat.stdin.flush()
        assert chat.stdout.readline()  # the server is up and has answered
        (server,) = Path(f"/proc/{chat.pid}/task/{chat.pid}/children").read_text(encoding="ascii").split()
        chat.send_signal(signal.SIGTERM)
        assert chat.wait(30) == 128 + signal.SIGTERM
        assert not Path(f"/proc/{server}").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "/no/such/directory"], "/no/such/directory"),
        (["--dtype", "float3"], "flag --dtype: 'float3' is not right"),
    ],
)
def test_what_its_own_model_refuses_is_told_as_serve_tells_it(octavo, arguments, message):
    ran = octavo("chat", *arguments)
    assert ran.exit_code == 2
    assert message in ran.errors[-1]


def test_in_a_terminal_ctrl_c_stops_an_answer_and_then_ends_the_command():
    answer = ["word "] * 3 + ["<wait>"]
    with scripted_api(answers=[answer]) as api:
        terminal, inside = pty.openpty()
        command = [sys.executable, "-m", "octavo", "chat", "--url", api.url]
        child = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**os.environ, "TERM": "dumb"},
            preexec_fn=hear_ctrl_c,
        )
        os.close(inside)
        try:
            shown = _read_until(terminal, "> ")
            os.write(terminal, b"tell me\n")
            shown += _read_until(terminal, "word word word")
            child.send_signal(signal.SIGINT)
            shown += _read_until(terminal, "> ")
            assert "(stopped)" in shown
            assert _interrupt_until_it_ends(child) == 130
        finally:
            child.kill()
            os.close(terminal)
    assert "Traceback" not in shown


def _interrupt_until_it_ends(child: subprocess.Popen[bytes]) -> int:
    """Press Ctrl-C until it is heard: readline misses a signal that comes just when it begins to wait."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return child.wait(5)
    raise AssertionError("Ctrl-C did not end the command")


def _read_until(terminal: int, wanted: str) -> str:
    shown = ""
    deadline = time.monotonic() + 30
    while wanted not in shown:
        readable, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert readable, shown
        shown += os.read(terminal, 1024).decode(errors="replace")
    return shown
