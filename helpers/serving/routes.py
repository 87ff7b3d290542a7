"""The HTTP routes: OpenAI's completions, chat, embeddings and models, llama.cpp's /infill and /completion.

Handlers read and check a request, let the engine prepare its prompt and write its texts, and answer at the
end or piece by piece. Whoever goes away, or waits longer than allowed, has its texts given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from helpers.models.causal_lm import ModelError
from helpers.models.conversations import Turn
from helpers.models.embedder import EmbedderError, encode
from helpers.models.text_writer import Decoding
from helpers.serving.engine import BusyError, Engine, StoppedError
from helpers.serving.gate import Gate
from helpers.serving.prompts import LONGEST_TOKEN, PromptError, Prompts, ReadyPrompt
from helpers.serving.replies import (
    ApiError,
    ChatForm,
    CompletionForm,
    embeddings_reply,
    empty_native_reply,
    model_reply,
    models_reply,
    native_reply,
)
from helpers.serving.request_shapes import (
    MOST_TEXTS,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    InfillRequest,
    NativeRequest,
    unsupported,
)
from helpers.serving.retrieved_context import Place, chunks_of
from helpers.serving.served_models import ServedEmbedder, ServedLm, ServedModels
from helpers.serving.written_text import TextRequest, WrittenText

LOOK_S = 0.5  # between two looks whether a client is still there
EMBEDDED_TOKENS = 256  # of a text
EMBEDDED_CHARS = 32 * EMBEDDED_TOKENS  # of a text, more than so many tokens hold
EMBEDDED_AT_ONCE = 16  # texts, between which other requests are served
# llama.vscode asks its embeddings server for this model, whatever is configured.
EDITOR_NAMES = ("GPT-4",)

Shape = TypeVar("Shape", bound=BaseModel)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeLimits:
    """What a client may ask for."""

    body_bytes: int = 2**20
    body_s: float = 30.0  # until a request has come whole
    request_s: float = 300.0  # until it is answered


class Api:
    """The routes of one run's models."""

    def __init__(
        self, models: ServedModels, engine: Engine, prompts: Prompts, limits: ServeLimits = ServeLimits()
    ) -> None:
        self.models, self.engine, self.prompts, self.limits = models, engine, prompts, limits
        self.created = int(time.time())

    def app(self, gate: Callable[[Any], Any] = Gate) -> Starlette:
        """Return the application; `gate` wraps it, and decides who comes in."""
        post = {
            "/v1/completions": self.completions, "/v1/chat/completions": self.chat,
            "/v1/embeddings": self.embeddings, "/infill": self.infill, "/completion": self.completion,
        }  # fmt: skip
        routes = [Route(path, handler, methods=["POST"]) for path, handler in post.items()]
        routes += [
            Route("/health", self.health), Route("/v1/health", self.health),
            Route("/v1/models", self.list_models), Route("/models", self.list_models),
            Route("/v1/models/{name}", self.one_model),
        ]  # fmt: skip
        handlers = {
            ApiError: _api_error,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _unknown_error,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.add_middleware(gate)
        return app

    # --- routes ------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """Say that the server runs."""
        return JSONResponse({"status": "ok", "unfinished": self.engine.unfinished})

    async def list_models(self, request: Request) -> Response:
        """List the models."""
        return JSONResponse(models_reply(self.models, self.created))

    async def one_model(self, request: Request) -> Response:
        """Describe one model."""
        name = request.path_params["name"]
        if name not in self.models.names:
            raise _no_such_model(name, self.models.names)
        return JSONResponse(model_reply(self.models, name, self.created))

    async def completions(self, request: Request) -> Response:
        """Continue prompts, or fill in what stands before a suffix."""
        asked = await self._read(request, CompletionRequest)
        lm = self._lm(asked.model, "code-adapted")
        single = isinstance(asked.prompt, str) or not asked.prompt or isinstance(asked.prompt[0], int)
        several: Sequence[Any] = [asked.prompt] if single else asked.prompt
        n = asked.n or 1
        if len(several) * n > MOST_TEXTS:
            raise ApiError(400, f"prompts times n is {len(several) * n}, of at most {MOST_TEXTS}", param="n")

        def prepare() -> list[ReadyPrompt]:
            return [
                self.prompts.completion(lm, prompt, asked.suffix or "", asked.max_tokens)
                for prompt in several
            ]

        return await self._answer(
            request, asked, lm, await self._in_engine(request, prepare), CompletionForm(lm.name)
        )

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        asked = await self._read(request, ChatRequest)
        lm = self._lm(asked.model, "chat-adapted", chat=True)
        roles = {"developer": "system"}
        turns = [Turn(roles.get(one.role, one.role), one.text) for one in asked.messages]
        if turns[-1].role == "assistant":
            raise ApiError(400, "the last message must be the user's", param="messages")
        most = asked.max_completion_tokens or asked.max_tokens
        if most is None and asked.n_predict is not None:
            most = asked.n_predict or 1  # llama.vscode announces a conversation with 0
        ready = await self._in_engine(request, lambda: self.prompts.chat(lm, turns, most))
        return await self._answer(request, asked, lm, [ready], ChatForm(lm.name))

    async def embeddings(self, request: Request) -> Response:
        """Embed texts."""
        asked = await self._read(request, EmbeddingRequest)
        embedder = self._embedder(asked.model)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if any(not text.strip() for text in texts):
            raise ApiError(400, "there is no text to embed: input is empty", param="input")
        if asked.dimensions is not None:
            raise ApiError(400, "vectors are not shortened; leave dimensions out", param="dimensions")
        short = [text[:EMBEDDED_CHARS] for text in texts]

        def embed(some: list[str]) -> tuple[np.ndarray, int]:
            vectors = encode(
                embedder.model, some, kind=asked.input_type, runtime=self.models.runtime,
                max_tokens=EMBEDDED_TOKENS,
            )  # fmt: skip
            return vectors, _count_tokens(embedder.model, some)

        found = [
            await self._in_engine(request, functools.partial(embed, short[first : first + EMBEDDED_AT_ONCE]))
            for first in range(0, len(short), EMBEDDED_AT_ONCE)
        ]
        vectors, tokens = np.concatenate([rows for rows, _ in found]), sum(count for _, count in found)
        return JSONResponse(
            embeddings_reply(embedder.name, vectors, tokens, asked.encoding_format == "base64")
        )

    async def infill(self, request: Request) -> Response:
        """Go on at a place in a file, as llama.cpp's server does."""
        asked = await self._read(request, InfillRequest)
        lm = self._lm(asked.model, "code-adapted")
        if asked.n_predict == 0:
            return JSONResponse(empty_native_reply(lm))
        chunks = chunks_of(asked.input_extra, lm.window * LONGEST_TOKEN)
        place = Place(asked.input_prefix, asked.input_suffix, "", chunks)
        ready = await self._in_engine(
            request, lambda: self.prompts.infill(lm, place, asked.prompt, asked.n_predict)
        )
        return await self._native(request, asked, lm, ready)

    async def completion(self, request: Request) -> Response:
        """Continue a prompt, as llama.cpp's server does."""
        asked = await self._read(request, NativeRequest)
        lm = self._lm(asked.model, "code-adapted")
        if asked.n_predict == 0:
            return JSONResponse(empty_native_reply(lm))
        ready = await self._in_engine(
            request, lambda: self.prompts.completion(lm, asked.prompt, "", asked.n_predict)
        )
        return await self._native(request, asked, lm, ready)

    # --- what the routes share ---------------------------------------------------------------------

    async def _read(self, request: Request, shape: type[Shape]) -> Shape:
        """Return the request's body as `shape`, or raise ApiError."""
        try:
            async with asyncio.timeout(self.limits.body_s):
                body = await _body(request, self.limits.body_bytes)
        except TimeoutError:
            raise ApiError(
                408, f"the request did not come whole within {self.limits.body_s:g} s",
                headers={"Connection": "close"},
            ) from None  # fmt: skip
        asked = parsed(body, shape)
        if refused := unsupported(asked):
            raise ApiError(400, f"{refused[0]} is not supported: {refused[1]}", param=refused[0])
        return asked

    def _lm(self, name: str | None, usual: str, *, chat: bool = False) -> ServedLm:
        fitting = [one for one in self.models.lms.values() if one.is_chat or not chat]
        if not fitting:
            raise ApiError(404, "this run has no model for this route", code="model_not_found")
        if not name:
            return self.models.lms.get(usual) or fitting[-1]
        found = self.models.lms.get(name)
        if found is None:
            raise _no_such_model(name, [one.name for one in fitting])
        if found not in fitting:
            raise ApiError(
                400, f"{name} is no chat model; take {' or '.join(one.name for one in fitting)}",
                param="model",
            )  # fmt: skip
        return found

    def _embedder(self, name: str | None) -> ServedEmbedder:
        embedders = self.models.embedders
        if not embedders:
            raise ApiError(404, "this run has no embedder", code="model_not_found")
        if not name or name in EDITOR_NAMES:
            return embedders.get("embed-adapted") or next(iter(embedders.values()))
        if name not in embedders:
            raise _no_such_model(name, list(embedders))
        return embedders[name]

    async def _in_engine(self, request: Request, job: Callable[[], Any]) -> Any:
        """Return what `job` returns, computed by the engine, which drops it if the client goes away first."""
        try:
            async with asyncio.timeout(self.limits.request_s):
                return await _while_there(request, asyncio.wrap_future(self.engine.call(job)))
        except PromptError as error:
            raise ApiError(400, str(error), param=error.field, code=error.code or None) from error
        except (ModelError, EmbedderError) as error:
            raise ApiError(400, str(error)) from error
        except (BusyError, StoppedError, TimeoutError) as error:
            raise _not_now(error) from error

    async def _answer(
        self, request: Request, asked: CompletionRequest | ChatRequest, lm: ServedLm,
        ready: Sequence[ReadyPrompt], form: CompletionForm,
    ) -> Response:  # fmt: skip
        n = asked.n or 1
        if n > 1 and not asked.temperature:
            raise ApiError(400, "n above 1 needs a temperature above 0: all texts would be equal", param="n")
        watched = self._write(lm, asked, ready, n)
        if not asked.stream:
            async with contextlib.aclosing(watched.changes(request)) as changes:
                async for _ in changes:
                    pass
            return JSONResponse(form.whole(watched.texts))
        counted = bool(asked.stream_options and asked.stream_options.include_usage)
        return _event_stream(_pieces(watched, form, counted))

    async def _native(
        self, request: Request, asked: NativeRequest, lm: ServedLm, ready: ReadyPrompt
    ) -> Response:
        watched = self._write(lm, asked, [ready], 1)
        (text,) = watched.texts
        if not asked.stream:
            async with contextlib.aclosing(watched.changes(request)) as changes:
                async for _ in changes:
                    pass
            return JSONResponse(native_reply(text, ready.has_suffix))

        async def events() -> AsyncIterator[str]:
            async with contextlib.aclosing(watched.changes()) as changes:
                async for _, added, _ in changes:
                    if added:
                        yield _event({"index": 0, "content": added, "stop": False})
            yield _event({**native_reply(text, ready.has_suffix), "content": ""})

        return _event_stream(events())

    def _write(
        self, lm: ServedLm, asked: CompletionRequest | ChatRequest | NativeRequest,
        ready: Sequence[ReadyPrompt], n: int,
    ) -> Watched:  # fmt: skip
        watched = Watched(self.limits.request_s)
        seed = asked.seed if asked.seed is not None and asked.seed >= 0 else secrets.randbits(32)
        for index, prompt in enumerate(ready):
            wanted = _text_request(asked, prompt.new_tokens, seed)
            watched.texts += [
                WrittenText(
                    lm, prompt.ids, wanted, watched.on_change, held=prompt.held, index=index, sample=sample
                )
                for sample in range(n)
            ]
        try:
            self.engine.write(watched.texts)
        except (BusyError, StoppedError) as error:
            raise _not_now(error) from error
        return watched


class Watched:
    """The texts of one request, for the handler that waits for them."""

    def __init__(self, most_seconds: float) -> None:
        self.texts: list[WrittenText] = []
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._looked = time.monotonic()
        self._until = self._looked + most_seconds

    def on_change(self, text: WrittenText) -> None:
        """Wake the handler; called by the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._changed.set)

    async def changes(self, request: Request | None = None) -> AsyncGenerator[tuple[int, str, str]]:
        """Yield number, new text and reason ("" unless it ended) of texts, until all have ended.

        Args:
            request: looked at whether its client is still there; a stream notices by itself.

        Raises:
            ApiError: if a text failed, or time is over.
            ClientDisconnect: if the client has gone.
        """
        sent, open_texts = [0] * len(self.texts), set(range(len(self.texts)))
        try:
            while open_texts:
                await self._wait(request)
                for number in sorted(open_texts):
                    text = self.texts[number]
                    ended, whole = text.has_ended, text.text
                    if text.error:
                        raise _not_now(text.error)
                    if ended:
                        whole = text.text
                        open_texts.discard(number)
                    if len(whole) > sent[number] or ended:
                        yield number, whole[sent[number] :], text.reason if ended else ""
                        sent[number] = len(whole)
        finally:
            for text in self.texts:
                text.give_up()

    async def _wait(self, request: Request | None) -> None:
        """Return when a text has changed; look at the clock and the client meanwhile."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_S)
            now = time.monotonic()
            if now > self._until:
                raise _not_now(TimeoutError())
            if request is not None and now - self._looked > LOOK_S:
                self._looked = now
                if await request.is_disconnected():
                    raise ClientDisconnect
            if self._changed.is_set():
                self._changed.clear()
                return


async def _while_there(request: Request, done: asyncio.Future[Any]) -> Any:
    """Return a future's result; cancel it if the client goes away, or whoever waits here is cancelled."""
    try:
        while not (await asyncio.wait([done], timeout=LOOK_S))[0]:
            if await request.is_disconnected():
                raise ClientDisconnect
        return done.result()
    finally:
        done.cancel()


def parsed(body: bytes, shape: type[Shape]) -> Shape:
    """Return a body as `shape`.

    Raises:
        ApiError: if it is no JSON, or not of that shape.
    """
    try:
        plain = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        if b"\\ud" in body.lower():  # half of a pair of surrogates is no text
            json.dumps(plain, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the body is not JSON: {why}") from error
    if not isinstance(plain, dict):
        raise ApiError(400, f"the body must be a JSON object, not {type(plain).__name__}")
    try:
        return shape.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = _place(first["loc"], plain, is_missing=first["type"] == "missing")
        raise ApiError(400, f"{place or 'the body'}: {first['msg']}", param=place or None) from error


def _place(parts: Sequence[str | int], plain: Any, *, is_missing: bool) -> str:
    """Return where in a body an error is; pydantic also names which of a field's forms it tried."""
    found: list[str] = []
    for part in parts:
        try:
            plain = plain[part]
        except (LookupError, TypeError):
            found += [str(part)] if is_missing else []
            break
        found.append(str(part))
    return ".".join(found)


async def _body(request: Request, most: int) -> bytes:
    said = request.headers.get("content-length", "")
    too_large = ApiError(
        413, f"the request is larger than {most} bytes", code="request_too_large",
        headers={"Connection": "close"},
    )  # fmt: skip
    if said.isdigit() and int(said[:20]) > most:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise too_large
    return bytes(body)


async def _pieces(watched: Watched, form: CompletionForm, counted: bool) -> AsyncIterator[str]:
    """Yield the events of OpenAI's stream."""
    for number in range(len(watched.texts)):
        for piece in form.start(number):
            yield _event(piece)
    try:
        async with contextlib.aclosing(watched.changes()) as changes:
            async for number, added, reason in changes:
                yield _event(form.piece(number, added, reason))
    except ApiError as error:  # the status has been sent; clients look for this object
        yield _event(error.body)
        return
    if counted:
        yield _event(form.last(watched.texts))
    yield "data: [DONE]\n\n"


def _text_request(
    asked: CompletionRequest | ChatRequest | NativeRequest, new_tokens: int, seed: int
) -> TextRequest:
    decoding = Decoding(
        new_tokens,
        asked.temperature or 0.0,
        1.0 if asked.top_p is None else asked.top_p,
        max(0, asked.top_k or 0),
        asked.min_p or 0.0,
    )
    if not isinstance(asked, NativeRequest):
        return TextRequest(decoding, seed, asked.stop or ())
    limit = asked.t_max_predict_ms / 1000 if asked.t_max_predict_ms else None
    return TextRequest(decoding, seed, asked.stop or (), asked.n_indent, limit)


def _event(content: Any) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _event_stream(events: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _no_such_model(name: str, names: Sequence[str]) -> ApiError:
    return ApiError(
        404, f"there is no model {name[:100]!r} for this route; there are {', '.join(names)}", param="model",
        code="model_not_found",
    )  # fmt: skip


def _not_now(error: Exception) -> ApiError:
    if isinstance(error, BusyError):
        return ApiError(
            429, f"the server is busy: {error}", kind="rate_limit_error", code="rate_limit_exceeded",
            headers={"Retry-After": "1"},
        )  # fmt: skip
    if isinstance(error, StoppedError):
        return ApiError(503, str(error), kind="server_error", headers={"Retry-After": "5"})
    if isinstance(error, TimeoutError):
        return ApiError(
            504, "the answer took too long; ask for fewer tokens", kind="server_error", code="timeout"
        )
    return ApiError(500, f"the model failed: {type(error).__name__}", kind="server_error")


def _count_tokens(model: Any, texts: Sequence[str]) -> int:
    """Return how many tokens an embedder reads of texts."""
    most = int(min(EMBEDDED_TOKENS, model.max_seq_length or EMBEDDED_TOKENS))
    if hasattr(model.tokenizer, "encode_batch"):  # of a static embedder
        return sum(min(len(one.ids), most) for one in model.tokenizer.encode_batch(list(texts)))
    return sum(map(len, model.tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]))


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: f"there is no route {request.method} {request.url.path[:200]}",
            405: f"{request.method} is not for {request.url.path[:200]}"}  # fmt: skip
    found = ApiError(error.status_code, said.get(error.status_code, error.detail))
    return JSONResponse(found.body, found.status, headers=error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _unknown_error(request: Request, error: Exception) -> Response:
    found = ApiError(500, "the server failed; its log says why", kind="server_error")
    return JSONResponse(found.body, found.status)
