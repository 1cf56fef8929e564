"""Finding a model: in the box, in a directory, on a hub, and the one clear error if it is nowhere."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.hub import resolve_model
from tests.models.fake_hub import COMMIT, fake_hub


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    (directory / "original").mkdir(parents=True)
    for name in (
        *("config.json", "tokenizer.json", "chat_template.jinja", "merges.txt", "README.md"),
        *("model-00001-of-00001.safetensors", "consolidated.safetensors", "pytorch_model.bin", "original/params.json"),
    ):
        (directory / name).write_text(f'{{"name": "{name}"}}')
    return directory


@pytest.fixture
def hub(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with fake_hub(repository) as address:
        use_hub(monkeypatch, address)
        yield address


def names_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


CONFIG_FILES = {"config.json", "tokenizer.json", "chat_template.jinja", "merges.txt"}


@pytest.mark.parametrize("name", ["octavo-nano", "octavo-nano-draft"])
def test_models_in_the_box_are_directories_of_the_package(name: str) -> None:
    directory = resolve_model(name)
    assert directory.parts[-3:] == ("models", "box", name)
    assert ModelConfig.from_directory(directory).architecture == "LlamaForCausalLM"


def test_local_directory_is_taken_as_it_is(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model(str(repository)) == repository
    monkeypatch.chdir(repository.parent)
    assert resolve_model("repository").samefile(repository)


def test_directory_without_config_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"has no config\.json.*holds \['notes\.txt'\]"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/place", "directory /no/such/place does not exist"),
        ("./llama", r"directory \./llama does not exist"),
        ("../llama", r"directory \.\./llama does not exist"),
        ("~/no-such-llama", "directory ~/no-such-llama does not exist"),
        ("some/llama.gguf", "GGUF file some/llama.gguf does not exist"),
        ("not a hub name!", "neither a local directory nor a valid hub name"),
    ],
)
def test_what_cannot_be_a_hub_name_is_refused_without_asking(
    model: str, message: str, monkeypatch: pytest.MonkeyPatch, unused_address: str
) -> None:
    use_hub(monkeypatch, unused_address)
    with pytest.raises(ModelError, match=message):
        resolve_model(model)


def test_file_is_refused_with_what_to_name_instead(repository: Path) -> None:
    with pytest.raises(ModelError, match="is a file, but no GGUF file"):
        resolve_model(str(repository / "config.json"))


@pytest.mark.parametrize("name", ["model.gguf", "sha256-0123"])
def test_gguf_file_is_known_by_its_first_bytes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"GGUF" + bytes(20))
    assert resolve_model(str(path)) == path


def test_gguf_file_that_does_not_begin_as_one_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"<html>")
    with pytest.raises(ModelError, match="is broken: it does not begin as a GGUF file"):
        resolve_model(str(path))


def test_directory_of_gguf_files_says_to_name_one(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"Name the GGUF file itself, such as .*/a\.gguf"):
        resolve_model(str(tmp_path))


def test_hub_model_is_downloaded_without_pickles_and_copies(hub: str) -> None:
    directory = resolve_model("octavo/tiny")
    assert names_in(directory) == CONFIG_FILES | {"model-00001-of-00001.safetensors"}
    assert directory.name == COMMIT
    assert (directory / "config.json").read_text() == '{"name": "config.json"}'


def test_configuration_alone_can_be_downloaded(hub: str) -> None:
    assert names_in(resolve_model("octavo/tiny", revision="v2", weights=False)) == CONFIG_FILES


def test_downloaded_model_is_found_again_when_the_hub_is_gone(
    hub: str, unused_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = resolve_model("octavo/tiny")
    use_hub(monkeypatch, unused_address)
    assert resolve_model("octavo/tiny") == directory
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_model("octavo/tiny") == directory


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("octavo/none", None, "the hub has none of this name"),
        ("octavo/gated", None, "is gated: accept its terms"),
        ("octavo/licensed", None, "is gated: accept its terms"),
        ("octavo/broken", None, "The download of 'octavo/broken' to .* failed"),
        ("octavo/tiny", "v3", "not its revision 'v3'"),
    ],
)
def test_hub_model_that_cannot_be_read_is_refused(hub: str, model: str, revision: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_model(model, revision=revision)


@pytest.fixture
def unused_address() -> str:
    """An address that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_offline_error_names_the_cache_and_the_local_way(
    unused_address: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, unused_address)
    with pytest.raises(ModelError) as caught:
        resolve_model("octavo/tiny", revision="v2")
    message = str(caught.value)
    assert "the hub cannot be reached (ConnectError" in message
    assert f"the cache {empty_cache} does not hold it" in message
    assert "name a local directory with config.json and safetensors" in message
    assert "\n" not in message


def test_forbidden_network_is_said_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set, and the cache"):
        resolve_model("octavo/tiny")


def test_hub_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(ModelError, match="the hub cannot be reached"):
            resolve_model("octavo/tiny")
        assert time.monotonic() - start < 20
