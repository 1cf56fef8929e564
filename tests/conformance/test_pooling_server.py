"""Embedding models and cross-encoders over HTTP: OpenAI's and LangChain's clients, Jina's and Cohere's shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from langchain_openai import OpenAIEmbeddings
from openai import OpenAI
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from sentence_transformers import CrossEncoder, SentenceTransformer

from tests.encoder_checkpoints import make_encoder, save_pooling_files
from tests.server_process import ServerProcess

MAX_LEN = 64
TEXTS = ["the sea", "the red planet", "a ship"]


@pytest.fixture(scope="module")
def embedding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_encoder(tmp_path_factory.mktemp("models") / "bert", "BertModel")
    return save_pooling_files(directory, transformer={"max_seq_length": MAX_LEN})


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("models") / "cross", "XLMRobertaForSequenceClassification")


@pytest.fixture(scope="module")
def server(embedding_model: Path) -> Iterator[ServerProcess]:
    with ServerProcess(model=str(embedding_model), served_model_name=["tiny"]) as running:
        yield running


@pytest.fixture(scope="module")
def reranker(cross_encoder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(model=str(cross_encoder), served_model_name=["ranker"]) as running:
        yield running


@pytest.fixture(scope="module")
def expected(embedding_model: Path) -> Any:
    return SentenceTransformer(str(embedding_model), device="cpu").encode(TEXTS)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as connected:
        yield connected


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_embeddings_of_several_texts(client: OpenAI, expected: Any, encoding_format: Any) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS, encoding_format=encoding_format)
    assert [item.index for item in answer.data] == [0, 1, 2]
    vectors: list[Any] = [item.embedding for item in answer.data]
    if encoding_format == "base64":
        assert all(isinstance(vector, str) for vector in vectors)
        answer = client.embeddings.create(model="tiny", input=TEXTS)  # the client itself asks for base64 and decodes it
        vectors = [item.embedding for item in answer.data]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_texts_and_token_ids_may_be_mixed(server: ServerProcess, client: OpenAI, expected: Any) -> None:
    ids = client.post("/../tokenize", body={"prompt": TEXTS[1]}, cast_to=dict)["tokens"]
    for given_input, rows in (([TEXTS[0], ids], [0, 1]), (ids, [1]), ([ids, ids], [1, 1]), (TEXTS[2], [2])):
        answer = httpx.post(f"{server.url}/v1/embeddings", json={"input": given_input}).json()
        assert answer["model"] == "tiny"
        np.testing.assert_allclose([item["embedding"] for item in answer["data"]], expected[rows], atol=1e-5)


def test_dimensions_cut_and_scale_again(client: OpenAI, expected: Any) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS, dimensions=8)
    cut = expected[:, :8] / np.linalg.norm(expected[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose([item.embedding for item in answer.data], cut, atol=1e-5)


def test_langchain_embeds_documents(server: ServerProcess, expected: Any) -> None:
    embeddings = OpenAIEmbeddings(
        model="tiny", base_url=f"{server.url}/v1", api_key=SecretStr("none"), check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), expected, atol=1e-5)


def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut(client: OpenAI) -> None:
    text = "a " * 100
    with pytest.raises(openai.BadRequestError, match="102 tokens, but the model's greatest length is 64") as caught:
        client.embeddings.create(model="tiny", input=text)
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")
    answer = client.embeddings.create(model="tiny", input=text, extra_body={"truncate_prompt_tokens": -1})
    assert answer.usage.prompt_tokens == MAX_LEN


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [[5, 99999]]}, "input"),
        ({"input": "a", "dimensions": 33}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "truncate_prompt_tokens": 65}, "truncate_prompt_tokens"),
        ({"input": "a", "dimension": 3}, "dimension"),
        ({}, "input"),
    ],
)
def test_a_wrong_field_is_named(server: ServerProcess, fields: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{server.url}/v1/embeddings", json=fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_rerank_sorts_documents_by_a_cross_encoder(reranker: ServerProcess, cross_encoder: Path, path: str) -> None:
    documents = ["a ship", "the red planet", "", "abc"]
    scores = CrossEncoder(str(cross_encoder), device="cpu").predict([("red", document) for document in documents])
    body = {"model": "ranker", "query": "red", "documents": [documents[0], {"text": documents[1]}, *documents[2:]]}
    answer = httpx.post(reranker.url + path, json=body).json()
    order = list(np.argsort(-scores))
    assert [item["index"] for item in answer["results"]] == order
    assert [item["document"]["text"] for item in answer["results"]] == [documents[index] for index in order]
    np.testing.assert_allclose([item["relevance_score"] for item in answer["results"]], scores[order], atol=1e-5)
    best = httpx.post(reranker.url + path, json=body | {"top_n": 2, "return_documents": False}).json()
    assert [(item["index"], "document" in item) for item in best["results"]] == [(index, False) for index in order[:2]]


def test_scores_of_a_cross_encoder(reranker: ServerProcess, cross_encoder: Path) -> None:
    oracle = CrossEncoder(str(cross_encoder), device="cpu")
    one_to_many = httpx.post(f"{reranker.url}/v1/score", json={"text_1": "sea", "text_2": TEXTS}).json()
    many_to_many = httpx.post(f"{reranker.url}/score", json={"text_1": TEXTS, "text_2": TEXTS[::-1]}).json()
    for answer, pairs in (
        (one_to_many, [("sea", text) for text in TEXTS]),
        (many_to_many, list(zip(TEXTS, TEXTS[::-1], strict=True))),
    ):
        np.testing.assert_allclose([item["score"] for item in answer["data"]], oracle.predict(pairs), atol=1e-5)


def test_an_embedding_model_scores_by_the_cosine(server: ServerProcess, expected: Any) -> None:
    answer = httpx.post(f"{server.url}/score", json={"text_1": TEXTS[0], "text_2": TEXTS}).json()
    np.testing.assert_allclose([item["score"] for item in answer["data"]], expected @ expected[0], atol=1e-5)


def test_numbers_of_texts_must_fit(reranker: ServerProcess) -> None:
    answer = httpx.post(f"{reranker.url}/score", json={"text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text_1")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_route_that_generates_says_that_the_model_does_not(server: ServerProcess, path: str) -> None:
    answer = httpx.post(server.url + path, json={"prompt": "a"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_for_model")
    assert "use /v1/embeddings" in error["message"]


def test_a_cross_encoder_makes_no_vectors(reranker: ServerProcess) -> None:
    answer = httpx.post(f"{reranker.url}/v1/embeddings", json={"input": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_for_model")


def test_a_request_has_a_timeline_and_counts_in_the_metrics(server: ServerProcess) -> None:
    before = server.metrics()
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"input": TEXTS})
    after = server.metrics()
    story = httpx.get(f"{server.url}/v1/requests/{answer.json()['id']}/timeline").json()
    tokens = answer.json()["usage"]["prompt_tokens"]
    assert (story["finish_reason"], story["num_prompt_tokens"], story["n"]) == ("stop", tokens, 3)
    assert {event["event"] for event in story["events"]} == {"arrived", "scheduled", "prefill_chunk", "finished"}
    assert f"prompt_tokens={tokens}" in answer.headers["x-octavo-timing"]
    assert after["octavo_prompt_tokens_total"] - before["octavo_prompt_tokens_total"] == tokens
    assert after["octavo_request_success_total"] - before["octavo_request_success_total"] == 3
    assert after["octavo_num_requests_running"] == 0


def test_more_texts_than_the_queue_holds_are_refused(cross_encoder: Path) -> None:
    with ServerProcess(model=str(cross_encoder), max_num_seqs=2, max_num_queued_reqs=3) as small:
        answer = httpx.post(f"{small.url}/score", json={"text_1": "a", "text_2": ["b"] * 6})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text_2")
        assert httpx.post(f"{small.url}/score", json={"text_1": "a", "text_2": ["b"] * 5}).status_code == 200


@pytest.mark.parametrize("route", ["POST /v1/embeddings", "POST /v1/rerank", "POST /v1/score"])
def test_every_answer_is_as_described(server: ServerProcess, route: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = {f"{item.ok().method.upper()} {item.ok().path}": item.ok() for item in schema.get_all_operations()}

    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations[route].as_strategy())
    def run(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict):
            case.body.pop("model", None)
        checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
        case.call_and_validate(checks=checks, timeout=60)

    run()
