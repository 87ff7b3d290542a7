"""A finished run of tiny models, and a server of it in a thread of this process."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import tiny_models
import torch
from tiny_embedder import save_tiny_embedder, small_code_base

from helpers.data.queries.documents import document_text
from helpers.eval.lexical import build_lexical_index, save_lexical_index
from helpers.eval.retrieval import index_documents, save_index
from helpers.models.causal_lm import add_lora, load_causal_lm
from helpers.models.embedder import load_embedder
from helpers.models.infilling import infill_marks
from helpers.profiles import SMOKE
from helpers.records import Document
from helpers.run.workspace import write_json, write_jsonl
from helpers.serving.engine import Engine
from helpers.serving.http_server import make_server
from helpers.serving.prompts import Prompts
from helpers.serving.retrieved_context import RetrievedContext, run_context
from helpers.serving.served_models import ServedModels, load_served
from helpers.settings import LoraSettings
from helpers.tools.search import catalogue

RUNTIME = tiny_models.CPU_FP32
WINDOW = 160
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer():
    tok = tiny_models.tokenizer(extra=("<|im_start|>", "<|im_end|>", *FIM))
    tok.chat_template = TEMPLATE
    return tok


def save_run(folder: Path) -> Path:
    """Write a run whose adapters change what its models write."""
    base = str(tiny_models.save(folder.parent / "base", "qwen2", tok=chat_tokenizer(), context=512))
    model = add_lora(load_causal_lm(base, RUNTIME)[0], LoraSettings(rank=4, alpha=8))
    for number, track in enumerate(("track_a", "track_b")):
        torch.manual_seed(3 + number)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0.0, 0.5)
        model.save_pretrained(str(folder / track / "train/adapter"))
    functions, _ = small_code_base()
    save_tiny_embedder(folder / "made").rename(folder / "embedder")
    embedder = load_embedder(str(folder / "embedder"), RUNTIME)
    documents = [Document(f.id, document_text(f), f.path) for f in functions]
    write_jsonl(folder / "track_c/data/documents.jsonl", documents)
    save_index(index_documents(embedder, documents, RUNTIME), folder / "track_c/index_after")
    save_lexical_index(build_lexical_index(documents), folder / "track_c/hybrid/words")
    write_json(folder / "track_c/hybrid/weights.json", {"after": {"weight": 1.0}})
    write_jsonl(folder / "track_c/functions/rows.jsonl", catalogue(functions))
    (folder / "track_c/train").mkdir()
    (folder / "embedder").rename(folder / "track_c/train/embedder")
    tuned = str(folder / "track_c/train/embedder")
    track_a = dataclasses.replace(SMOKE.track_a, model=base, window=WINDOW)
    track_b, track_c = (
        dataclasses.replace(one, model=spec) for one, spec in ((SMOKE.track_b, base), (SMOKE.track_c, tuned))
    )
    write_json(
        folder / "run.json",
        {"profile": dataclasses.replace(SMOKE, track_a=track_a, track_b=track_b, track_c=track_c)},
    )
    return folder


def without_ends(models: ServedModels) -> ServedModels:
    """Return the models without end tokens: texts are as long as they may be."""
    lms = {name: dataclasses.replace(lm, ends=frozenset()) for name, lm in models.lms.items()}
    return dataclasses.replace(models, lms=lms)


def load(folder: Path, *names: str) -> ServedModels:
    """Load a run's models, and beside them `infill`: code-adapted, believed to fill in middles.

    The marks of the others count for nothing: what random weights make of a suffix is chance.
    """
    models = load_served(folder, names, RUNTIME)
    known = models.lms["code-adapted"]
    infill = dataclasses.replace(known, name="infill", marks=infill_marks(known.tokenizer))
    lms = {
        name: dataclasses.replace(lm, marks=None, why_no_infill="a test says so")
        for name, lm in models.lms.items()
    }
    return dataclasses.replace(models, lms={**lms, "infill": infill})


class Served:
    """A running server: its address, its engine and its models."""

    def __init__(self, models: ServedModels, engine: Engine, prompts: Prompts, server, port: int) -> None:
        self.models, self.engine, self.prompts, self.server, self.port = models, engine, prompts, server, port
        self.url = f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def serving(
    folder: Path, models: ServedModels, *, retrieve: bool = False, key: str = "", **limits
) -> Iterator[Served]:
    """Serve `models` on a free port; `slots` and `queue` are the engine's, other limits the API's."""
    engine = Engine(slots=limits.pop("slots", 4), limit=limits.pop("queue", 64))
    prompts = Prompts(run_context(folder, RUNTIME) if retrieve else RetrievedContext(), retrieves=retrieve)
    server = make_server(models, engine, prompts, key, **limits)
    opened = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: server.run(sockets=[opened]), daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield Served(models, engine, prompts, server, opened.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(60)
        engine.close()
        assert not thread.is_alive()
