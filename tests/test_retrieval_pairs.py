"""Queries and documents: cleaning, wording, relevance, leaks, determinism, short corpora."""

from __future__ import annotations

import dataclasses
import inspect
import itertools

import pytest
from tiny_embedder import function, small_code_base

from helpers.data.queries.documents import document_text, short_form, strip_nested_docstrings
from helpers.data.queries.questions import name_overlap
from helpers.data.queries.retrieval_data import (
    RetrievalDataError,
    build_retrieval_data,
    check_leaks,
    shuffled_pairs,
)
from helpers.data.queries.wording import as_question, base_form, first_sentence, paraphrase
from helpers.errors import InsufficientDataError
from helpers.profiles import EMBEDDED
from helpers.records import Splits
from helpers.run.workspace import write_json

SETTINGS = dataclasses.replace(EMBEDDED.track_c, train_pairs=30, validation_pairs=6, test_queries=20)


@pytest.fixture(scope="module")
def data():
    return build_retrieval_data(*small_code_base(), SETTINGS, seed=3)


# --- wording ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Returns the sum.  More here.", "Returns the sum"),
        ("Return :func:`~a.b.thing` of ``G`` as in [1]_ (see `page <http://x>`_).", "Return a.b.thing of G as in (see page)"),
        ("Compute x, e.g. The mean, of\nall rows. Then stop.", "Compute x, e.g. The mean, of all rows"),
        ("Find paths\n>>> f(1)\n2", "Find paths"),
        ("Parameters\n----------\nx : int", ""),
        (".. deprecated:: 3.0\n   Gone.", ""),
        ("Title of it\n===========\n\nText.", "Title of it"),
        ("find_path\n=========\n\nFind the paths. Then stop.", "Find the paths"),
        ("~~~~~~~~~~\nFind paths here\n~~~~~~~~~~\nText.", "Find paths here"),
        ("Find the paths\n--------------\n>>> f(1)", "Find the paths"),
        ("Find the paths.\n________________\nText.", "Find the paths"),
        ("## Find the paths ##\nText.", "Find the paths"),
        ("Find the paths\nDetails\n-------\nText.", "Find the paths"),
        ("Find the paths\nKeyword Args:\n    x: the x", "Find the paths"),
        ("Find the paths\nOther Parameters\n----------------\nx : int", "Find the paths"),
        ("=====\n\nFind the paths.", "Find the paths"),
        ("Returns\n=======\nint", ""),
        ("-----\nArgs\n-----\nx: the x", ""),
        ("find\n====", ""),
        (":param x: the x", ""),
        ("", ""),
        ("Generate *all* sorts of `G`", "Generate all sorts of G"),
        ("{} [] == != <> 12345 678 a", ""),
        ("Gib die Größe zurück.", "Gib die Größe zurück"),
        ("Ändert x. Über alles.", "Ändert x"),
        ("Возвращает файл. Потом ещё.", "Возвращает файл"),
        ("返回文件。然后结束。", "返回文件"),
        ("मूल्य लौटाता है। फिर।", "मूल्य लौटाता है"),
        ("تعيد المجموع في القائمة؟ نعم", "تعيد المجموع في القائمة"),
        ("فہرست کا مجموعہ لوٹاتا ہے۔ دوسرا", "فہرست کا مجموعہ لوٹاتا ہے"),
        ("ቁጥር ይመልሳል። ሁለት።", "ቁጥር ይመልሳል"),
    ],
)  # fmt: skip
def test_first_sentence(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_questions_from_instructions():
    assert (
        as_question("Computes the mean of x", "How do I {verb} {rest}?") == "How do I compute the mean of x?"
    )
    assert (
        as_question("Returns True if G is a tree", "how to {verb} {rest}")
        == "how to check whether G is a tree"
    )
    assert as_question("Returns the line graph", "how to {verb} {rest}") == "how to get the line graph"
    assert as_question("Checks if x is empty", "how to {verb} {rest}") == "how to check whether x is empty"
    assert as_question("The mean of x", "how to {verb} {rest}") == ""
    assert [base_form(w) for w in ("Tries", "passes", "Uses", "sort", "tree")] == [
        "try",
        "pass",
        "use",
        "sort",
        "",
    ]


def test_paraphrase_needs_two_changes_and_is_the_same_each_time():
    assert paraphrase("Returns the number of edges in DFS order") == "Gives the count of links in DFS order"
    assert paraphrase("Returns the colour of it") == ""


def test_name_overlap_counts_content_words_by_stem():
    assert name_overlap("How do I get the shortest paths?", "shortest_path") == 1.0
    assert name_overlap("shortest way through mazes", "shortest_path") == 0.25
    assert name_overlap("the colour of clouds", "HTTPServer") == 0.0


# --- documents ------------------------------------------------------------------------------------


def test_every_function_is_a_document_without_any_docstring(data):
    functions, _ = small_code_base()
    assert [document.id for document in data.documents] == [f.id for f in functions]
    for document, f in zip(data.documents, functions, strict=True):
        assert f.docstring not in document.text
        assert f.name in document.text


def test_docstrings_of_nested_functions_go_too():
    code = inspect.cleandoc('''
        def outer(x):
            class Inner:
                """Secret of the class."""

            def inner(y):
                """Secret of the nested function.

                Over lines."""
                return "kept text"
            return inner
    ''')
    stripped = strip_nested_docstrings(code)
    assert "Secret" not in stripped
    assert "Over lines" not in stripped
    assert "kept text" in stripped
    assert strip_nested_docstrings("def f(:\n") == "def f(:\n"


def test_document_opens_with_name_and_place_in_words():
    tree = function("pkg/dag_tools.py", "find_DAGRoots", "Does it.")
    assert document_text(tree).splitlines()[0] == "find dag roots (dag tools)"
    alone = dataclasses.replace(tree, module="my_script", qualname="HTTPServer.run2")
    assert document_text(alone).splitlines()[0] == "http server run 2 (my script)"


def test_document_starts_its_code_at_the_definition():
    code = "@cached(\n    size=3\n)\n@other\nasync def f(x):\n    def g(): return x\n    return g"
    decorated = dataclasses.replace(function("pkg/a.py", "f", "Does it."), code=code)
    assert document_text(decorated).splitlines()[1] == "async def f(x):"
    assert "cached" not in document_text(decorated)
    assert document_text(decorated).endswith("    return g")


def test_an_embedder_is_given_each_word_of_the_body_once_and_what_is_called_first():
    code = inspect.cleandoc("""
        def find_roots(graph, limit=None):
            # nothing reaches them
            candidates = [node for node in graph if not in_degree(node)]
            return Sorter(candidates).topSorted(limit)
    """)
    tree = dataclasses.replace(function("pkg/dag.py", "find_roots", "Does it."), code=code)
    head, definition, words = short_form(document_text(tree)).splitlines()
    assert head == "find roots (dag)"
    assert definition == "def find_roots(graph, limit=None):"
    assert words == "degree sorter top sorted graph limit nothing reaches them candidates node"
    assert short_form("name (place)\ndef name(): ...") == "name (place)\ndef name(): ...\n"
    assert short_form("open (a.ts)\nfunction open() {\n  const file = readAll()\n}").endswith(
        "\nread all file"
    )


# --- queries ----------------------------------------------------------------------------------------


def test_counts_kinds_and_splits(data):
    _, splits = small_code_base()
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 6, 20)
    for name in ("train", "validation", "test"):
        assert {splits.split_of[q.path] for q in getattr(data, name)} == {name}
    assert {q.kind for q in data.test} == {"docstring_sentence", "how_to", "paraphrase", "where_is"}
    assert len({next(iter(q.relevant)) for q in data.test}) == 20
    assert len({q.id for q in data.train + data.validation + data.test}) == 56
    assert set(data.train_documents) == {d.id for d in data.documents if splits.split_of[d.path] == "train"}


