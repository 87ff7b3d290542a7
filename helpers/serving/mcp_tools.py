"""Tools for assistants: search the run's code base, continue code.

Models are loaded in the engine's thread: an assistant can list the tools at once, and its first call waits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from helpers.errors import SuiteError
from helpers.models.text_writer import Decoding
from helpers.serving.engine import Engine
from helpers.serving.prompts import Prompts
from helpers.serving.retrieved_context import Place, RetrievedContext, run_context
from helpers.serving.served_models import ServedLm, load_served, run_runtime, servable
from helpers.serving.written_text import TextRequest, WrittenText
from helpers.tools.search import CodeSearch

MODEL = "code-adapted"
MOST_TOKENS = 256  # of a completion
MOST_HITS = 50
MOST_CHARS = 200_000  # of code that a call may send
INSTRUCTIONS = (
    "Searches one code base by meaning, with an embedder tuned on it, and continues code with a small "
    "language model adapted to it. The model is small: treat what it writes as a suggestion."
)


class FoundFunction(BaseModel):
    """A function that a search found."""

    rank: int
    score: float
    path: str
    line: int
    name: str
    language: str
    snippet: str


class RunTools:
    """What the tools do, for one run.

    Args:
        retrieve: put retrieved code in front of the code to continue.

    Raises:
        ServedModelError: if the run holds neither an adapted model nor a tuned embedder.
    """

    def __init__(self, run_folder: Path, *, retrieve: bool = False, engine: Engine | None = None) -> None:
        self.names = servable(run_folder)
        self.engine = engine or Engine()
        self._run_folder, self._retrieve = run_folder, retrieve
        self._loaded: Future[Any] = self.engine.call(self._load)

    def _load(self) -> tuple[ServedLm | None, CodeSearch | None, Prompts]:
        runtime = run_runtime(self._run_folder)
        lm = load_served(self._run_folder, [MODEL], runtime).lms[MODEL] if MODEL in self.names else None
        search = CodeSearch(self._run_folder, runtime) if "embed-adapted" in self.names else None
        context = run_context(self._run_folder, runtime) if self._retrieve else RetrievedContext()
        return lm, search, Prompts(context, retrieves=self._retrieve)

    async def search_code(
        self,
        question: Annotated[str, Field(description="what the code should do", max_length=2_000)],
        k: Annotated[int, Field(ge=1, le=MOST_HITS, description="functions to return")] = 5,
    ) -> list[FoundFunction]:
        """Find functions of the code base by what they do; returns path, line, name and first lines."""
        _, search, _ = await asyncio.wrap_future(self._loaded)
        if search is None:
            raise ToolUseError("this run has no tuned embedder: its Track C did not finish")
        hits = await asyncio.wrap_future(self.engine.call(lambda: search.find(question, k)))
        return [FoundFunction(**dataclasses.asdict(hit)) for hit in hits]

    async def complete_code(
        self,
        before: Annotated[str, Field(description="the code up to the cursor", max_length=MOST_CHARS)],
        after: Annotated[str, Field(description="the code after the cursor", max_length=MOST_CHARS)] = "",
        path: Annotated[str, Field(description="the file's path in the repository", max_length=500)] = "",
        max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 64,
    ) -> str:
        """Continue code with the model adapted to this code base; returns only what comes at the cursor."""
        lm, _, prompts = await asyncio.wrap_future(self._loaded)
        if lm is None:
            raise ToolUseError("this run has no adapted language model: its Track A did not finish")
        place = Place(before, after, path)
        ready = await asyncio.wrap_future(self.engine.call(lambda: prompts.infill(lm, place, "", max_tokens)))
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_change(text: WrittenText) -> None:
            if text.has_ended:
                loop.call_soon_threadsafe(done.set)

        text = WrittenText(lm, ready.ids, TextRequest(Decoding(ready.new_tokens)), on_change, held=ready.held)
        self.engine.write([text])
        try:
            await done.wait()
        finally:
            text.give_up()
        if text.error:
            raise text.error
        return text.text


class ToolUseError(SuiteError, ValueError):
    """A tool that this run cannot offer."""


def tool_server(tools: RunTools) -> MCPServer:
    """Return the MCP server that offers the tools."""

    def told(tool: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return the tool with errors that the assistant may read; of others it learns nothing."""

        @functools.wraps(tool)
        async def call(*arguments: Any, **named: Any) -> Any:
            try:
                return await tool(*arguments, **named)
            except SuiteError as error:
                raise ToolError(str(error)) from error

        return call

    server = MCPServer("adapt-a-code-model", instructions=INSTRUCTIONS)
    server.add_tool(told(tools.search_code))
    server.add_tool(told(tools.complete_code))
    return server
