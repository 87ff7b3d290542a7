"""The data card has a header that the hub reads, holds every fact, and stays valid Markdown."""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex

import pytest
import yaml

from helpers.code.functions import extract_functions
from helpers.data.card.facts import bias_rows, corpus_facts, data_hashes, quantiles, regenerating_command
from helpers.data.card.page import STANDING_LIMITS, render_data_card, with_tasks_set_aside
from helpers.data.corpus import load_corpus
from helpers.data.leaks import check_splits
from helpers.data.splits import split_corpus
from helpers.settings import CorpusSettings

SETTINGS = CorpusSettings(min_file_bytes=1)


def facts_of(folder, **texts: str) -> dict:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8", newline="")
    corpus = load_corpus(f"path:{folder}", SETTINGS)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, SETTINGS, 0)
    leaks = check_splits(corpus, functions, splits, SETTINGS)
    return corpus_facts(corpus, functions, splits, settings=SETTINGS, leaks=leaks)


@pytest.fixture
def facts(tmp_path) -> dict:
    folder = tmp_path / "my_repo"
    folder.mkdir()
    return facts_of(
        folder,
        first='def load_table(path):\n    """Read a table.\n\n    >>> 1\n    1\n    """\n    return open(path).read()\n',
        second="class A:\n    async def wait(self, n):\n        return 'é' * n\n",
        third="def stub():\r\n    'Only a docstring.'\r\n",
        test_it="def test():\n    assert True\n",
        broken="def f(:\n",
    )


def header(card: str) -> dict:
    _, block, _ = card.split("---\n", 2)
    return yaml.safe_load(block)


def table(card: str, heading: str) -> list[dict[str, str]]:
    """Return the first table below a heading."""
    lines = card.split(f"{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_facts_are_plain_and_name_no_folder_of_the_machine(facts, tmp_path):
    text = json.dumps(facts, allow_nan=False)
    assert str(tmp_path) not in text
    assert facts["source"]["spec"] == "path:my_repo"
    assert (facts["source"]["files"], facts["source"]["functions"]) == (3, 3)


def test_counts_by_hand(facts):
    assert facts["edge_cases"] == {
        "files with \\r\\n or \\r line ends": 1,
        "files with characters beyond ASCII": 1,
        "files indented with tabs": 0,
        "files without a function": 0,
        "functions without docstring": 1,
        "methods": 1,
        "nested functions": 0,
        "async functions": 1,
        "names defined more than once in a file": 0,
        "docstrings whose examples doctest refuses": 0,
        "functions whose body is only a docstring": 1,
    }
    rejected = {row["reason"]: row["rejected"] for row in facts["rules"] if row["rejected"]}
    assert rejected == {"test": 1, "does not parse": 1}
    assert facts["rejected_examples"]["test"] == ["test_it.py"]
    assert facts["rejected_examples"]["does not parse"][0].startswith("broken.py (line 1: ")
    assert sum(row["functions"] for row in facts["splits"]) == 3
    assert sum(row["with doctests"] for row in facts["splits"]) == 1
    lengths = facts["distributions"]["function lengths"]
    assert {row["lines of code"]: row["functions"] for row in lengths if row["functions"]} == {"1-2": 3}


def test_quantiles_by_hand():
    assert quantiles([]) == {"n": 0}
    assert quantiles([7]) == {"n": 1, "min": 7, "25%": 7, "median": 7, "75%": 7, "max": 7, "mean": 7}
    assert quantiles([4, 1, 3, 2, 5])["median"] == 3
    assert quantiles([1, 2, 3, 4, 5])["25%"] == 2


def test_card_holds_header_sections_and_figures(facts):
    card = render_data_card({"profile": "cpu", "corpus": facts, "seeds": {"run": 17}})
    assert card.startswith("---\n")
    assert header(card)["pretty_name"] == "Adaptation data from my_repo"
    assert header(card)["license"] == "unknown"
    assert header(card)["size_categories"] == ["n<1K"]
    headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert headings == [
        "Source and licence", "Secrets", "Acceptance rules", "Rejected files", "Functions left out", "Splits", "Duplicates", "Distributions",
        "Seeds", "Edge cases", "Intended use", "Uses to avoid", "Known limits",
    ]  # fmt: skip
    assert card.index("> **Warning.** No licence was found") < card.index("## Source and licence")
    assert [row["split"] for row in table(card, "## Splits")] == ["train", "test", "validation"]
    assert {row["reason"]: row["rejected"] for row in table(card, "## Acceptance rules")}["test"] == "1"
    assert table(card, "## Seeds") == [{"purpose": "run", "seed": "17"}]
    assert all(limit in card for limit in STANDING_LIMITS)
    assert "Fewer than 100 files" in card
    assert "`cpu`" in card


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("MIT OR Apache-2.0", {"license": "other", "license_name": "MIT OR Apache-2.0"}),
        ("unknown", {"license": "unknown"}),
    ],
)
def test_licence_in_the_words_of_the_hub(licence, fields):
    card = render_data_card({"corpus": {"source": {"name": "x", "licence": licence}}})
    assert {key: value for key, value in header(card).items() if key.startswith("license")} == fields


