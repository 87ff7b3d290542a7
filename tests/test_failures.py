"""Failure cases are drawn by rule, spread over the tracks, and diagnosed from measured figures."""

import random
from collections import Counter

import pytest

from helpers.eval.failures import (
    SELECTION_RULE,
    SHOWN_CHARS,
    FailureError,
    clip,
    select_failures,
    track_a_failures,
    track_c_failures,
)
from helpers.records import Document, Failure


def candidates(**counts):
    return [
        Failure(track, category, f"{track}/{category}/{i:02d}", "in", "want", "got", "why")
        for track, categories in counts.items()
        for category, n in categories.items()
        for i in range(n)
    ]


MANY = candidates(
    track_a={"got worse: prose": 9, "still high: prose": 3},
    track_b={"wrong output": 40, "timeout": 1, "does not parse": 12, "empty answer": 2},
    track_c={"lexical gap": 5, "sibling in the same module": 20},
)


@pytest.mark.parametrize("total", [10, 15, 20])
def test_equal_shares_for_tracks(total):
    chosen = select_failures(MANY, total, seed=1)
    shares = Counter(f.track for f in chosen)
    assert len(chosen) == total
    assert max(shares.values()) - min(shares.values()) <= 1
    assert len({f.item_id for f in chosen}) == total


def test_categories_take_turns_the_most_frequent_first():
    chosen = [f.category for f in select_failures(MANY, 15, seed=1) if f.track == "track_b"]
    assert Counter(chosen) == {"wrong output": 2, "does not parse": 1, "empty answer": 1, "timeout": 1}


def test_a_track_without_failures_passes_its_share_on():
    few = candidates(track_a={"x": 2}, track_c={"lexical gap": 30})
    chosen = select_failures(few, 12, seed=1)
    assert Counter(f.track for f in chosen) == {"track_a": 2, "track_c": 10}
    assert len(select_failures(few[:4], 12, seed=1)) == 4
    assert select_failures([], 12, seed=1) == ()


def test_the_draw_depends_on_the_seed_not_the_order():
    shuffled = MANY.copy()
    random.Random(0).shuffle(shuffled)
    assert select_failures(MANY, 15, seed=4) == select_failures(shuffled, 15, seed=4)
    assert select_failures(MANY, 15, seed=4) != select_failures(MANY, 15, seed=5)


@pytest.mark.parametrize("total", [9, 21])
def test_totals_outside_ten_to_twenty_are_refused(total):
    with pytest.raises(FailureError, match="10 to 20"):
        select_failures(MANY, total, seed=1)


def test_clipping_counts_what_is_missing():
    text = "\n".join(["x" * 49] * 40)
    shown = clip(text)
    body, note = shown.rsplit("\n", 1)
    assert len(body) <= SHOWN_CHARS
    assert text.startswith(body)
    assert note == f"… ({len(text) - len(body):,} more characters)"
    assert clip("short") == "short"
    assert str(SHOWN_CHARS) in SELECTION_RULE


# --- Track A -----------------------------------------------------------------------------------

PLAIN = "def area(width, height):\n    return width * height\n" * 5


def row(path, before, after, text):
    size = len(text.encode())
    return {
        "path": path,
        "n_bytes": size,
        "n_tokens": size // 3,
        "nll_before": before * size * 0.6931471805599453,
        "nll_after": after * size * 0.6931471805599453,
    }


def test_track_a_names_the_feature_that_stands_out():
    texts = {f"plain{i}.py": PLAIN for i in range(6)}
    texts["table.py"] = "rows = [\n" + "    12.5, 11.25, 93.125, 4.5,\n" * 12 + "]\n"
    texts["greek.py"] = "def area(width, height):\n    'η επιφάνεια του ορθογωνίου'\n" * 3
    rows = [row(p, 1.0, 0.8, t) for p, t in texts.items() if p.startswith("plain")]
    rows += [row("table.py", 2.0, 2.1, texts["table.py"]), row("greek.py", 3.0, 2.5, texts["greek.py"])]
    found = {f.item_id: f for f in track_a_failures(rows, texts, [PLAIN])}
    assert set(found) == {"table.py", "greek.py"}
    assert found["table.py"].category.startswith("got worse: ")
    assert found["greek.py"].category == "still high: non-ASCII characters"
    assert "2.000 before, 2.100 after (+0.100)" in found["table.py"].got
    assert "number tables 9" in found["table.py"].diagnosis
    assert "Median of the held-out files: names unseen in training 0%" in found["table.py"].diagnosis


def test_track_a_says_when_nothing_stands_out():
    texts = {f"{i}.py": PLAIN for i in range(8)}
    rows = [row(p, 1.0, 0.8 if p != "3.py" else 1.2, t) for p, t in texts.items()]
    categories = {f.item_id: f.category for f in track_a_failures(rows, texts, [PLAIN])}
    assert categories["3.py"] == "got worse: nothing measured stands out"
    assert track_a_failures([], {}, []) == []


def test_track_a_shows_the_part_with_unseen_names():
    text = PLAIN * 4 + "zeta_quux = frobnicate(zeta_quux)\n" + PLAIN * 4
    rows = [row("a.py", 1.0, 1.5, text), row("b.py", 1.0, 0.9, PLAIN)]
    (failure,) = track_a_failures(rows, {"a.py": text, "b.py": PLAIN}, [PLAIN])
    assert "frobnicate" in failure.input
    assert failure.input.startswith("# from line ")


# --- Track C -----------------------------------------------------------------------------------

DOCUMENTS = [
    Document("a.py::shortest_path", "def shortest_path(G, source):\n    return dijkstra(G)", "a.py"),
    Document("a.py::all_paths", "def all_paths(G, source):\n    return walk(G)", "a.py"),
    Document("b.py::Tree.shortest_path", "def shortest_path(self):\n    return self.best", "b.py"),
    Document("c.py::girth", "def girth(G, cycle):\n    return cycle", "c.py"),
    *(Document(f"d.py::f{i}", f"def f{i}(G):\n    return {i}", "d.py") for i in range(20)),
]


def query(text, right, first, rank=25):
    return {
        "id": "q1",
        "text": text,
        "kind": "how_to",
        "relevant": {right: 1},
        "top3_after": [first, "d.py::f1", "d.py::f2"],
        "rank_before": 40,
        "rank_after": rank,
    }


@pytest.mark.parametrize(
    ("text", "right", "first", "category"),
    [
        ("find a route", "a.py::shortest_path", "b.py::Tree.shortest_path", "same name elsewhere"),
        ("walk the shortest path", "a.py::shortest_path", "a.py::all_paths", "sibling in the same module"),
        ("length of the smallest loop", "c.py::girth", "a.py::all_paths", "lexical gap"),
        ("source of a path", "a.py::shortest_path", "c.py::girth", "outranked despite its words"),
        ("cycle from a source", "a.py::all_paths", "c.py::girth", "ambiguous wording"),
    ],
)
def test_track_c_categories(text, right, first, category):
    (failure,) = track_c_failures([query(text, right, first)], DOCUMENTS)
    assert failure.category == category
    assert "Distinctive words" in failure.diagnosis
    assert "rank 40 before, 25 after" in failure.diagnosis
    assert failure.got.startswith(first)
    assert failure.expected.startswith(right)


def test_track_c_takes_ranks_past_ten():
    def found(rank):
        return track_c_failures([query("x", "c.py::girth", "d.py::f1", rank=rank)], DOCUMENTS)

    assert found(10) == []
    assert len(found(11)) == 1
    assert "none after" in found(None)[0].diagnosis
