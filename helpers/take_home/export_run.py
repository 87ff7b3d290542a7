"""`python -m helpers export`: take a run's adapted models home, in a form that other programs load.

Everything is written into a folder beside its final place, proven there, and renamed when it is whole. An
export that fails its proof leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from IPython.display import HTML, display
from transformers import PreTrainedModel

from helpers.error_text import storage_problem
from helpers.machine.hardware import Runtime
from helpers.models.gguf.sources import recorded_name
from helpers.models.infilling import infill_mark_ids
from helpers.report.compare import public_model
from helpers.run.workspace import put_folder, write_json, write_text
from helpers.take_home.engine_job import Engine
from helpers.take_home.gguf_adapter import untouched_base, write_lora
from helpers.take_home.gguf_vocabulary import vocabulary_fields
from helpers.take_home.gguf_weights import GgufText, plain_store, write_gguf
from helpers.take_home.hf_folder import HOW_TO_LOAD, WEIGHTS, write_hf
from helpers.take_home.k_quants import k_store, quantiser
from helpers.take_home.llama_engine import MISSING, find_llama, llama_engine
from helpers.take_home.measured_model import (
    ExportError,
    MeasuredModel,
    RunFacts,
    Track,
    embedder_facts,
    load_measured,
    merged_model,
    run_facts,
)
from helpers.take_home.model_card import base_licence, export_name, model_card
from helpers.take_home.ollama_model import modelfile
from helpers.take_home.onnx_embedder import (
    HOW_TO_EMBED,
    NO_RUNTIME,
    has_runtime,
    load_tuned,
    prove_onnx,
    write_onnx,
)
from helpers.take_home.proof import Questions, ask, prove, summary
from helpers.take_home.transformers_engine import LOADERS, tokenizer_loader, transformers_engine

FORMS = ("hf", "gguf", "ollama", "onnx-embedder")
KINDS = ("f16", "bf16", "q8_0", "q4_k_m", "lora")
FOLDER = "take_home"  # in the run folder
RECORD = "export.json"
OLLAMA_CONTEXT = 4096  # tokens, or the model's own limit; Ollama's default may be below a prompt
DOWNLOAD = "download_export"  # the button's call
QUERIES, DOCUMENTS = 40, 200  # of the embedder's proof
HOW_TO_RUN = {
    "gguf": "```sh\nllama-server -m {file} --port 8080 --jinja\n```",
    "ollama": "```sh\nollama create my-code-model -f Modelfile\nollama run my-code-model\n```",
}


@dataclass(frozen=True)
class ExportRequest:
    """What a person asks of an export."""

    run: Path
    to: str  # one of `FORMS`
    track: Track | None = None  # whose adapter; None: Track A's if the run has it, else Track B's
    kinds: tuple[str, ...] = ("f16",)  # of `KINDS`; for gguf and ollama
    out: Path | None = None  # the folder to write; by default below the run folder
    replace: bool = False  # an export that is already there


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    folder: Path
    lines: tuple[str, ...]  # what a person should read


def export_run(request: ExportRequest, runtime: Runtime, tell: Callable[[str], None] = print) -> Exported:
    """Write an export, prove it, and put it in its place.

    Args:
        tell: called with a line for each step that takes long.

    Raises:
        ExportError: if the run, the form or the model does not allow it, or a proof fails.
        EngineError: if an engine or a package is missing without which nothing can be written.
        ModelError, EmbedderError: if the run's models cannot be loaded.
    """
    _check(request)
    embedder = request.to == "onnx-embedder"
    facts = embedder_facts(request.run) if embedder else run_facts(request.run, request.track)
    final = request.out or request.run / FOLDER / f"track_{facts.track}-{request.to}"
    _require_free(final, request.replace)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as scratch:
            partial = Path(scratch) / "export"
            partial.mkdir()
            if embedder:
                found = _export_embedder(facts, partial, runtime, tell)
            else:
                found = _export_model(request, facts, partial, runtime, tell)
            write_json(partial / RECORD, found | {"to": request.to, "files": _files(partial)})
            _require_free(final, request.replace)  # another export may have come first
            put_folder(partial, final)
    except OSError as error:
        problem = storage_problem(error) or error
        raise ExportError(f"the export to {final} stopped and left nothing: {problem}") from error
    open_ones = [proof["reason"] for proof in found["proofs"].values() if not proof["proven"]]
    lines = [f"NOT PROVEN: {reason}" for reason in dict.fromkeys(open_ones)]
    return Exported(final, (*lines, f"written: {final}"))


def offer_download(folder: Path) -> bool:
    """Show a button on Colab that packs an export into one file and downloads it; elsewhere do nothing.

    Returns:
        Whether the button is shown.
    """
    try:
        from google.colab import files, output
    except ImportError:
        return False

    def download() -> None:
        files.download(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))

    output.register_callback(DOWNLOAD, download)
    size = sum(file.stat().st_size for file in folder.rglob("*")) / 2**20
    call = f"google.colab.kernel.invokeFunction('{DOWNLOAD}', [], {{}})"
    display(HTML(f'<button onclick="{call}">Download {folder.name}.zip, up to {size:,.0f} MiB</button>'))
    return True


def _check(request: ExportRequest) -> None:
    if request.to not in FORMS:
        raise ExportError(f"--to takes {', '.join(FORMS)}, not {request.to!r}")
    unknown = [kind for kind in request.kinds if kind not in KINDS]
    if unknown or not request.kinds:
        raise ExportError(f"--type takes {', '.join(KINDS)}, not {', '.join(unknown) or 'nothing'}")
    if request.to in ("hf", "onnx-embedder") and request.kinds != ("f16",):
        raise ExportError(f"--to {request.to} has one form, in float32: leave --type out")
    if request.to == "onnx-embedder" and request.track:
        raise ExportError("--to onnx-embedder takes Track C's embedder: leave --track out")
    if request.to == "ollama" and (len(request.kinds) > 1 or "lora" in request.kinds):
        raise ExportError("Ollama takes one file of merged weights: give one --type other than lora")
    if request.track not in (None, "a", "b"):
        raise ExportError(f"--track takes a or b, not {request.track!r}")
    if request.to in ("gguf", "ollama") and "q4_k_m" in request.kinds:
        quantiser()  # before minutes are spent on what it could not finish


def _require_free(final: Path, may_replace: bool) -> None:
    """Refuse to write over anything but an earlier export that may be replaced."""
    if not final.exists():
        return
    if not (final / RECORD).is_file():
        raise ExportError(
            f"{final} is already there and no export (it has no {RECORD}): choose another --out"
        )
    if not may_replace:
        raise ExportError(f"{final} is already there; write it anew with --replace, or choose another --out")


def _export_model(
    request: ExportRequest, facts: RunFacts, folder: Path, runtime: Runtime, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Write the language model in the form asked for; return what export.json says of it."""
    tell(f"loading {facts.base} with the adapter of Track {facts.track.upper()}")
    measured = load_measured(facts, runtime)
    with tempfile.TemporaryDirectory(prefix="measured-") as scratch:
        tell("asking the measured model")
        questions = ask(measured, Path(scratch))
        write = _Writing(measured, questions, folder, tell)
        if request.to == "hf":
            write_hf(measured, merged_model(measured), folder)
            loader = tokenizer_loader(folder, questions.job.texts, questions.token_ids)
            proofs = {WEIGHTS: write.proof(transformers_engine(folder, loader), "float32")}
            how = HOW_TO_LOAD.format(loader=loader)
            if loader != LOADERS[0]:
                tell(f"load its tokenizer with {loader}: {LOADERS[0]} would read other token ids")
        else:
            proofs = write.lora() if "lora" in request.kinds else {}  # first, since merging uses it up
            kinds = [kind for kind in dict.fromkeys(request.kinds) if kind != "lora"]
            whole = merged_model(measured) if kinds else None
            for kind in kinds:
                proofs |= write.merged(whole, kind)
            file = next(iter(proofs))
            how = HOW_TO_RUN[request.to].format(file=file)
            if request.to == "ollama":
                context = min(OLLAMA_CONTEXT, measured.model.config.max_position_embeddings)
                write_text(folder / "Modelfile", modelfile(measured, file, context))
    write_text(folder / "README.md", model_card(facts, f"exported as {', '.join(proofs)}", how))
    adapter = _sha256(facts.adapter / "adapter_model.safetensors")
    return _origin(facts) | {"adapter_sha256": adapter, "proofs": proofs}


