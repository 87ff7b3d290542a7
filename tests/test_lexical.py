"""BM25 over functions: how names split into terms, which text is indexed, saving and loading."""

from __future__ import annotations

import numpy as np

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
