"""`python -m helpers mcp` with the official client: over stdio in a process of its own, and in this one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest
import served_run
from mcp import Client, StdioServerParameters

from helpers.machine.hardware import detect_runtime
from helpers.serving.http_server import ServeError, make_server
from helpers.serving.mcp_server import McpError, serve_tools
from helpers.serving.mcp_tools import RunTools, tool_server
from helpers.serving.served_models import ServedModelError
from helpers.tools.complete import complete_code
from helpers.tools.search import search_code

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return served_run.save_run(tmp_path_factory.mktemp("runs") / "cpu-1")


def with_client(server, talk):
    async def run():
        async with Client(server, read_timeout_seconds=300) as client:
            return await talk(client)

    return asyncio.run(run())


def test_an_assistant_searches_and_completes_over_stdio(run_folder):
    async def talk(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        found = await client.call_tool("search_code", {"question": "weigh wheels", "k": 2})
        written = await client.call_tool("complete_code", {"before": "def add(first", "max_tokens": 12})
        return tools, found, written

    command = ["-m", "helpers", "mcp", "--run", str(run_folder)]
    server = StdioServerParameters(command=sys.executable, args=command, cwd=ROOT, env=dict(os.environ))
    tools, found, written = with_client(server, talk)
    assert set(tools) == {"search_code", "complete_code"}
    assert tools["search_code"].input_schema["required"] == ["question"]
    runtime = detect_runtime()
    hits = search_code(run_folder, "weigh wheels", 2, runtime)
    assert [(row["path"], row["line"], row["name"]) for row in found.structured_content["result"]] == [
        (hit.path, hit.line, hit.name) for hit in hits
    ]
    assert written.content[0].text == complete_code(run_folder, "def add(first", runtime, max_tokens=12)


def test_wrong_calls_come_back_as_errors_and_the_server_goes_on(run_folder):
    tools = RunTools(run_folder, retrieve=True)

    async def talk(client):
        wrong = [
            await client.call_tool("search_code", {"question": " ", "k": 2}),
            await client.call_tool("search_code", {"question": "x", "k": 10_000}),
            await client.call_tool("complete_code", {"before": ""}),
            await client.call_tool("complete_code", {"before": "x", "max_tokens": 10**9}),
        ]
        return wrong, await client.call_tool("search_code", {"question": "count apples", "k": 1})

    try:
        wrong, right = with_client(tool_server(tools), talk)
    finally:
        tools.engine.close()
    assert [answer.is_error for answer in wrong] == [True] * 4
    assert "question is empty" in wrong[0].content[0].text
    assert "nothing to continue" in wrong[2].content[0].text
    assert right.structured_content["result"][0]["name"] == "count_apples"


def test_a_run_without_a_track_lacks_its_tool_and_says_so(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/track_a")
    tools = RunTools(tmp_path / "run")

    async def talk(client):
        return await client.call_tool("complete_code", {"before": "x = "})

    try:
        answer = with_client(tool_server(tools), talk)
    finally:
        tools.engine.close()
    assert answer.is_error
    assert "Track A did not finish" in answer.content[0].text
    with pytest.raises(ServedModelError, match="there is no run in"):
        serve_tools(tmp_path / "nothing")


def test_missing_libraries_are_named_with_the_command_that_installs_them(run_folder, monkeypatch):
    for module in ("mcp", "mcp.server", "uvicorn"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "helpers.serving.mcp_tools")
    with pytest.raises(McpError, match="pip install 'mcp"):
        serve_tools(run_folder)
    with pytest.raises(ServeError, match="pip install 'starlette"):
        make_server(None, None, None)
