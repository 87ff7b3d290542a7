"""Serve a finished run's models over HTTP until Ctrl-C."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import SuiteError
from helpers.machine.progress import without_bars
from helpers.serving.engine import Engine
from helpers.serving.prompts import Prompts
from helpers.serving.retrieved_context import RetrievedContext, run_context
from helpers.serving.served_models import ServedModels, load_served, run_runtime, servable

KEY_VARIABLE = "ADAPT_CODE_MODEL_API_KEY"
LEAST_KEY = 16  # characters
GOODBYE_S = 30  # that requests in progress have to end after Ctrl-C
MISSING = "serve needs its libraries: pip install 'starlette>=0.46' 'uvicorn>=0.35' 'pydantic>=2.7'"


class ServeError(SuiteError, ValueError):
    """A server that cannot be started as asked for."""


@dataclass(frozen=True)
class ServeRequest:
    """What `python -m helpers serve` was asked for."""

    run: Path
    host: str = "127.0.0.1"
    port: int = 8012  # where llama.vscode and llama.vim look for a server
    key: str = ""
    retrieve: bool = False
    only: tuple[str, ...] = ()
    slots: int = 16
    queue: int = 64


def serve_run(request: ServeRequest, tell: Callable[[str], None] = print) -> None:
    """Serve a run until Ctrl-C; requests in progress may end.

    Raises:
        ServeError: for an address or key that may not be, or a port in use.
        ServedModelError: if the run holds no model to serve.
    """
    names = servable(request.run, request.only)
    key = checked_key(request)
    opened = _opened(request.host, request.port)  # before minutes of loading
    engine = Engine(slots=request.slots, limit=request.queue)
    try:
        runtime = run_runtime(request.run)
        tell(f"loading {', '.join(names)} ...")
        models = load_served(request.run, names, runtime)
        context = run_context(request.run, runtime) if request.retrieve else RetrievedContext()
        server = make_server(models, engine, Prompts(context, retrieves=request.retrieve), key)
        for line in greeting(models, request, opened.getsockname()[1], bool(key)):
            tell(line)
        with without_bars():
            server.run(sockets=[opened])
    except KeyboardInterrupt:
        pass  # uvicorn has let requests end, and passes the signal on
    finally:
        engine.close()
        opened.close()
    tell("stopped")


def checked_key(request: ServeRequest) -> str:
    """Return the key that clients must send, "" for none.

    Raises:
        ServeError: if the address can be reached from other machines and there is no key, or a short one.
    """
    key = request.key or os.environ.get(KEY_VARIABLE, "")
    if not key and not is_local(request.host):
        raise ServeError(
            f"{request.host} can be reached from other machines, so a key is required: set {KEY_VARIABLE}, "
            "or give --api-key; `openssl rand -hex 16` makes one"
        )
    if key and (len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key):
        raise ServeError(f"the key must have at least {LEAST_KEY} printable ASCII characters without blanks")
    return key


def is_local(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name, whatever it stands for
        return False


def make_server(models: ServedModels, engine: Engine, prompts: Prompts, key: str = "", **limits: Any) -> Any:
    """Return the uvicorn server of these models.

    Args:
        limits: fields of `helpers.serving.routes.ServeLimits`.
    """
    try:
        import uvicorn

        from helpers.serving.connections import GuardedConnection, allowed_connections
        from helpers.serving.gate import Gate
        from helpers.serving.routes import Api, ServeLimits
    except ImportError as error:
        raise ServeError(f"{MISSING} ({error})") from error
    GuardedConnection.most = allowed_connections()
    app = Api(models, engine, prompts, ServeLimits(**limits)).app(functools.partial(Gate, key=key))
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=GuardedConnection,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GOODBYE_S,
        )
    )


def greeting(models: ServedModels, request: ServeRequest, port: int, has_key: bool) -> Sequence[str]:
    """Return what is told when the server is ready."""
    host = f"[{request.host}]" if ":" in request.host else request.host
    lines = []
    for lm in models.lms.values():
        how = "fills in the middle" if lm.marks else f"left to right: {lm.why_no_infill}"
        lines.append(f"  {lm.name:14} {lm.spec}, {lm.window} tokens, {how}")
    lines += [f"  {one.name:14} {one.spec}" for one in models.embedders.values()]
    code = "retrieved code is put in front of code prompts" if request.retrieve else "no retrieval"
    return [
        *lines, f"  {code}; {'a key is required' if has_key else 'no key, this machine only'}",
        f"ready at http://{host}:{port}/v1 (Ctrl-C ends)",
    ]  # fmt: skip


def _opened(host: str, port: int) -> socket.socket:
    """Return a listening socket."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeError(
            f"cannot listen on {host}:{port}: {reason}; choose another --port or --host"
        ) from error
    return opened