@dataclass(frozen=True)
class _Writing:
    """Writes files of one model and proves each."""

    measured: MeasuredModel
    questions: Questions
    folder: Path
    tell: Callable[[str], None]

    def merged(self, whole: PreTrainedModel, kind: str) -> dict[str, Any]:
        """Write the merged model as GGUF, and return its proof under the file's name."""
        file = self.folder / f"model-{kind}.gguf"
        self._write(whole, file, kind)
        return {file.name: self._llama_proof(kind, file)}

    def lora(self) -> dict[str, Any]:
        """Write base and adapter apart as GGUF, and return the proof of both together."""
        base, adapter = self.folder / "base-f16.gguf", self.folder / "adapter-lora.gguf"
        write_lora(self.measured, adapter, export_name(self.measured.facts))
        self._write(untouched_base(self.measured), base, "f16")
        return {adapter.name: self._llama_proof("f16", base, adapter)}

    def proof(self, engine: Engine, kind: str, no_ends: Collection[int] = ()) -> dict[str, Any]:
        """Prove what lies in the folder, and tell the result."""
        found = prove(self.measured, self.questions, engine, kind, no_ends)
        self.tell(f"{kind}: {summary(found)}")
        return found

    def _write(self, whole: PreTrainedModel, file: Path, kind: str) -> None:
        facts, config = self.measured.facts, whole.config
        self.tell(f"writing {file.name}")
        tokenizer, ends = self.measured.tokenizer, self.measured.ends
        fields = vocabulary_fields(tokenizer, config.vocab_size, ends, facts.held_out)
        text = GgufText(
            export_name(facts), base_licence(facts.base), "see README.md and export.json beside it"
        )
        quantised = kind == "q4_k_m"
        store = (
            k_store(config.num_hidden_layers, tied=config.tie_word_embeddings)
            if quantised
            else plain_store(kind)
        )
        write_gguf(whole, fields, text, file, kind=kind, store=store)

    def _llama_proof(self, kind: str, model: Path, lora: Path | None = None) -> dict[str, Any]:
        if find_llama() is None:
            return {"proven": False, "reason": MISSING}
        return self.proof(llama_engine(model, lora), kind, infill_mark_ids(self.measured.tokenizer))