def test_training_queries_are_reworded_and_no_rewording_is_asked_elsewhere(data):
    assert set(data.rewordings) == {q.id for q in data.train}
    elsewhere = {q.text for q in data.validation + data.test}
    for query in data.train:
        texts = data.rewordings[query.id]
        assert query.text not in texts
        assert not set(texts) & elsewhere
    assert data.report["rewordings"] == sum(map(len, data.rewordings.values())) >= len(data.train)


def test_same_seed_same_queries_other_seed_others(data):
    again = build_retrieval_data(*small_code_base(), SETTINGS, seed=3)
    assert again == data
    other = build_retrieval_data(*small_code_base(), SETTINGS, seed=4)
    assert [q.id for q in other.test] != [q.id for q in data.test]


def test_order_of_functions_does_not_choose_the_queries(data):
    functions, splits = small_code_base()
    again = build_retrieval_data(functions[::-1], splits, SETTINGS, seed=3)
    assert again.test == data.test


def test_equal_sentences_and_equal_code_are_all_relevant():
    functions, splits = small_code_base()
    twin = function("pkg/maps.py", "twin", "Shared words that say the same thing.", "return 1")
    same_words = function("pkg/wheels.py", "other", "Shared words that say the same thing.", "return 2")
    same_code = dataclasses.replace(twin, id="pkg/wheels.py::copy", path="pkg/wheels.py", docstring="")
    everyone = [*functions, twin, same_words, same_code]
    wanted = dataclasses.replace(SETTINGS, test_queries=1000)
    data = build_retrieval_data(everyone, splits, wanted, seed=3)
    asked = [q for q in data.test if "pkg/maps.py::twin" in q.relevant]
    assert asked
    assert all(
        set(q.relevant) == {"pkg/maps.py::twin", "pkg/wheels.py::other", "pkg/wheels.py::copy"} for q in asked
    )
    assert data.report["several_relevant"]["test"] == len(asked)


