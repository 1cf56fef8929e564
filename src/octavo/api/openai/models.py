"""``GET /v1/models`` and ``GET /v1/models/{id}``."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from octavo.api.openai.responses import ModelCard, ModelList
from octavo.api.openai.service import ModelService
from octavo.api.schema import operation


def models_router(service: ModelService) -> APIRouter:
    """The routes that say what is served."""
    router = APIRouter()

    @router.get("/v1/models", **operation(None, ModelList, errors=(401, 503)))
    async def list_models() -> Response:
        """List the names that this server serves."""
        models = ModelList(data=[_card(service, name) for name in (*service.names, *service.adapter_names)])
        return Response(msgspec.json.encode(models), media_type="application/json")

    @router.get("/v1/models/{model:path}", **operation(None, ModelCard, errors=(401, 404, 503)))
    async def retrieve_model(model: str) -> Response:
        """Describe one model."""
        card = _card(service, service.check_name(model))
        return Response(msgspec.json.encode(card), media_type="application/json")

    return router


def _card(service: ModelService, name: str) -> ModelCard:
    adapter = service.adapter(name)
    return ModelCard(
        id=name,
        created=service.created,
        root=service.llm.config.model if adapter is None else adapter.lora_path,
        parent=None if adapter is None else service.parents.get(name, service.names[0]),
        max_model_len=service.llm.max_model_len,
    )