def test_filters_show_what_they_dropped_in_their_order():
    report = {"filters": {"parses": {"in": 100, "out": 90}, "runs": {"in": 90, "out": 60, "reason": "fails"}}}
    card = render_data_card({"instruct": report})
    assert table(card, "### Filters") == [
        {"filter": "parses", "in": "100", "out": "90", "dropped": "10", "reason": ""},
        {"filter": "runs", "in": "90", "out": "60", "dropped": "30", "reason": "fails"},
    ]


def test_any_report_is_shown_whole():
    report = {
        "seed": 17,
        "train": 200,
        "by_kind": {"explain": 3, "fix_bug": 4},
        "templates": {"fix_bug": ["Fix this.", "Mend it."], "explain": "What does it do?"},
        "lengths": {"words per query": {"n": 3, "median": 7.25}},
        "mutation": [{"operator": "flip", "killed": 9}, {"operator": "swap", "killed": 8, "equivalent": 1}],
        "notes": ["first note", "second note"],
        "verification": {"run in the sandbox": {"checks": ["parses", "passes"], "by": {"kind": 3}}},
        "nothing": {},
        "examples": {"fix_bug": [{"id": "a", "instruction": "Fix:\n```python\nx\n```", "response": "y\nz"}]},
    }
    card = render_data_card({"retrieval": report})
    assert table(card, "## Retrieval pairs (Track C)") == [
        {"fact": "seed", "value": "17"},
        {"fact": "train", "value": "200"},
    ]
    assert table(card, "### By kind")[1] == {"": "`fix_bug`", "value": "4"}
    assert table(card, "### Lengths")[0] == {"": "words per query", "n": "3", "median": "7.25"}
    assert table(card, "### Mutation")[1] == {"operator": "swap", "killed": "8", "equivalent": "1"}
    for words in (
        "- Mend it.",
        "- What does it do?",
        "- second note",
        "Run in the sandbox",
        "parses",
        "kind",
    ):
        assert words in card
    assert "````text\nFix:\n```python\nx\n```\n````" in card
    assert "### Nothing" not in card


def test_track_that_did_not_run_says_why():
    card = render_data_card({"instruct": {"status": "not_run", "reason": "3 functions of at least 40"}})
    assert "## Instruction pairs (Track B)\n\nNot run: 3 functions of at least 40." in card


def test_unknown_facts_are_refused_not_lost():
    with pytest.raises(ValueError, match="'instructions'"):
        render_data_card({"instructions": {}})


def test_texts_cannot_break_the_markdown():
    report = {
        "rows": [{"name": "a|b", "text": "two\nlines <script> __init__"}],
        "examples": [{"id": "1", "code": "````\n" + "x" * 5000}],
    }
    card = render_data_card({"instruct": report})
    assert "| a\\|b | two lines `<script>` `__init__` |" in card
    assert "`````text\n````\nxxx" in card
    assert "characters more)\n`````" in card


def test_empty_facts_give_a_card():
    assert header(render_data_card({}))["pretty_name"] == "Adaptation data from a code base"


def test_a_table_with_too_many_columns_stands_upright():
    counts = {f"outcome {number}": number for number in range(11)}
    wide = render_data_card({"instruct": {"functions": {"train": counts, "test": {"outcome 3": 7}}}})
    rows = table(wide, "### Functions")
    assert [row["train"] for row in rows] == [str(number) for number in range(11)]
    assert {row["test"] for row in rows} == {"7", ""}
    narrow = render_data_card({"instruct": {"functions": {"train": {"a": 1, "b": 2}, "test": {"a": 3}}}})
    assert [row["a"] for row in table(narrow, "### Functions")] == ["1", "3"]