def test_a_sentence_in_two_splits_asks_in_neither():
    functions, splits = small_code_base()
    pair = [
        function(path, "same", "Words that stand in two places.") for path in ("pkg/apples.py", "pkg/maps.py")
    ]
    wanted = dataclasses.replace(SETTINGS, train_pairs=1000, test_queries=1000)
    data = build_retrieval_data(functions + pair, splits, wanted, seed=3)
    assert not [q for q in data.train + data.test if "::same" in q.id]
    name = "no function of another split has the same sentence"
    dropped = data.report["filters"][name]
    assert dropped["in"] - dropped["out"] == 2
    assert [row["function"] for row in data.report["rejected_examples"][name]] == [f.id for f in pair]


def test_excluded_functions_ask_nothing_but_stay_documents(data):
    functions, splits = small_code_base()
    out = {f.id: "near-duplicate" for f in functions if f.name.startswith("count_")}
    kept = build_retrieval_data(functions, Splits(splits.split_of, out), SETTINGS, seed=3)
    asking = {next(iter(q.relevant)) for q in kept.train + kept.validation + kept.test}
    assert not asking & set(out)
    assert set(out) <= {d.id for d in kept.documents}


def test_a_sentence_repeated_as_a_comment_in_the_code_does_not_ask():
    functions, splits = small_code_base()
    words = "Gathers seventeen unusual pebbles"
    leaky = function("pkg/maps.py", "leaky", words + ".", f"# {words.lower()}\n    return 5")
    data = build_retrieval_data(
        [*functions, leaky], splits, dataclasses.replace(SETTINGS, test_queries=999), seed=3
    )
    assert not [q for q in data.test if "leaky" in q.id]


def test_leaks_raise_with_ids(data):
    _, splits = small_code_base()
    stolen = dataclasses.replace(data.test[0], id="how_to/stolen")
    with pytest.raises(RetrievalDataError, match="how_to/stolen"):
        check_leaks({"train": (*data.train, stolen), "test": ()}, data.documents, splits)
    with pytest.raises(RetrievalDataError, match="leak"):
        check_leaks({"train": data.train, "test": (*data.test, data.train[0])}, data.documents, splits)
    told = dataclasses.replace(
        data.documents[0], text=data.documents[0].text + "# says exactly this thing here"
    )
    asking = dataclasses.replace(data.train[0], text="Says exactly this thing here", relevant={told.id: 1})
    with pytest.raises(RetrievalDataError, match="leak"):
        check_leaks({"train": [asking]}, [told], splits)


def test_a_short_corpus_uses_several_kinds_per_function():
    data = build_retrieval_data(*small_code_base(), dataclasses.replace(SETTINGS, test_queries=40), seed=3)
    assert len(data.test) == 40
    assert data.report["functions_asking"]["test"] == 24


