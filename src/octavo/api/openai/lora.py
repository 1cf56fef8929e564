"""``POST /v1/load_lora_adapter`` and ``POST /v1/unload_lora_adapter``, as vLLM has them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from octavo.api.fields import StrictModel
from octavo.api.json_body import read_body
from octavo.api.openai.service import ModelService
from octavo.api.schema import operation
from octavo.errors import RequestError

_MAX_NAME_CHARS = 256
_MAX_PATH_CHARS = 4096


class LoadLoraAdapterRequest(StrictModel):
    """Body of ``POST /v1/load_lora_adapter``."""

    lora_name: str = Field(min_length=1, max_length=_MAX_NAME_CHARS)
    lora_path: str = Field(
        min_length=1, max_length=_MAX_PATH_CHARS, description="Directory on the server, in the format of PEFT."
    )


class UnloadLoraAdapterRequest(StrictModel):
    """Body of ``POST /v1/unload_lora_adapter``."""

    lora_name: str = Field(min_length=1, max_length=_MAX_NAME_CHARS)


def lora_router(service: ModelService, *, is_allowed: bool) -> APIRouter:
    """The routes that change which LoRA adapters a server has.

    Args:
        is_allowed: whether clients may do that; otherwise each request is refused.
    """
    router = APIRouter()

    @router.post("/v1/load_lora_adapter", **operation(LoadLoraAdapterRequest, None))
    async def load_lora_adapter(request: Request) -> Response:
        """Load a LoRA adapter; it can be asked for by its name at once."""
        body = await read_body(request, LoadLoraAdapterRequest)
        _check_allowed(is_allowed)
        name = body.lora_name
        if name in service.names:
            raise RequestError(f"{name!r} is the name of the model. Give the adapter another one.", param="lora_name")
        await service.llm.load_lora_adapter(name, body.lora_path)
        return _text(f"Success: LoRA adapter {name!r} added successfully.")

    @router.post("/v1/unload_lora_adapter", **operation(UnloadLoraAdapterRequest, None))
    async def unload_lora_adapter(request: Request) -> Response:
        """Forget a LoRA adapter; requests that have it already end with it."""
        body = await read_body(request, UnloadLoraAdapterRequest)
        _check_allowed(is_allowed)
        service.llm.unload_lora_adapter(body.lora_name)
        return _text(f"Success: LoRA adapter {body.lora_name!r} removed successfully.")

    return router


def _check_allowed(is_allowed: bool) -> None:
    if not is_allowed:
        raise RequestError(
            "This server does not let clients load or unload LoRA adapters. Start it with --enable-lora and "
            "--enable-runtime-lora-updating, on a machine whose clients are trusted: they name any of its directories.",
            code="lora_updating_disabled",
        )


def _text(message: str) -> Response:
    return Response(message, media_type="text/plain")