def _export_embedder(
    facts: RunFacts, folder: Path, runtime: Runtime, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Write the embedder; return what export.json says of it."""
    queries = facts.held_out[:QUERIES]
    documents = [str(row["text"]) for row in facts.rows("data/documents")][:DOCUMENTS]
    if not queries or not documents:
        raise ExportError(f"{facts.folder} has no held-out queries and functions of Track C to compare on")
    exact = replace(runtime, device=torch.device("cpu"), autocast_dtype=None)
    model, most = load_tuned(facts, exact)
    tell("writing model.onnx")
    write_onnx(model, folder, most)
    proof: dict[str, Any] = {"proven": False, "reason": NO_RUNTIME}
    if has_runtime():
        proof = prove_onnx(model, folder, queries, documents, exact, most)
        tell(
            f"{proof['engine']}: cosine to the measured vectors at least {proof['least_cosine']:.6f} over "
            f"{proof['queries']} queries and {proof['documents']} functions; the same function nearest for "
            f"{proof['same_nearest']:.1%} of the queries"
        )
    write_text(folder / "README.md", model_card(facts, "exported as one ONNX graph", HOW_TO_EMBED))
    return _origin(facts) | {"proofs": {"model.onnx": proof}}


def _origin(facts: RunFacts) -> dict[str, str]:
    base = public_model(recorded_name(facts.base))
    return {"run": facts.folder.name, "track": facts.track, "base": base}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