def test_too_few_docstrings_say_how_many_are_missing():
    functions, splits = small_code_base()
    bare = [dataclasses.replace(f, docstring="") for f in functions]
    with pytest.raises(InsufficientDataError, match="only 0 functions in train"):
        build_retrieval_data(bare, splits, SETTINGS, seed=3)


NOUNS = ("файл", "каталог", "заказ", "склад", "отчёт", "счёт", "клиент", "письмо", "строка", "таблица")
DEEDS = ("Возвращает", "Удаляет", "Сортирует", "Проверяет")
CHINESE = ("删除", "排序", "合并", "检查")


def in_other_letters(line: str, comment: str = "") -> tuple[list, Splits]:
    """Return functions documented by `line`, filled with words of another alphabet, and their splits."""
    functions = [
        function(f"pkg/m{n}.py", f"f{n}_{d}", line.format(deed=deed, chinese=CHINESE[d], noun=noun, n=n),
                 comment.format(deed=deed.lower(), noun=noun) + "return x")
        for n, noun in enumerate(NOUNS) for d, deed in enumerate(DEEDS)
    ]  # fmt: skip
    names = ["train"] * 6 + ["validation"] + ["test"] * 3
    return functions, Splits({f"pkg/m{n}.py": name for n, name in enumerate(names)})


@pytest.mark.parametrize(
    "line", ["{deed} {noun} по дате создания.", "{chinese}第{n}个文件里的所有空行。之后结束。"]
)
def test_docstrings_in_other_letters_ask(line):
    functions, splits = in_other_letters(line)
    data = build_retrieval_data(functions, splits, SETTINGS, seed=3)
    assert (len(data.train), len(data.test)) == (24, 12)
    assert {query.text for query in data.test} <= {first_sentence(f.docstring) for f in functions}
    assert all(query.name_overlap < 1 for query in data.test)


def test_a_sentence_in_other_letters_that_stands_in_the_code_does_not_ask():
    functions, splits = in_other_letters("{deed} {noun} по дате.", "# {deed} {noun} по дате\n    ")
    name = "the sentence does not stand in the function's code"
    with pytest.raises(InsufficientDataError, match=f"{name}.* drops most: 0 of 40 pass"):
        build_retrieval_data(functions, splits, SETTINGS, seed=3)


def test_a_leak_in_other_letters_is_found():
    functions, splits = in_other_letters("{deed} {noun} по дате создания вместе с подписью.")
    data = build_retrieval_data(functions, splits, SETTINGS, seed=3)
    query = data.train[0]
    told = [
        dataclasses.replace(d, text=f"{d.text}# {query.text}") if d.id in query.relevant else d
        for d in data.documents
    ]
    with pytest.raises(RetrievalDataError, match="1 queries leak"):
        check_leaks({"train": data.train}, told, splits)


def test_the_short_form_keeps_words_of_other_letters():
    text = document_text(function("pkg/a.py", "größe_ändern", "", "# 计算 удалить नाम\n    return zählen(x)"))
    assert text.startswith("größe ändern (a)")
    assert short_form(text).split("\n")[2] == "zählen 计算 удалить नाम"


def test_shuffled_pairs_keep_texts_and_break_every_pair(data):
    control = shuffled_pairs(data, seed=1)
    assert [q.text for q in control.train] == [q.text for q in data.train]
    assert sorted(map(str, (q.relevant for q in control.train))) == sorted(
        str(q.relevant) for q in data.train
    )
    assert not any(a.relevant == b.relevant for a, b in zip(control.train, data.train, strict=True))
    assert control.test == data.test
    assert control == shuffled_pairs(data, seed=1)


def test_the_report_is_plain_and_adds_up(data, tmp_path):
    write_json(tmp_path / "report.json", data.report)
    filters = list(data.report["filters"].values())
    assert all(a["out"] == b["in"] for a, b in itertools.pairwise(filters))
    assert filters[0]["in"] == data.report["documents"] == 80
    assert sum(data.report["by_kind"]["test"].values()) == data.report["drawn"]["test"] == 20
