"""Seconds and memory per file from corpus to index, at 1, 10 and 100 times the default corpus.

The larger corpora are the default one over and over, every copy with its own names in code and docstrings (a
copy with the same names would be dropped as a duplicate). `--file-bytes` cuts each file to its first
definitions of about so many bytes, at every scale alike: whole files take too long at 100 times.
Each scale runs in a process of its own, for its peak memory. Reported are processor seconds, which do not
depend on what else the machine does. Vectors are drawn at random: encoding costs the same per text at any
scale (`encoding_throughput.py` measures it).
Run: `python -m benchmarks.corpus_scale [--scales 1,10,100] [--file-bytes 2000]`.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import keyword
import multiprocessing
import re
import tempfile
import time
import tokenize
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from helpers.code.functions import extract_functions
from helpers.code.python_text import tokenize_python
from helpers.data.corpus import load_corpus
from helpers.data.leaks import check_splits
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.data.splits import split_corpus
from helpers.eval.vector_index import build_index, nearest
from helpers.lines import lines_of
from helpers.machine.usage import peak_memory_gib
from helpers.profiles import PROFILES

T = TypeVar("T")

WIDTH = 384  # of the vectors, as the cpu profile's embedder gives them
SEARCHES = 100
FLAT_WITHIN = 1.5  # cost per file at any scale over the cost at the smallest
KEPT_NAMES = {"self", "cls", "annotations"}  # the last one stands in `from __future__ import annotations`
WORD = re.compile(r"[A-Za-z]{4,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default=PROFILES["cpu"].corpus.spec)
    parser.add_argument("--scales", default="1,10,100")
    parser.add_argument("--file-bytes", type=int, default=2000, help="0 takes whole files")
    arguments = parser.parse_args()

    files = [(file.path, file.text) for file in load_corpus(arguments.corpus).files]
    if arguments.file_bytes:
        files = [(path, first_definitions(text, arguments.file_bytes)) for path, text in files]
    templates = [(path, slots(text)) for path, text in files]
    rows = []
    for scale in map(int, arguments.scales.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write_copies(templates, scale, Path(folder) / "code")
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                rows.append({"scale": scale, **pool.submit(measure, f"path:{folder}/code").result()})
        print(json.dumps(rows[-1]), flush=True)
    first = rows[0]["ms_per_file"]
    growth = {
        step: round(max(row["ms_per_file"][step] for row in rows) / max(value, 1e-9), 2)
        for step, value in first.items()
    }
    print(
        json.dumps(
            {
                "file_bytes": arguments.file_bytes or "whole",
                "most expensive scale over the smallest, per file": growth,
                "flat_within_1.5": growth["all"] <= FLAT_WITHIN,
            },
            indent=2,
        )
    )


def measure(spec: str) -> dict:
    """Processor milliseconds per file of each step over the corpus `spec`, and the peak memory."""
    settings = dataclasses.replace(PROFILES["cpu"].corpus, spec=spec, max_files=10**9)
    base = peak_memory_gib()
    seconds: dict[str, float] = {}

    def timed(step: str, work: Callable[[], T]) -> T:
        start = time.process_time()
        result = work()
        seconds[step] = time.process_time() - start
        return result

    corpus = timed("load and deduplicate", lambda: load_corpus(spec, settings))
    functions = timed("cut out functions", lambda: extract_functions(corpus))
    splits = timed("split", lambda: split_corpus(corpus, functions, settings, 1))
    timed("check splits", lambda: check_splits(corpus, functions, splits, settings))
    data = timed(
        "queries and documents",
        lambda: build_retrieval_data(functions, splits, PROFILES["cpu"].track_c, 1),
    )
    vectors = np.random.default_rng(0).normal(size=(len(data.documents), WIDTH)).astype(np.float32)
    ids = [document.id for document in data.documents]
    index = timed("index", lambda: build_index(vectors, ids))
    start = time.perf_counter()
    nearest(index, vectors[:SEARCHES], 10)
    found = time.perf_counter() - start
    count = len(corpus.files)
    seconds["all"] = sum(seconds.values())
    return {
        "files": count,
        "functions": len(functions),
        "megabytes": round(sum(file.n_bytes for file in corpus.files) / 1e6, 1),
        "ms_per_file": {step: round(1000 * value / count, 3) for step, value in seconds.items()},
        "search_ms": round(1000 * found / SEARCHES, 3),
        "peak_memory_gib": round(peak_memory_gib(), 2),
        "of_which_before_loading": round(base, 2),
    }


def first_definitions(text: str, n_bytes: int) -> str:
    """The statements at the head of a module that fit into `n_bytes`, at least up to its first function."""
    lines = lines_of(text)
    taken, seen = 0, False
    for statement in ast.parse(text).body:
        size = len("".join(lines[: statement.end_lineno]).encode())
        if size > n_bytes and seen:
            break
        taken = statement.end_lineno or taken
        seen = seen or isinstance(statement, ast.FunctionDef | ast.ClassDef)
    return "".join(lines[:taken])


def slots(text: str) -> list[str]:
    """`text` cut behind every name that a copy may change: joined by a suffix, all of them change."""
    starts = [0]
    for line in lines_of(text):
        starts.append(starts[-1] + len(line))
    ends = []
    for token in tokenize_python(text):
        start = starts[token.start[0] - 1] + token.start[1]
        if token.type == tokenize.NAME:
            special = token.string.startswith("__") or token.string in KEPT_NAMES
            if not keyword.iskeyword(token.string) and not special:
                ends.append(start + len(token.string))
        elif token.type == tokenize.STRING and token.string.lstrip("rRuU")[:3] in ('"""', "'''"):
            ends += [start + match.end() for match in WORD.finditer(token.string)]
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def write_copies(templates: list[tuple[str, list[str]]], scale: int, root: Path) -> None:
    """The corpus `scale` times below `root`; the first copy keeps its names."""
    for copy in range(scale):
        suffix = f"x{copy}" if copy else ""
        for path, pieces in templates:
            target = root / f"copy{copy}" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(suffix.join(pieces), encoding="utf-8")


if __name__ == "__main__":
    main()
