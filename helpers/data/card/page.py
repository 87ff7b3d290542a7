"""Render `data_card.md`: what the data are, where they come from, and what was done to them.

It is a Hugging Face dataset card: a YAML header, then Markdown. Every figure comes from the facts that are
passed in; nothing is counted or typed here. Reports of the data builders are shown whatever their keys, so
a new filter or statistic appears in the card without a change here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from huggingface_hub import DatasetCardData

from helpers.data.card.data_sets import header_options
from helpers.escaping import cell, code_block, code_span, inline, visible

HUB_LICENCES = {
    "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "unlicense", "zlib",
    "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "cc0-1.0",
}  # fmt: skip
COLLECTION = (
    "The files were read from the source below, as they were when the run began. The SHA-256 is that of all "
    "accepted files, secrets masked."
)
VERIFICATION = (
    "Shares with their 95% Wilson intervals. A function counts as verified if its reference passes its tests "
    "under every condition that should not matter, and the tests notice most of the faults planted in it. "
    "Functions that the rules keep from being run are not among these."
)
BIASES = (
    "Functions that can be run in a sandbox are plain functions of simple arguments. Methods, and whatever "
    "reads files or the network, are missing from all tasks that tests decide.",
    "Functions with docstrings are asked for; search for undocumented code is not measured.",
    "Queries and instructions are in English, in the words of the docstrings and of few templates.",
)
BIAS_TABLE = "How the functions that became data differ from all functions of the code base:"
SECRETS = (
    "Detectors replace the keys, tokens and passwords that they recognise with words such as "
    "MASKED_AWS_ACCESS_KEY, in every file, before any data are made from it. Functions of a file with a "
    "masked secret are not run."
)
SECRET_CHECK = (
    "How well the masking works was measured when this card was made, on generated code: secrets planted in "
    "forms of assignment of every language, and as many harmless look-alikes. Recall is the share of planted "
    "secrets of which nothing was left; precision is the share of secrets among all items that were changed. "
    "The rules were tuned on other splits; this one adds words, names, values and forms of its own. Forms "
    "that are new to the rules are found less often: docs/corpora.md says how often they were. "
    "`python -m helpers secrets` repeats the measurement."
)
REHEARSED = "rehearsed_answers"  # the data set that is not made from the code base
REHEARSED_LICENCE = (
    f"`{REHEARSED}` quotes functions of Python's standard library, under Python's licence (PSF-2.0); the "
    "answers are the model's."
)
FACTS = "data_card_facts.json"  # in the run folder: what the card is rendered from
BESIDE_DATA = "README.md"  # the card in the run folder, where `datasets.load_dataset` looks for it
SHOWN_CHARS = 2_000  # of one example text
MAX_COLUMNS = 8  # of figures; more do not fit on a page
SHOWN_EXAMPLES = 8
OWN_WORDS = ("what", "verified")  # keys of examples whose values are sentences of ours


class DataCardFacts(TypedDict, total=False):
    """The facts of one run, as plain JSON values. The card leaves out what is absent.

    A builder's report is a dict. These keys have a form of their own; any other is shown by its type
    (number: a line; dict of numbers, dict of dicts, list of dicts: a table; list: bullets):

        filters    {name: {"in": int, "out": int, "reason": str, ...}} in the order applied
        templates  {kind: [phrasing, ...]}
        examples   [{field: text, ...}, ...] or {kind: [...]}; likewise rejected_examples
        status     "not_run", with "reason": then only that is shown
    """

    profile: str
    corpus: dict[str, Any]  # from `corpus_facts`
    data_sets: dict[str, Any]  # from `data_set_facts`
    verification: list[dict[str, Any]]  # rows: what was verified, of how many, the rate and its interval
    biases: list[dict[str, Any]]  # from `bias_rows`
    secret_check: dict[str, Any]  # `figures` and `by_language` on planted secrets, as rows of tables
    language_model: dict[str, Any]  # report on Track A's texts
    instruct: dict[str, Any]  # report of Track B's data builder
    retrieval: dict[str, Any]  # report of Track C's data builder
    completion: dict[str, Any]  # report on the places for completions
    seeds: dict[str, Any]  # what derives from a seed -> the seed
    models: dict[str, str]  # use -> model that the data are for
    command: str  # makes the same data again
    hashes: dict[str, str]  # file in the run folder -> SHA-256
    limits: list[str]  # known limits, in words, in addition to STANDING_LIMITS


INTENDED_USE = (
    "Adapting small models to this one code base, and measuring on held-out modules whether it helped.",
    "Repeating or checking the figures of the run that made these data.",
)
UNFIT_USE = (
    "Comparing models that may have been trained on this code base, or ranking models in general.",
    "Training a model to be published under terms that the source's licence does not allow.",
    "Running the programs outside a sandbox: pairs and tests hold code that nobody has reviewed.",
)
STANDING_LIMITS = (
    "One code base: the figures say nothing about other code.",
    "Functions left out as twins are not evaluated, but their text stays in the held-out files on which "
    "language modelling is measured.",
    "Licences are read from metadata or recognised by phrases; this is not legal advice.",
    "A hub model may have seen public code before; the splits cannot show that.",
)


def render_data_card(facts: DataCardFacts | Mapping[str, Any]) -> str:
    """Return the whole card as Markdown, ending with a newline; see `DataCardFacts` for the input.

    Raises:
        ValueError: if `facts` has a key that the card does not know, so that no fact is lost.
    """
    unknown = sorted(set(facts) - set(DataCardFacts.__annotations__))
    if unknown:
        raise ValueError(f"unknown data card facts {unknown}: use the keys of DataCardFacts")
    corpus = facts.get("corpus", {})
    title = f"Adaptation data from {corpus.get('source', {}).get('name', 'a code base')}"
    parts = [f"---\n{_header(facts, title)}\n---", f"# {_inline(title)}", _introduction(facts)]
    if facts.get("data_sets"):
        parts.append(_section("Data sets", *_data_set_parts(facts["data_sets"], corpus)))
    if corpus:
        parts += _corpus_parts(corpus, facts.get("secret_check", {}))
    for key, heading in (
        ("language_model", "Language-model texts (Track A)"),
        ("instruct", "Instruction pairs (Track B)"),
        ("retrieval", "Retrieval pairs (Track C)"),
        ("completion", "Places for completions"),
    ):
        report = facts.get(key, {})
        if report.get("status") == "not_run":
            parts.append(_section(heading, f"Not run: {_inline(report.get('reason', 'no reason given'))}."))
        elif key in facts:
            parts.append(_section(heading, *_values(report, level=3)))
    if facts.get("verification"):
        parts.append(_section("Verification", VERIFICATION, _table(facts["verification"])))
    if facts.get("models"):
        parts.append(_section("Models these data are for", _table_of(facts["models"], "use", "model")))
    if facts.get("seeds"):
        parts.append(_section("Seeds", _table_of(facts["seeds"], "purpose", "seed")))
    if corpus.get("edge_cases"):
        parts.append(_section("Edge cases", _table_of(corpus["edge_cases"], "case", "count")))
    if facts.get("biases"):
        parts.append(_section("Biases", _bullets(BIASES), BIAS_TABLE, _table(facts["biases"])))
    parts += [
        _section("Intended use", _bullets(INTENDED_USE)),
        _section("Uses to avoid", _bullets(UNFIT_USE)),
    ]
    if facts.get("command"):
        same = "With the same code, package versions and corpus, the hashes below should come out again."
        parts.append(_section("Make these data again", code_block(facts["command"], "sh"), same))
    if facts.get("hashes"):
        parts.append(_section("Hashes", _table_of(facts["hashes"], "file in the run folder", "SHA-256")))
    parts.append(_section("Known limits", _bullets([*STANDING_LIMITS, *facts.get("limits", [])])))
    return "\n\n".join(part for part in parts if part) + "\n"


def with_tasks_set_aside(card: str, metrics: Mapping[str, Any]) -> str:
    """Return the card with the tasks that were set aside later, in scoring, as metrics.json lists them."""
    rows = metrics.get("tasks_set_aside", [])
    made = metrics["track_b"]["data"].get("counts", {}).get("tasks_made")
    if made is None:
        text = "None: no task was scored."
    elif rows:
        why = f"The references of {len(rows)} of {made} tasks did not pass when they were scored"
        text = f"{why}; no figure counts these tasks.\n\n{_table(rows)}"
    else:
        text = f"None: the references of all {made} tasks passed again when they were scored."
    return f"{card.rstrip()}\n\n{_section('Tasks set aside', text)}\n"


def missing_card(reason: str) -> str:
    """Return a stand-in for a card that could not be made, so that no older card is mistaken for it."""
    header = DatasetCardData(pretty_name="Data card missing").to_yaml().strip()
    return f"---\n{header}\n---\n\n# Data card missing\n\nThis run could not make it: {_inline(reason)}\n"


def _header(facts: Mapping[str, Any], title: str) -> str:
    """Return the YAML block that the hub reads: licence, languages, tasks, size."""
    source = facts.get("corpus", {}).get("source", {})
    licence = str(source.get("licence", "unknown"))
    hub_licence = re.sub(r"-(?:only|or-later)$", "", licence.lower())
    options: dict[str, Any] = {"license": hub_licence}
    if licence == "unknown":
        options = {"license": "unknown"}
    elif hub_licence not in HUB_LICENCES:
        options = {"license": "other", "license_name": _named(licence)}
    spoken = re.findall(r"([a-z+]+) \d+", source.get("languages", "")) or ["python"]
    n = int(source.get("functions", 0))
    size = "n<1K" if n < 1_000 else "1K<n<10K" if n < 10_000 else "10K<n<100K" if n < 100_000 else "100K<n<1M"
    data = DatasetCardData(
        pretty_name=_named(title), language=["en", "code"], size_categories=[size],
        multilinguality="monolingual",
        annotations_creators=["machine-generated"], language_creators=["found"], source_datasets=["original"],
        task_categories=["text-generation", "text-retrieval"], tags=["code", *spoken], **options,
        **header_options(facts.get("data_sets", {})),
    )  # fmt: skip
    return data.to_yaml().strip()


def _named(text: str) -> str:
    return " ".join(visible(text).split())


def _introduction(facts: Mapping[str, Any]) -> str:
    corpus = facts.get("corpus", {})
    lines = [f"> **Warning.** {_inline(warning)}" for warning in corpus.get("warnings", [])]
    lines.append(_inline(corpus.get("summary", "")))
    if facts.get("profile"):
        lines.append(f"Made by the profile {code_span(facts['profile'])}.")
    lines.append("This card is generated from the data of the run; no figure in it was typed by hand.")
    return "\n\n".join(line for line in lines if line)


def _data_set_parts(data_sets: Mapping[str, Any], corpus: Mapping[str, Any]) -> list[str]:
    """Return a table of the data sets, how to load them, and which of them cannot be loaded."""
    rows = [
        {"name": code_span(name), "what": one["what"], "made": one["made"],
         "rows": ", ".join(f"{split} {count:,}" for split, count in one["rows"].items())}
        for name, one in data_sets.items()
    ]  # fmt: skip
    licence = corpus.get("source", {}).get("licence", "unknown")
    said = [
        _table(rows),
        *([REHEARSED_LICENCE] if REHEARSED in data_sets else []),
        f"All {'others ' if REHEARSED in data_sets else ''}are made from the text of the code base, so its "
        "licence "
        + (f"({_inline(licence)}) " if licence != "unknown" else "(none was found) ")
        + "holds for them, too. Nobody was asked to write or to label anything.",
    ]
    readable = [name for name, one in data_sets.items() if "features" in one]
    if readable:
        call = f'load_dataset("RUN_FOLDER", "{readable[0]}")  # or another name of the table'
        said.append(
            "In the run folder, this card is README.md: its header tells `datasets` each column's type."
        )
        said.append(code_block(f"from datasets import load_dataset\n\n{call}", "python"))
    unreadable = {name: one["unreadable"] for name, one in data_sets.items() if "unreadable" in one}
    if unreadable:
        why = (
            "These cannot be read by `load_dataset` without changing a value; read their JSON lines instead:"
        )
        said.append(f"{why}\n\n{_bullets([f'{name}: {reason}' for name, reason in unreadable.items()])}")
    return said


def _corpus_parts(corpus: Mapping[str, Any], secret_check: Mapping[str, Any]) -> list[str]:
    """Return the sections on sources, rules, rejected files, splits, duplicates and distributions."""
    rejected = corpus.get("rejected_examples", {})
    collected = COLLECTION if corpus.get("source") else ""
    secrets = _table_of(corpus.get("secrets", {}), "kind", "masked")
    left_out = corpus.get("functions_left_out", [])
    lost = [
        _table([{key: row[key] for key in ("reason", "functions")} for row in left_out]),
        *_listings({row["reason"]: row["examples"] for row in left_out}),
    ]
    splits = [_table(corpus.get("splits", []))]
    if corpus.get("compared"):
        splits += [
            "All splits were compared again by other means. Whatever was found is left out (see below); "
            "these items were compared without a match:",
            _table_of(corpus["compared"], "comparison", "items"),
        ]
    excluded = corpus.get("excluded", [])
    twins = [
        "Duplicate files were rejected (see the rules). A file lies in one split as a whole; files that "
        "share much of their code stay together. Functions with a twin in a more important split (train "
        "before test before validation) are not evaluated.",
        _table([{key: row[key] for key in ("reason", "functions")} for row in excluded]) or "None was found.",
        *_listings({row["reason"]: row["examples"] for row in excluded}),
    ]
    return [
        _section("Source and licence", collected, _table_of(corpus.get("source", {}), "fact", "value"),
                 _table_of(corpus.get("licence_files", {}), "licence file", "licence named in it")),
        _section("Secrets", SECRETS, secrets or "None was found.", *_secret_check(secret_check)),
        _section("Acceptance rules", "Tried in this order; the first that applies gives the reason.\n\n"
                 + _table(corpus.get("rules", []))),
        _section("Rejected files", *_listings(rejected)),
        _section("Functions left out", *lost),
        _section("Splits", *splits),
        _section("Duplicates", *twins),
        _section("Distributions", *_values(corpus.get("distributions", {}), level=3)),
    ]  # fmt: skip


def _secret_check(check: Mapping[str, Any]) -> list[str]:
    """Return the measured recall and precision of the masking; nothing if it was not measured."""
    if not check:
        return []
    return [SECRET_CHECK, _table(check["figures"]), _table(check["by_language"])]


def _values(values: Mapping[str, Any], level: int) -> list[str]:
    """Render a report: numbers and short texts as one table, every other entry under its own heading."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping | list | tuple)}
    parts = [_table_of(plain, "fact", "value")] if plain else []
    for key, value in values.items():
        if key in plain or value in ({}, [], ()):
            continue
        heading = f"{'#' * min(level, 6)} {_sentence(key)}"
        if key == "filters" and _is_rows(value):
            body = _table([_filter_row(name, row) for name, row in value.items()])
        elif key == "templates" and isinstance(value, Mapping):
            body = "\n\n".join(_listings(value))
        elif key in ("examples", "rejected_examples"):
            body = _examples(value)
        elif isinstance(value, Mapping) and _is_rows(value):
            body = _table([{"": name} | row for name, row in _upright(value).items()])
        elif isinstance(value, Mapping):
            nested = any(isinstance(item, Mapping | list | tuple) for item in value.values())
            body = "\n\n".join(_values(value, level + 1)) if nested else _table_of(value, "", "value")
        elif all(isinstance(item, Mapping) for item in value):
            body = _table(value)
        else:
            body = _bullets(value)
        parts.append(f"{heading}\n\n{body}")
    return parts


