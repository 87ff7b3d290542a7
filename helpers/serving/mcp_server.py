"""Offer a run's tools to an assistant by the Model Context Protocol, over standard input and output."""

from __future__ import annotations

from pathlib import Path

from helpers.errors import SuiteError
from helpers.machine.progress import without_bars
from helpers.serving.served_models import servable


class McpError(SuiteError, RuntimeError):
    """The protocol's library is missing."""


def serve_tools(run_folder: Path, *, retrieve: bool = False) -> None:
    """Offer the tools until the client closes its end.

    Args:
        retrieve: put retrieved code in front of the code to continue.

    Raises:
        McpError: if the protocol's library is not installed.
        ServedModelError: if the run holds nothing to offer.
    """
    servable(run_folder)
    try:
        from helpers.serving.mcp_tools import RunTools, tool_server
    except ImportError as error:
        raise McpError(f"mcp needs the protocol's library: pip install 'mcp>=2.0' ({error})") from error
    tools = RunTools(run_folder, retrieve=retrieve)
    try:
        with without_bars():
            tool_server(tools).run("stdio")
    finally:
        tools.engine.close()
