"""Without a network, asking for a hub model gives one clear sentence at once."""

from __future__ import annotations

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from helpers.models import hub
from helpers.models.causal_lm import ModelError, load_causal_lm, load_tokenizer
from helpers.models.embedder import EmbedderError, load_embedder


@pytest.fixture
def asked(monkeypatch):
    """Make requests to the hub end in `error`, with or without the model in the cache, and count them."""
    hub.must_use_cache.cache_clear()
    requests = []

    def install(error: Exception | None, *, cached: bool = False):
        def metadata(url, timeout=None, **options):
            requests.append((url, timeout))
            if error is not None:
                raise error

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        monkeypatch.setattr(
            huggingface_hub,
            "try_to_load_from_cache",
            lambda *a, **k: "/cache/config.json" if cached else None,
        )
        return requests

    yield install
    hub.must_use_cache.cache_clear()


class NetworkError(Exception):  # what the HTTP library raises is no OSError
    pass


@pytest.mark.parametrize("load", [load_tokenizer, lambda spec: load_causal_lm(spec, None)])
def test_one_short_request_and_one_clear_sentence(asked, load) -> None:
    requests = asked(NetworkError("name resolution failed"))
    with pytest.raises(
        ModelError, match=r"not on this machine and the hub cannot be reached.*use a local folder"
    ):
        load("Qwen/Qwen2.5-Coder-0.5B")
    assert len(requests) == 1
    assert requests[0][1] <= 10


def test_the_embedder_asks_in_the_same_way(asked) -> None:
    from helpers.machine.hardware import detect_runtime

    requests = asked(NetworkError("name resolution failed"))
    with pytest.raises(EmbedderError, match="the hub cannot be reached"):
        load_embedder("intfloat/e5-small-v2", detect_runtime(deterministic=False))
    assert len(requests) == 1


def test_a_cached_model_is_taken_from_the_cache_without_a_network(asked) -> None:
    asked(NetworkError("down"), cached=True)
    assert hub.must_use_cache("a/b") is True


def test_the_hub_is_used_where_it_answers(asked) -> None:
    asked(None)
    assert hub.must_use_cache("a/b") is False


def test_a_wrong_name_is_told_from_a_missing_network(asked) -> None:
    from types import SimpleNamespace

    response = SimpleNamespace(headers={}, request=None, status_code=404)
    asked(RepositoryNotFoundError("404", response=response))
    with pytest.raises(hub.HubError, match="the hub has no model 'a/b'; check the name"):
        hub.must_use_cache("a/b")
