"""What an engine is asked to compute with an export, and what it answers; the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers.errors import SuiteError


class EngineError(SuiteError, RuntimeError):
    """The engine is missing, or failed on an export; the message says which."""


@dataclass(frozen=True)
class Prompt:
    """Token ids, of which the logits at the last `kept` positions are compared."""

    ids: tuple[int, ...]
    kept: int


@dataclass(frozen=True)
class Window:
    """Token ids, of which the last `scored` are scored: -ln p given all before them."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class EngineJob:
    """The questions to an engine."""

    prompts: Sequence[Prompt] = ()
    windows: Sequence[Window] = ()
    generate: Sequence[tuple[int, ...]] = ()  # prompts to be continued greedily
    most: int = 0  # new tokens of each
    texts: Sequence[str] = ()  # whose ids are wanted, special tokens recognised
    ends: Sequence[int] = ()  # ids that end a text


@dataclass(frozen=True)
class EngineAnswer:
    """The answers of an engine, in the order of the questions."""

    engine: str  # name and version
    logits: np.ndarray  # float32 (positions of all prompts, vocabulary); a file mapped into memory
    nll_nats: tuple[float, ...]  # summed over each window's scored tokens
    written: tuple[tuple[int, ...], ...]  # new ids, without the one that ends them
    token_ids: tuple[tuple[int, ...], ...]
    chat_template: str | None
    ends: tuple[bool, ...]  # whether the engine ends a text at each of the job's ends
    facts: dict[str, Any]  # whatever else the engine says of the model


# Computes a job; the folder is for files that the answer refers to.
Engine = Callable[[EngineJob, Path], EngineAnswer]
