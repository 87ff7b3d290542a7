"""BM25 over functions: how names split into terms, which text is indexed, saving and loading."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data.queries.letters import same_form
from helpers.data.queries.wording import name_words
from helpers.eval.lexical import build_lexical_index, load_lexical_index, save_lexical_index, search_terms
from helpers.eval.ranking import ranking
from helpers.records import Document, Query

DOCUMENTS = [
    Document("a", "shortest path (graph)\ndef shortest_path(G):\n    return walk(G)\n", "a.py"),
    Document("b", "color nodes (graph)\ndef color_nodes(G):\n    return paint(G, paint, paint)\n", "b.py"),
    Document("c", "remove edge (graph)\ndef remove_edge(G):\n    return cut(G)\n", "c.py"),
]


def test_search_terms_split_names():
    assert search_terms("to_undirected(MultiGraph)") == [
        "to_undirected", "to", "undirected", "multigraph", "multi", "graph",
    ]  # fmt: skip
    assert search_terms("x1 == HTTPServer") == ["x1", "x", "1", "httpserver", "http", "server"]


def test_name_parts_are_found_and_every_document_is_scored():
    queries = [
        Query("q1", "the shortest path", "how_to", {"a": 1}, "a.py", 0.0),
        Query("q2", "unknown wordsalad", "how_to", {"b": 1}, "b.py", 0.0),
    ]
    run = build_lexical_index(DOCUMENTS).run(queries)
    assert ranking(run["q1"])[0] == "a"
    assert set(run["q1"]) == {"a", "b", "c"}
    assert set(run["q2"].values()) == {0.0}


def test_a_word_of_the_body_counts_once_however_often_it_occurs():
    once = Document("b", DOCUMENTS[1].text.replace("paint(G, paint, paint)", "paint(G)"), "b.py")
    said = build_lexical_index(DOCUMENTS).scores("paint")
    assert said[1] > 0
    assert said[0] == said[2] == 0
    assert np.array_equal(said, build_lexical_index([DOCUMENTS[0], once, DOCUMENTS[2]]).scores("paint"))


@pytest.mark.parametrize("question", ["", "?!", "the of", "nowhere", "\0"])
@pytest.mark.parametrize("texts", [["...", "+"], ["...", "def walk(): pass"], ["", ""]])
def test_a_query_or_a_document_without_words_scores_nothing(tmp_path, question, texts):
    """bm25s refuses documents without any word, and an empty query under one of its backends."""
    index = build_lexical_index([Document(str(n), text, "a.py") for n, text in enumerate(texts)], str)
    save_lexical_index(index, tmp_path)
    for one in (index, load_lexical_index(tmp_path)):
        assert one.scores(question).tolist() == [0.0, 0.0]
        assert one.run([Query("q", question, "how_to", {"0": 1}, "a.py", 0.0)]) == {"q": {"0": 0.0, "1": 0.0}}


def test_stop_words_are_ignored():
    assert (
        not build_lexical_index([Document("a", "the and of\nx", "a.py"), *DOCUMENTS]).scores("the of").any()
    )


def test_a_loaded_index_gives_the_same_scores(tmp_path):
    index = build_lexical_index(DOCUMENTS)
    save_lexical_index(index, tmp_path / "words")
    again = load_lexical_index(tmp_path / "words")
    assert again.ids == index.ids
    for question in ("shortest path", "paint the nodes", "nothing known"):
        assert np.array_equal(again.scores(question), index.scores(question))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("größe_ändern", ["größe_ändern", "größe", "ändern"]),
        ("ÄußereGröße", ["äußeregröße", "äußere", "größe"]),
        ("Возвращает файл", ["возвращает", "файл"]),
        ("e\u0301tat", ["état"]),  # a mark apart from its letter
        ("मूल्य लौटाता", ["मूल्य", "लौटाता"]),
        ("قيمة الملف", ["قيمة", "الملف"]),
        ("二分木", ["二分", "分木"]),
        ("木", ["木"]),
        ("计算2个值ABC", ["计算", "2", "个值", "abc"]),
        ("สิน", ["สิ", "ิน"]),
        ("파일 이름", ["파일", "이름"]),
    ],
)
def test_terms_keep_the_letters_of_every_alphabet(text, terms):
    assert search_terms(text) == terms


@given(st.text(max_size=40))
def test_no_letter_is_lost(text):
    kept = set("".join(search_terms(text)))
    letters = {c for c in same_form(text).lower() if c.isalpha()}
    assert letters <= kept


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_ascii_terms_are_what_they_were(text):
    words = re.findall(r"[A-Za-z_][A-Za-z0-9_]*|\d+", text)
    parts = [re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", word) for word in words]
    expected = [[w, *p] if len(p) > 1 else p or [w] for w, p in zip(words, parts, strict=True)]
    assert search_terms(text) == [term.lower() for terms in expected for term in terms]


@given(st.text(max_size=40))
def test_a_repeated_question_finds_the_document_that_holds_it(text):
    assert search_terms(text) == search_terms(same_form(text))
    assert name_words(text) == name_words(same_form(text))


@pytest.mark.parametrize(
    ("comment", "question"),
    [
        ("удаляет пустые строки", "пустые строки"),
        ("ändert die größe", "größe ändern"),
        ("计算二分木的高度", "二分木"),
        ("ราคาสินค้าทั้งหมด", "สินค้า"),
    ],
)
def test_a_function_is_found_by_words_of_its_own_alphabet(comment, question):
    text = f"f (m)\ndef f(x):\n    # {comment}\n    return x\n"
    scores = build_lexical_index([*DOCUMENTS, Document("own", text, "d.py")]).scores(question)
    assert scores.argmax() == len(DOCUMENTS)
    assert scores[-1] > 0
