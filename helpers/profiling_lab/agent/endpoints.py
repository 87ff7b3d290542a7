"""Choose the endpoint of a model: provider, address and key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from helpers.profiling_lab.agent.anthropic_messages import AnthropicChat
from helpers.profiling_lab.agent.conversation import Chat, ToolSpec
from helpers.profiling_lab.agent.endpoint_errors import AgentError
from helpers.profiling_lab.agent.openai_completions import OpenAiChat

PROVIDERS = ("auto", "anthropic", "openai")


def open_chat(model: str, tools: Sequence[ToolSpec], *, provider: str = "auto", base_url: str = "") -> Chat:
    """Return the model behind its endpoint; keys are read from ANTHROPIC_API_KEY and OPENAI_API_KEY.

    An OpenAI-compatible endpoint that is named by `base_url` or OPENAI_BASE_URL needs no key.

    Args:
        model: the model's name at the endpoint.
        tools: what the model may call.
        provider: anthropic, openai, or auto. `auto` takes openai if `base_url` is given, else the provider
            whose key is set; if both are, anthropic for models whose name starts with "claude".
        base_url: address of the endpoint, for openai with its version (`http://localhost:8000/v1`).

    Raises:
        AgentError: if a key, a client or the model's name is missing, or the address cannot be used.
    """
    if not model.strip():
        raise AgentError("name the model with --model")
    if provider not in PROVIDERS:
        raise AgentError(f"unknown provider {provider!r}: choose {', '.join(PROVIDERS)}")
    _check_address(base_url)
    if provider == "auto":
        provider = _provider_for(model, base_url)
    key = hidden_key(provider)
    if provider == "anthropic":
        if not key:
            raise AgentError("no key: set ANTHROPIC_API_KEY, or name an OpenAI-compatible --base-url")
        return AnthropicChat(model, key, base_url, tools)
    if not key and not base_url and not os.environ.get("OPENAI_BASE_URL"):
        raise AgentError("no key: set OPENAI_API_KEY, or name an endpoint that needs none with --base-url")
    return OpenAiChat(model, key, base_url, tools)


def hidden_key(provider: str) -> str:
    """Return the provider's key from the environment, or "" if there is none."""
    return os.environ.get(f"{provider.upper()}_API_KEY", "").strip()


def _provider_for(model: str, base_url: str) -> str:
    if base_url:
        return "openai"
    ways = [name for name in ("anthropic", "openai") if hidden_key(name)]
    if not ways and os.environ.get("OPENAI_BASE_URL"):
        return "openai"
    if not ways:
        raise AgentError(
            "no key: set ANTHROPIC_API_KEY or OPENAI_API_KEY, or name an OpenAI-compatible --base-url"
        )
    return ways[0] if len(ways) == 1 or model.startswith("claude") else "openai"


def _check_address(base_url: str) -> None:
    if not base_url:
        return
    try:
        url = urlsplit(base_url)
        port_is_valid = url.port is None or url.port > 0
    except ValueError:
        raise AgentError("--base-url is no address: write http://HOST:PORT/v1") from None
    if url.username or url.password or url.query or "@" in url.netloc:
        raise AgentError(
            "--base-url must hold no key or password: set ANTHROPIC_API_KEY or OPENAI_API_KEY instead"
        )
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_valid:
        raise AgentError(f"--base-url {base_url!r} is no http or https address: write http://HOST:PORT/v1")
