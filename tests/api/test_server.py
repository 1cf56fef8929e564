from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from octavo.api.server import bind, serve
from octavo.config import ServerConfig
from octavo.errors import ConfigError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_told_in_one_line(taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(ServerConfig(port=taken_port)) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"port {taken_port} on 127.0.0.1 is already in use" in message


def test_a_model_that_does_not_exist_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(ServerConfig(port=0, model="/no/such/model")) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "/no/such/model" in message


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        bind(host, 0)


def test_ipv6_can_be_bound() -> None:
    try:
        listener = bind("::1", 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.family is socket.AF_INET6


def test_a_port_is_checked_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys, octavo.api.server\n"
        "print([name for name in ('torch', 'fastapi', 'uvicorn', 'octavo.engine.async_llm') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_process_that_speaks_http_never_imports_torch() -> None:
    code = "import sys, octavo.api.app, octavo.api.lifecycle\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_server_that_generates_holds_no_libraries_for_vectors_and_no_websockets() -> None:
    code = (
        "import sys, octavo.api.app, octavo.api.lifecycle\n"
        "octavo.api.lifecycle._http_server(lambda scope, receive, send: None).config.load()\n"
        "print([name for name in ('numpy', 'websockets', 'wsproto') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_engine_process_reads_no_text_until_there_is_a_grammar() -> None:
    code = (
        "import sys, octavo.engine.process, octavo.engine.any_core\n"
        "print([name for name in ('tokenizers', 'jinja2') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_tokens_do_not_wait_for_acknowledgements() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
