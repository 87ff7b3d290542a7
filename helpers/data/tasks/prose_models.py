"""Have prose written by a model: a chat model on this machine, or an OpenAI-compatible endpoint.

`language_generator` turns one setting into a back end:

    deterministic                the offline default, `helpers.data.tasks.prose.SourceFacts`
    chat[:MODEL]                 a chat model by hub name or folder, on this machine
    openai:MODEL[@URL]           an endpoint with OpenAI's interface (a vendor's, vLLM, llama.cpp, ...)

The address of an endpoint comes after the @ or from OPENAI_BASE_URL, its key only from OPENAI_API_KEY. A
key inside the setting is refused, and no key is printed or saved. The corpus's functions are sent to the
endpoint. Both back ends decode greedily. Answers are used as the model writes them, if they pass
`helpers.data.tasks.filters`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from helpers.code.docstrings import returns_a_value
from helpers.data.tasks.phrasings import fenced_python
from helpers.data.tasks.prose import LanguageGenerator, LanguageRequest, SourceFacts
from helpers.errors import SuiteError
from helpers.machine.hardware import Runtime
from helpers.machine.progress import progress
from helpers.models.causal_lm import chat_ids, generate, load_causal_lm
from helpers.settings import check_language

CHAT_MODEL = "Qwen/Qwen2.5-Coder-1.5B-Instruct"  # fits a T4 in half precision
MAX_ANSWER_TOKENS = 384
TIMEOUT_S = 60.0
RETRIES = 3  # made by the client, with growing pauses
PARALLEL_REQUESTS = 4
FAILURES_IN_A_ROW = 5  # after so many the endpoint counts as down
REFUSED = (401, 403, 404)  # status codes that every other request would get too
SEED = 17


class LanguageError(SuiteError, RuntimeError):
    """A back end does not exist, cannot be reached or refuses; the message says what to do."""


def language_generator(spec: str, runtime: Runtime, *, batch_size: int = 32) -> LanguageGenerator:
    """Return the back end that `spec` names (see the module's docstring).

    Args:
        runtime: device and precision of a chat model.
        batch_size: sequences that a chat model writes together.

    Raises:
        SettingsError: for a spec that means nothing.
        LanguageError: for an endpoint without address and key, or without the client.
    """
    check_language(spec)
    kind, _, rest = spec.partition(":")
    if kind == "chat":
        return ChatModel(rest or CHAT_MODEL, runtime, batch_size=batch_size)
    if kind == "openai":
        model, _, url = rest.partition("@")
        return Endpoint(model, url)
    return SourceFacts()


class ChatModel:
    """A chat model on this machine, loaded for each call of `write` and freed after it."""

    def __init__(self, model: str, runtime: Runtime, *, batch_size: int = 32) -> None:
        """Remember `model`, a hub name or folder as `load_causal_lm` takes it; nothing is loaded yet."""
        self.name = f"chat:{Path(model).name if Path(model).is_dir() else model}"
        self._model, self._runtime, self._batch = model, runtime, batch_size

    def write(self, requests: Sequence[LanguageRequest]) -> list[str | None]:
        """Implement `LanguageGenerator.write`; raise ModelError if the model cannot be loaded."""
        if not requests:
            return []
        model, tokenizer = load_causal_lm(self._model, self._runtime, seed=SEED)
        prompts = [chat_ids(tokenizer, instruction_for(request)) for request in requests]
        texts = generate(
            model, tokenizer, prompts, self._runtime, max_new_tokens=MAX_ANSWER_TOKENS,
            batch_size=self._batch, what=f"language by {self._model}",
        )  # fmt: skip
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return [text.strip() or None for (text,) in texts]


class Endpoint:
    """A model behind an OpenAI-compatible interface."""

    def __init__(self, model: str, url: str = "") -> None:
        """Connect to `url`, a base address with its version (`http://localhost:8000/v1`).

        An empty `url` stands for OPENAI_BASE_URL.

        Raises:
            LanguageError: if the client is not installed, or there is neither key nor address.
        """
        try:
            import openai
        except ImportError as error:
            raise LanguageError("the back end openai needs its client: pip install openai") from error
        key = os.environ.get("OPENAI_API_KEY", "")
        if not key and not (url or os.environ.get("OPENAI_BASE_URL")):
            raise LanguageError("set OPENAI_API_KEY, or name a local endpoint: openai:MODEL@http://...")
        self._openai = openai
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=url or None, timeout=TIMEOUT_S, max_retries=RETRIES
        )
        self._model = model
        self._failed_in_a_row = 0
        self.name = f"openai:{model}"

    def write(self, requests: Sequence[LanguageRequest]) -> list[str | None]:
        """Implement `LanguageGenerator.write`; a request that fails after the client's retries gives None.

        Raises:
            LanguageError: if the endpoint refuses a request, or several fail in a row.
        """
        print(f"{len(requests)} requests go to {self._client.base_url.host}")
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            try:
                answers = pool.map(self._ask, requests)
                return list(progress(answers, f"language by {self._model}", total=len(requests)))
            except LanguageError:
                pool.shutdown(cancel_futures=True)
                raise

    def _ask(self, request: LanguageRequest) -> str | None:
        try:
            answer = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": instruction_for(request)}],
                max_tokens=MAX_ANSWER_TOKENS, temperature=0.0, seed=SEED,
            )  # fmt: skip
        except self._openai.APIError as error:
            status = getattr(error, "status_code", None)
            if status in REFUSED:
                what = f"the endpoint refuses {self._model!r} (HTTP {status})"
                # Without its cause, since the request that the error carries holds the key.
                raise LanguageError(f"{what}: check the model's name and OPENAI_API_KEY") from None
            return self._failed(error)
        self._failed_in_a_row = 0
        text = answer.choices[0].message.content if answer.choices else None
        return (text or "").strip() or None

    def _failed(self, error: Exception) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= FAILURES_IN_A_ROW:
            what = f"{FAILURES_IN_A_ROW} requests in a row failed ({type(error).__name__})"
            raise LanguageError(f"{what}: check that the endpoint is up and its address is right") from None


def instruction_for(request: LanguageRequest) -> str:
    """Return the instruction that a model is given for `request`."""
    if request.kind == "paraphrase":
        keep = " Keep the placeholder {name} exactly as it is." if "{name}" in request.text else ""
        return (
            "Write this instruction in three other ways, one a line, with the same meaning and about as long."
            f"{keep} No numbering, no comment.\n\n{request.text}"
        )
    function = request.function
    parameters = ", ".join(f"`{name}`" for name in function.parameters)
    code = fenced_python(function.source)
    if request.kind == "explain":
        named = f" Mention each parameter by name: {parameters}." if parameters else ""
        return (
            f"Explain in three to six plain sentences what the Python function `{function.name}` does, what "
            f"it returns and which exceptions it raises.{named} Use no names that are not in the code, write "
            f"no code block.\n\n{code}"
        )
    sections = f" a section Parameters that describes {parameters}," if parameters else ""
    value = " and a section Returns" if returns_a_value(function.code) else ""
    return (
        f"Write a short docstring in numpydoc style for the Python function `{function.name}`: one summary "
        f"sentence,{sections}{value}. Answer with the text of the docstring alone: no code, no quotes, no "
        f"examples.\n\n{code}"
    )
