"""Write the card of an exported model from the run's metrics.json: what changed, on what, and its limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from huggingface_hub.repocard import metadata_load
from transformers.utils import cached_file

import helpers
from helpers.escaping import code_span, inline
from helpers.models.gguf.sources import described_name, find_gguf
from helpers.models.gguf.store import read_record
from helpers.models.hub import first_line
from helpers.paths import expanded
from helpers.report.compare import public_model
from helpers.report.tables import markdown, metric_table, verdict_sentence
from helpers.take_home.measured_model import RunFacts

TITLES = {"a": "continued pretraining", "b": "instruction tuning", "c": "embedding tuning"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
COMMON_LIMIT = (
    "Its gain was measured on held-out files of this one code base. Nothing is known of others, but for the "
    "controls in metrics.json."
)
LIMITS = (
    COMMON_LIMIT,
    "It writes code that looks right and is not. Run and read what it writes.",
    "It may repeat training files word for word; their licence goes with such text.",
    "It was not trained to refuse anything, nor examined for harmful or biased output.",
)


def model_card(facts: RunFacts, form: str, how_to_load: str) -> str:
    """Return the card as Markdown with the header that the hub reads.

    Args:
        form: what was exported, in a few words.
        how_to_load: code that loads it, in Markdown.
    """
    base = described_name(facts.base).replace(facts.base, public_model(facts.base))
    corpus, section = facts.corpus, facts.section
    licences = {"base": base_licence(facts.base), "corpus": str(corpus.get("licence") or "unknown")}
    name = export_name(facts)
    parts = [
        f"---\n{_header(facts, licences)}\n---",
        f"# {inline(name)}",
        f"{inline(base)} after {TITLES[facts.track]} on {inline(_corpus_text(corpus))}; {inline(form)}.",
        "## What was measured",
    ]
    if section.get("metrics"):
        profile = facts.metrics["run"]["profile"]
        parts += [
            verdict_sentence(section),
            f"Every metric of this track, before → after, with n and 95% intervals (profile {profile}, run "
            f"{code_span(str(facts.metrics['run']['run_id']))}, seed {facts.seed}):",
            markdown(metric_table(section)),
        ]
        if facts.metrics["run"].get("warnings"):
            parts += ["The run's warnings:", _bullets(facts.metrics["run"]["warnings"])]
    else:
        parts.append("Nothing: the run has no metrics.json yet, or this track did not finish.")
    parts += [
        "`export.json` says how far this file is from the measured model, by which engine.",
        "## Load it", how_to_load,
        "## Licences",
        f"Base model: {inline(licences['base'])}. Code base: {inline(licences['corpus'])}. Whoever passes "
        "the model on has to keep to both; licences are read from metadata; this is not legal advice.",
        "## Limits", _bullets([COMMON_LIMIT] if facts.track == "c" else LIMITS),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def base_licence(spec: str) -> str:
    """Return the licence that a base model states in its GGUF file or its README's header, or "unknown"."""
    try:
        if source := find_gguf(spec):
            return read_record(source.folder()).licence or "unknown"
        beside = Path(helpers.__file__).resolve().parent.parent / spec
        folder = beside if spec.startswith("helpers/") else expanded(spec)
        place = (
            folder / "README.md" if folder.is_dir() else cached_file(spec, "README.md", local_files_only=True)
        )
        stated = metadata_load(place) or {}
    except Exception as error:  # whatever a cache or a damaged file raises, the licence is not known then
        return f"unknown ({first_line(error)})" if not isinstance(error, OSError) else "unknown"
    return str(stated.get("license_name") or stated.get("license") or "unknown")


def export_name(facts: RunFacts) -> str:
    """Return a name for the adapted model: base and code base."""
    base = facts.base.partition("@sha256:")[0]
    source = find_gguf(facts.base)
    short = source.model_name() if source else Path(base).name
    return f"{short} adapted to {facts.corpus.get('name') or 'a code base'}"


def _corpus_text(corpus: dict[str, Any]) -> str:
    if not corpus:
        return "a code base that no report describes yet"
    version = f" {corpus['version']}" if corpus.get("version") else ""
    return (
        f"{corpus['name']}{version}, {corpus['files']:,} files, licence {corpus.get('licence') or 'unknown'}"
    )


def _header(facts: RunFacts, licences: dict[str, str]) -> str:
    same = len(set(licences.values())) == 1
    options: dict[str, Any] = (
        {"license": licences["base"].lower()} if same
        else {"license": "other", "license_name": f"{licences['base']} (base), {licences['corpus']} (code)"}
    )  # fmt: skip
    if HUB_NAME.fullmatch(facts.base) and not Path(facts.base).exists():
        options["base_model"] = facts.base
    if facts.track == "c":
        options |= {"library_name": "onnxruntime", "pipeline_tag": "sentence-similarity", "tags": ["code"]}
    else:
        options |= {
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["code", "lora"],
        }
    data = ModelCardData(language=["en", "code"], **options)
    return data.to_yaml().strip()


def _bullets(lines: Any) -> str:
    return "\n".join(f"- {inline(str(line))}" for line in lines)
