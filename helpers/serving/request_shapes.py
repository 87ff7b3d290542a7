"""What requests look like: OpenAI's completions, chat and embeddings, and llama.cpp's own routes.

Fields that would change an answer and are not honoured are refused if they are set (`UNSUPPORTED`); fields
that nobody here knows are passed over, as editors send some for other servers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, field_validator

MOST_TEXTS = 16  # of one request
MOST_STOPS = 16
MOST_INPUTS = 256  # texts to be embedded
MOST_MESSAGES = 256
MOST_CHUNKS = 256
LEAST_TEMPERATURE = 1e-3  # clients send less to say 0; divided by it, logits would leave float32's range
MOST_MS = 86_400_000


def _not_zero(count: int) -> int:
    if not count:
        raise ValueError("at least one token has to be asked for; -1 stands for as many as fit")
    return count


def _greedy_if_tiny(temperature: float) -> float:
    return temperature if temperature >= LEAST_TEMPERATURE else 0.0


Finite = Annotated[float, Field(allow_inf_nan=False)]
Stops = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=MOST_STOPS)
]
AnswerTokens = Annotated[int, Field(ge=-1), AfterValidator(_not_zero)]
Tokens = list[Annotated[StrictInt, Field(ge=0)]]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class StreamOptions(_Shape):
    """OpenAI's options of a stream."""

    include_usage: bool = False


class _Sampling(_Shape):
    """What every request for text may say."""

    model: str | None = None
    temperature: Annotated[Finite, Field(ge=0, le=100), AfterValidator(_greedy_if_tiny)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-1, le=2**63 - 1)] | None = None
    stop: Stops | None = None
    stream: bool | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class _OpenAi(_Sampling):
    n: Annotated[int, Field(ge=1, le=MOST_TEXTS)] | None = None
    max_tokens: AnswerTokens | None = None
    stream_options: StreamOptions | None = None
    # Not honoured, so refused unless they change nothing.
    logprobs: bool | int | None = None
    logit_bias: dict[str, Any] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class CompletionRequest(_OpenAi):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)] | Tokens | list[Tokens]
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None


class ContentPart(_Shape):
    """A part of a message; only text is taken."""

    type: Literal["text"]
    text: str


class Message(_Shape):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]

    @property
    def text(self) -> str:
        """Return the content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(_OpenAi):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n_predict: Annotated[int, Field(ge=-1)] | None = None  # as llama.vscode calls it
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None


class EmbeddingRequest(_Shape):
    """POST /v1/embeddings."""

    model: str | None = None
    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: Literal["query", "document"] = "document"  # for embedders that tell them apart


class Chunk(_Shape):
    """Code from elsewhere that an editor sends along."""

    filename: str = ""
    text: str


class NativeRequest(_Sampling):
    """POST /completion of llama.cpp."""

    prompt: str = ""
    n_predict: Annotated[int, Field(ge=-1)] = -1
    n_indent: Annotated[int, Field(ge=0, le=1_000)] = 0
    t_max_predict_ms: Annotated[int, Field(ge=0, le=MOST_MS)] = 0


class InfillRequest(NativeRequest):
    """POST /infill of llama.cpp: `prompt` is the middle's beginning."""

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: Annotated[list[Chunk], Field(max_length=MOST_CHUNKS)] = Field(default_factory=list)


def unsupported(request: BaseModel) -> tuple[str, str] | None:
    """Return the first field that would change the answer and is not honoured, and what to do; or None."""
    for name, what in UNSUPPORTED.items():
        value = getattr(request, name, None)
        if value is not None and value is not False and value not in NEUTRAL.get(name, ([], {})):
            return name, what
    return None


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,), "presence_penalty": (0,), "frequency_penalty": (0,), "logprobs": (),
    "response_format": ({"type": "text"},),
}  # fmt: skip
UNSUPPORTED = {
    "logprobs": "probabilities of tokens are not returned; leave it out",
    "logit_bias": "biases are not applied; leave it out",
    "presence_penalty": "penalties are not applied; leave it out or give 0",
    "frequency_penalty": "penalties are not applied; leave it out or give 0",
    "echo": "the prompt is not returned; leave it out",
    "best_of": "answers are not ranked; leave it out or give 1",
    "tools": "these models call no tools; leave it out",
    "functions": "these models call no functions; leave it out",
    "response_format": "only plain text is written; leave it out",
}
