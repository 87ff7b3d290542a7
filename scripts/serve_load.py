"""Ask `python -m helpers serve` from many clients at once, and say what was lost and how long answers took.

    python scripts/serve_load.py --run runs/<run_id>                # 32 clients for a minute
    python scripts/serve_load.py --url http://127.0.0.1:8012 --clients 8 --seconds 10

Every client asks again as soon as it has its answer: completions of several lengths, half of them streamed,
some sampled. An answer counts as lost if it is not whole (a reason for its end, and the end of its stream) or
an error other than "busy"; a client that is told to wait does so and asks again. Greedy answers to the same
request must be equal whatever else is being written. Exit status 1 if anything was lost or differed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = (
    "def shortest_path(G, source, target",
    "import networkx as nx\n\n\ndef count_edges(G):\n    ",
    "class Graph:\n    def __init__(self",
    "for node in G.nodes:\n    ",
    "# the number of nodes\n",
)
LENGTHS = (8, 16, 32, 64)
READY = re.compile(r"ready at (http\S+)/v1")


@dataclass
class Tally:
    """What all clients have seen."""

    seconds: list[float] = field(default_factory=list)  # of answers that came whole
    first_seconds: list[float] = field(default_factory=list)  # until the first piece of a stream
    tokens: int = 0
    busy: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # by reason
    greedy: dict[str, set[str]] = field(default_factory=dict)  # request -> its answers


def main() -> int:
    """Run the clients, print what they saw as JSON, and return the exit status."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--run", type=Path, help="serve this run for the test")
    options.add_argument("--url", help="test this server instead")
    options.add_argument("--model", default="code-adapted")
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--seconds", type=float, default=60.0)
    given = options.parse_args()
    if (given.run is None) == (given.url is None):
        options.error("give --run or --url")
    if given.url:
        return report(asyncio.run(ask_all(given.url, given)), given)
    command = [sys.executable, "-m", "helpers", "serve", "--run", str(given.run), "--port", "0"]
    server = subprocess.Popen([*command, "--only", given.model], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = next((found[1] for line in server.stdout or () if (found := READY.search(line))), None)
        if url is None:
            return 1  # the server has said why
        tally = asyncio.run(ask_all(url, given))
    finally:
        server.send_signal(2)
        status = server.wait(300)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    more = {"server_exit_status": status, "server_processor_seconds": round(used.ru_utime + used.ru_stime, 1)}
    return report(tally, given, **more)


async def ask_all(url: str, given: argparse.Namespace) -> Tally:
    """Let all clients ask until time is over."""
    tally, until = Tally(), time.monotonic() + given.seconds
    limits = httpx.Limits(max_connections=given.clients)
    async with httpx.AsyncClient(base_url=url, timeout=300.0, limits=limits) as http:
        await asyncio.gather(*(client(http, number, given, until, tally) for number in range(given.clients)))
    return tally


async def client(
    http: httpx.AsyncClient, number: int, given: argparse.Namespace, until: float, tally: Tally
) -> None:
    """Ask one request after the other."""
    turn = number
    while time.monotonic() < until:
        turn += 7
        body = {
            "model": given.model, "prompt": PROMPTS[turn % len(PROMPTS)],
            "max_tokens": LENGTHS[turn % len(LENGTHS)], "temperature": 0.8 if turn % 3 == 0 else 0.0,
            "seed": turn, "stream": turn % 2 == 0, "stream_options": {"include_usage": True},
        }  # fmt: skip
        begun = time.monotonic()
        try:
            reason = await ask(http, body, begun, tally)
        except httpx.HTTPError as error:
            reason = type(error).__name__
        if reason.startswith("busy "):
            tally.busy += 1
            await asyncio.sleep(float(reason[5:]))
        elif reason:
            tally.lost[reason] += 1
        else:
            tally.seconds.append(time.monotonic() - begun)


async def ask(http: httpx.AsyncClient, body: dict[str, Any], begun: float, tally: Tally) -> str:
    """Ask once; return "" for a whole answer, else what was wrong."""
    async with http.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code == 429:
            return f"busy {answer.headers['retry-after']}"
        if answer.status_code != 200:
            return f"status {answer.status_code}"
        if not body["stream"]:
            parts = [json.loads(await answer.aread())]
        else:
            parts, is_whole = [], False
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    is_whole = True
                elif line:
                    if not parts:
                        tally.first_seconds.append(time.monotonic() - begun)
                    parts.append(json.loads(line.removeprefix("data: ")))
            if not is_whole:
                return "a stream without its end"
    choices = [choice for part in parts for choice in part.get("choices", ())]
    if not any(choice["finish_reason"] for choice in choices):
        return "no reason for the end"
    tally.tokens += parts[-1]["usage"]["completion_tokens"]
    if not body["temperature"]:
        key = f"{body['max_tokens']} {body['prompt']}"
        tally.greedy.setdefault(key, set()).add("".join(choice["text"] for choice in choices))
    return ""


def report(tally: Tally, given: argparse.Namespace, **more: Any) -> int:
    """Print the figures; return 0 if nothing was lost and equal requests had equal answers."""
    differing = sum(len(texts) > 1 for texts in tally.greedy.values())
    figures = {
        "clients": given.clients, "seconds": given.seconds, "answers": len(tally.seconds),
        "lost": dict(tally.lost), "told_to_wait": tally.busy, "greedy_requests_that_differed": differing,
        "answer_seconds": quantiles(tally.seconds), "first_piece_seconds": quantiles(tally.first_seconds),
        "tokens_per_second": round(tally.tokens / given.seconds, 1), "load_average": os.getloadavg()[0],
        **more,
    }  # fmt: skip
    print(json.dumps(figures, indent=2))
    return int(
        bool(tally.lost) or bool(differing) or not tally.seconds or bool(more.get("server_exit_status"))
    )


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and largest of durations."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"p50": round(cuts[9], 3), "p95": round(cuts[18], 3), "max": round(max(seconds), 3)}


if __name__ == "__main__":
    sys.exit(main())