def _is_rows(value: Any) -> bool:
    """Return whether a value is a dict of dicts of plain values: the rows of a table."""
    return isinstance(value, Mapping) and all(
        isinstance(row, Mapping) and not any(isinstance(cell, Mapping) for cell in row.values())
        for row in value.values()
    )


def _upright(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the table, transposed if it has more columns than fit on a page."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if len(columns) <= max(MAX_COLUMNS, len(rows)):
        return {name: dict(row) for name, row in rows.items()}
    return {column: {name: row.get(column, "") for name, row in rows.items()} for column in columns}


def _filter_row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter's counts, with the number it dropped beside them."""
    cells: dict[str, Any] = {"filter": name} | {key: row[key] for key in ("in", "out") if key in row}
    if isinstance(row.get("in"), int) and isinstance(row.get("out"), int):
        cells["dropped"] = row["in"] - row["out"]
    return cells | {key: value for key, value in row.items() if key not in cells}


def _examples(examples: Any) -> str:
    """Render example texts in fences: they are code, and Markdown must not touch them."""
    if isinstance(examples, Mapping):
        parts = (
            f"**{_inline(kind)}**\n\n{_examples(_listed(rows))}" for kind, rows in examples.items() if rows
        )
        return "\n\n".join(parts)
    blocks = []
    shown = [example for example in examples if example is not None][:SHOWN_EXAMPLES]
    for number, example in enumerate(shown, start=1):
        if not isinstance(example, Mapping):
            blocks.append(_fenced(example))
            continue
        short = {k: v for k, v in example.items() if "\n" not in str(v) and len(str(v)) <= 80}
        long = {key: value for key, value in example.items() if key not in short}
        facts = "; ".join(
            f"{_inline(key)}: {_inline(value) if key in OWN_WORDS else _whole(value)}"
            for key, value in short.items()
        )
        blocks.append(f"Example {number}{': ' + facts if facts else ''}")
        blocks += [f"{_sentence(key)}:\n\n{_fenced(value)}" for key, value in long.items()]
    return "\n\n".join(blocks)


# --- Markdown ------------------------------------------------------------------------------------


def _section(heading: str, *parts: str) -> str:
    """Return a level-two section; "Nothing." where it would be empty."""
    body = "\n\n".join(part for part in parts if part)
    return f"## {heading}\n\n{body or 'Nothing.'}"


def _table_of(values: Mapping[str, Any], key: str, value: str) -> str:
    return _table([{key: name, value: item} for name, item in values.items()])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table over the union of their keys, in order of first appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        return ""
    numeric = [all(isinstance(row.get(column, 0), int | float) for row in rows) for column in columns]
    return "\n".join([
        "| " + " | ".join(_cell(column) or " " for column in columns) + " |",
        "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|",
        *("| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows),
    ])  # fmt: skip


def _listings(values: Mapping[str, Any]) -> list[str]:
    """Return each name with its items as a list below it."""
    return [f"{_inline(name)}:\n\n{_bullets(_listed(items))}" for name, items in values.items()]


def _bullets(items: Sequence[Any]) -> str:
    return "\n".join(f"- {_inline(item)}" for item in items)


def _inline(value: Any) -> str:
    """Return a value as one line of text that Markdown shows unchanged."""
    return inline(_written(value), names_as_code=True)


def _whole(value: Any) -> str:
    """Return a value as text, or as one code span if any of it needs one: half a line of code misleads."""
    text = " ".join(visible(_written(value)).split())
    return text if not text or _inline(text) == text else code_span(text)


def _cell(value: Any) -> str:
    return cell(_written(value), names_as_code=True)


def _written(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _fenced(value: Any) -> str:
    """Return a text as a code block; cut long texts and say so."""
    text = str(value)
    if len(text) > SHOWN_CHARS:
        text = text[:SHOWN_CHARS] + f"\n... ({len(text) - SHOWN_CHARS} characters more)"
    return code_block(text)


def _sentence(key: str) -> str:
    words = _inline(str(key).replace("_", " "))
    return words[:1].upper() + words[1:]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]