def test_the_card_says_what_the_data_are_for_and_how_to_make_them_again(tmp_path):
    for name, text in (
        ("track_b/data/train.jsonl", "{}\n"),
        ("corpus/rejected.jsonl", "[1]\n"),
        ("track_b/answers.jsonl", "x"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = regenerating_command(
        "cpu", "path:/home/me/my repo", 18, ["track_a.epochs=1", "track_c.scale=20"]
    )
    assert shlex.split(command) == [
        "python", "-m", "helpers", "run", "--profile", "cpu", "--corpus", "path:my repo", "--seed", "18",
        "--set", "track_a.epochs=1", "--set", "track_c.scale=20",
    ]  # fmt: skip
    card = render_data_card({"command": command, "hashes": data_hashes(tmp_path)})
    assert command in card
    assert table(card, "## Hashes") == [
        {
            "file in the run folder": name if "_" not in name else f"`{name}`",
            "SHA-256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for name, text in (("track_b/data/train.jsonl", "{}\n"), ("corpus/rejected.jsonl", "[1]\n"))
    ]
    for heading in ("## Intended use", "## Uses to avoid"):
        assert card.count(f"{heading}\n\n- ") == 1


def test_rules_count_what_came_to_them(facts):
    rules = {row["reason"]: row for row in facts["rules"]}
    first, *_, last = facts["rules"]
    assert (first["in"], last["out"]) == (5, 3)
    assert [rules[name]["in"] - rules[name]["out"] for name in ("test", "does not parse")] == [1, 1]
    assert all(before["out"] == after["in"] for before, after in itertools.pairwise(facts["rules"]))
    assert list(facts["rejected_examples"]) == ["test", "does not parse"]  # in the order of the rules


def test_biases_by_hand(tmp_path):
    (tmp_path / "a.py").write_text(
        'def one():\n    """Say 1."""\n    return 1\n\n\nclass A:\n    def _two(self):\n        x = 2\n        return x\n'
    )
    functions = extract_functions(load_corpus(f"path:{tmp_path}", SETTINGS))
    rows = bias_rows(functions, {"tasks": ["a.py::one", "a.py::one"], "queries": []})
    assert [row["functions of"] for row in rows] == ["all functions", "tasks"]
    assert rows[0] == {
        "functions of": "all functions", "n": 2, "median lines": 2.5, "methods, %": 50.0, "with docstring, %": 50.0,
        "with doctests, %": 0.0, "name begins with _, %": 50.0,
    }  # fmt: skip
    assert (rows[1]["n"], rows[1]["with docstring, %"]) == (1, 100.0)


def test_verification_biases_and_data_sets_have_their_sections():
    rate = {"functions run": "all", "n": 40, "verified": 30, "rate": 0.75, "95% interval": "0.5981 to 0.8581"}
    card = render_data_card({
        "verification": [rate],
        "biases": [{"functions of": "tasks", "n": 3}],
        "data_sets": {
            "tasks": {
                "what": "tasks", "made": "by rules", "files": {"test": "t.jsonl"}, "rows": {"test": 3},
                "features": [{"name": "id", "dtype": "string"}],
            }
        },
    })  # fmt: skip
    assert table(card, "## Verification")[0]["rate"] == "0.75"
    assert table(card, "## Biases")[0] == {"functions of": "tasks", "n": "3"}
    assert table(card, "## Data sets")[0]["rows"] == "test 3"
    assert header(card)["configs"] == [
        {"config_name": "tasks", "data_files": [{"split": "test", "path": "t.jsonl"}], "default": True}
    ]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"track_b": {"data": {}}}, "no task was scored"),
        ({"track_b": {"data": {"counts": {"tasks_made": 9}}}}, "all 9 tasks passed again"),
        (
            {"tasks_set_aside": [{"task": "t1"}], "track_b": {"data": {"counts": {"tasks_made": 9}}}},
            "1 of 9 tasks",
        ),
    ],
)
def test_what_was_set_aside_is_said_with_its_count(metrics, said):
    assert said in with_tasks_set_aside(render_data_card({}), metrics)
