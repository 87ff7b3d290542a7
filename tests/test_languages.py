"""Languages other than Python: functions, doc comments, splits, queries; Track B asks for Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.code.functions import extract_functions, functions_left_out
from helpers.code.languages import GRAMMARS, SUFFIXES, tokens_of
from helpers.code.names.context import NameContext
from helpers.data.card.facts import corpus_facts
from helpers.data.card.page import render_data_card
from helpers.data.corpus import load_corpus
from helpers.data.leaks import check_splits
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.data.splits import split_corpus
from helpers.data.tasks.instruct_data import build_instruct_data
from helpers.errors import InsufficientDataError
from helpers.profiles import SMOKE, RunRequest, resolve_profile
from helpers.records import Function
from helpers.settings import CorpusSettings

ANY_SIZE = CorpusSettings(min_file_bytes=1)

TYPESCRIPT = """\
/** Renders the tree of nodes into a {@link Canvas}. */
export const renderTree = async (root: Node, depth = 0): Promise<void> => {
  // a comment inside stays
  await draw(root);
};

/**
 * Adds two numbers.
 * @param a first
 */
export function add(a: number, b: number): number {
  /** Helps a bit. */
  function helper(c: number) { return c; }
  return helper(a) + b;
}

const unrelated = 1; // trails other code
function bare() { return unrelated; }

export class Store<T> {
  /** Gets a value by its key. */
  async get(key: string): Promise<T> { return this.map[key]; }
  handler = (event: Event) => { this.seen.push(event); };
  declared(): void;
}
"""
GO = """\
package stack

// Push puts a value on top of the stack
// and returns its new size.
func (s *Stack) Push(value int, more ...string) int {
	s.items = append(s.items, value)
	return len(s.items)
}

func New() *Stack { return &Stack{} }
"""
JAVA = """\
package a;
public class Stack<T> {
    /**
     * Pushes an item onto the stack.
     */
    @Override
    public int push(T item) { return items.size(); }
    interface Inner { void nothing(); }
}
"""
RUST = """\
/// Computes the sum of all values.
///
/// More about it.
#[inline]
pub fn total<'a>(values: &'a [i32], start: i32) -> i32 { start }

impl<T> Stack<T> {
    /// Removes the top item.
    pub async fn pop(&mut self) -> Option<T> { self.items.pop() }
}
"""
C = """\
#include <stdio.h>
/* Counts the nodes of a linked list. */
static int *count_nodes(struct node *head, int limit)
{
    return 0;
}
"""
CPP = """\
namespace geo {
/// Computes the length of a vector.
template <typename T>
T length(const Vec<T>& v, int n) { return v.norm(); }
class Box {
 public:
  // Grows the box by a margin.
  Box& grow(double margin) { return *this; }
  int size() const;
};
int Box::size() const { return 3; }
}
"""
JAVASCRIPT = """\
class Queue {
  // Takes the first item.
  take() { return this.items.shift(); }
  static #hidden(x, {y, z}, ...rest) { return x; }
}
const twice = (x) => 2 * x;
module.exports = { Queue };
"""
FILES = {
    "web/custom_file.ts": TYPESCRIPT, "go/stack.go": GO, "java/Stack.java": JAVA, "rs/lib.rs": RUST,
    "c/list.c": C, "c/vec.hpp": CPP, "web/queue.js": JAVASCRIPT, "web/view.tsx": "export const View = () => <p>Hi</p>;\n",
}  # fmt: skip


def put(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture(scope="module")
def functions(tmp_path_factory) -> dict[str, Function]:
    folder = put(tmp_path_factory.mktemp("mixed"), FILES)
    corpus = load_corpus(f"path:{folder}", ANY_SIZE)
    assert corpus.rejected == ()
    return {function.id: function for function in extract_functions(corpus)}


def test_functions_of_every_language_with_their_names_and_parameters(functions) -> None:
    assert {name: f.parameters for name, f in functions.items()} == {
        "c/list.c::count_nodes": ("head", "limit"),
        "c/vec.hpp::geo.length": ("v", "n"),
        "c/vec.hpp::geo.Box.grow": ("margin",),
        "c/vec.hpp::geo.Box.size": (),
        "go/stack.go::Stack.Push": ("value", "more"),
        "go/stack.go::New": (),
        "java/Stack.java::Stack.push": ("item",),
        "rs/lib.rs::total": ("values", "start"),
        "rs/lib.rs::Stack.pop": ("self",),
        "web/custom_file.ts::renderTree": ("root", "depth"),
        "web/custom_file.ts::add": ("a", "b"),
        "web/custom_file.ts::add.helper": ("c",),
        "web/custom_file.ts::bare": (),
        "web/custom_file.ts::Store.get": ("key",),
        "web/custom_file.ts::Store.handler": ("event",),
        "web/queue.js::Queue.take": (),
        "web/queue.js::Queue.hidden": ("x", "y", "rest"),
        "web/queue.js::twice": ("x",),
        "web/view.tsx::View": (),
    }
    assert {f.language for f in functions.values()} == set(GRAMMARS)
    assert set(GRAMMARS) == set(SUFFIXES.values()) - {"python"}


def test_doc_comments_become_docstrings_and_leave_the_code(functions) -> None:
    said = {name.partition("::")[2]: f.docstring for name, f in functions.items() if f.docstring}
    assert said == {
        "count_nodes": "Counts the nodes of a linked list.",
        "geo.length": "Computes the length of a vector.",
        "geo.Box.grow": "Grows the box by a margin.",
        "Stack.Push": "Push puts a value on top of the stack\nand returns its new size.",
        "Stack.push": "Pushes an item onto the stack.",
        "total": "Computes the sum of all values.\n\nMore about it.",
        "Stack.pop": "Removes the top item.",
        "renderTree": "Renders the tree of nodes into a Canvas.",
        "add": "Adds two numbers.\n@param a first",
        "add.helper": "Helps a bit.",
        "Store.get": "Gets a value by its key.",
        "Queue.take": "Takes the first item.",
    }
    add = functions["web/custom_file.ts::add"]
    assert "Helps" not in add.code
    assert "Adds" not in add.code
    assert add.source.startswith("/**\n * Adds two numbers.")
    assert add.code.startswith("export function add(")
    assert (add.start_line, add.end_line) == (11, 15)
    assert "// a comment inside stays" in functions["web/custom_file.ts::renderTree"].code


def test_methods_inner_and_async_functions_are_distinguished(functions) -> None:
    kinds = {
        name.partition("::")[2]: (f.is_method, f.is_nested, f.is_async)
        for name, f in functions.items()
        if f.is_method or f.is_nested or f.is_async
    }
    assert kinds == {
        "geo.Box.grow": (True, False, False), "geo.Box.size": (True, False, False),
        "Stack.Push": (True, False, False), "Stack.push": (True, False, False),
        "Stack.pop": (True, False, True), "renderTree": (False, False, True),
        "add.helper": (False, True, False), "Store.get": (True, False, True),
        "Store.handler": (True, False, False), "Queue.take": (True, False, False),
        "Queue.hidden": (True, False, False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("a.go", "package a\n\nvar x = 1\n", "no function or class"),
        ("a.rs", "this is {{ no ))) rust at all, whatever\n" * 9, "does not parse"),
        ("a.js", "function f() { return 1 }\n//" + "x" * 500, "minified"),
        ("a.c", "/* Generated by lemon. */\nint f(void) { return 1; }\n", "generated"),
        ("a.ts", "// @generated\nfunction f() { return 1 }\n", "generated"),
        ("a.java", b"class A { int f() { return '\xff'; } }".decode("latin-1"), "unknown encoding"),
        ("node_modules/x/a.js", "function f() { return 1 }\n", "vendored"),
    ],
)
def test_unusable_files_are_left_out(tmp_path, path, text, reason) -> None:
    put(tmp_path, {"ok.py": "def f():\n    return 1\n", path: ""})
    (tmp_path / path).write_bytes(text.encode("latin-1"))
    (refused,) = load_corpus(f"path:{tmp_path}", ANY_SIZE).rejected
    assert refused.reason == reason


def test_a_function_with_a_syntax_error_is_left_out_but_its_file_is_kept(tmp_path) -> None:
    good = "\n".join(f"int good_{i}(int a) {{ return a + {i}; }}" for i in range(20))
    put(tmp_path, {"a.c": good + "\nint bad(int a) { return a ++ ++ ( ; }\n"})
    names = [f.name for f in extract_functions(load_corpus(f"path:{tmp_path}", ANY_SIZE))]
    assert names[:2] == ["good_0", "good_1"]
    assert "bad" not in names


def test_a_deeply_nested_file_is_parsed(tmp_path) -> None:
    deep = "function f() { return " + "(" * 3000 + "1" + ")" * 3000 + "; }\n"
    put(tmp_path, {"a.js": deep, "b.js": "/** Does a thing. */\nfunction g() { return 1; }\n"})
    corpus = load_corpus(f"path:{tmp_path}", CorpusSettings(min_file_bytes=1, max_line_chars=10_000))
    assert {f.name for f in extract_functions(corpus)} == {"f", "g"}


def test_tokens_omit_comments_and_mark_names() -> None:
    tokens = tokens_of('const x = f("a b"); // note', "javascript")
    assert [t.text for t in tokens] == ["const", "x", "=", "f", "(", '"a b"', ")", ";"]
    assert [t.text for t in tokens if t.is_name] == ["x", "f"]


def module(language: str, number: int) -> str:
    """Return a file of three documented functions whose code differs from every other file's."""
    words = ["merge", "filter", "encode", "parse"]
    parts = []
    for place in range(3):
        name = f"{words[(number + place) % 4]}Part{number}x{place}"
        doc = f"Converts the record number {number} at place {place} into an unusual form."
        values = ", ".join(str((number * 37 + place * 11 + i) ** 2) for i in range(12))
        if language == "go":
            parts.append(f"// {doc}\nfunc {name}(record int) []int {{ return []int{{{values}, record}} }}\n")
        else:
            parts.append(f"/** {doc} */\nexport function {name}(record) {{ return [{values}, record]; }}\n")
    return ("package a\n\n" if language == "go" else "") + "\n".join(parts)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    files = {f"web/file_{n}.ts": module("typescript", n) for n in range(30)}
    files |= {f"go/part_{n}.go": module("go", n + 50) for n in range(10)}
    twin = (
        "export function twin{n}(a) {{ const b = a * 31; const c = b + a - 7; return [a, b, c, b * c]; }}\n"
    )
    files["web/file_0.ts"] += twin.format(n=0)
    files["web/file_1.ts"] += twin.format(n=0)
    files["web/file_2.ts"] += twin.replace("b", "q").format(n=9)
    corpus = load_corpus(f"path:{put(tmp_path_factory.mktemp('foreign'), files)}", ANY_SIZE)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, ANY_SIZE, 3)
    return corpus, functions, splits


def test_splits_hold_out_files_and_drop_duplicates(foreign) -> None:
    corpus, functions, splits = foreign
    report = check_splits(corpus, functions, splits, ANY_SIZE)
    assert all(report.files.values())
    sides = {path: splits.split_of[path] for path in ("web/file_0.ts", "web/file_1.ts", "web/file_2.ts")}
    twins = [f for f in functions if f.name.startswith("twin")]
    kept = {sides[f.path] for f in twins if f.id not in splits.excluded_functions}
    assert len(twins) == 3
    assert len(kept) == 1  # equal code, and code that is equal but for names, stays in one split


def test_queries_ask_for_functions_and_name_files(foreign) -> None:
    _, functions, splits = foreign
    data = build_retrieval_data(functions, splits, SMOKE.track_c, 3)
    head = next(d.text for d in data.documents if d.path == "go/part_0.go").splitlines()[0]
    assert head == "encode part 50 x 0 (go/part_0.go)"
    assert not any("Converts the record" in document.text for document in data.documents)
    every = [query for side in (data.train, data.validation, data.test) for query in side]
    by_file = [query for query in every if query.kind == "file_location"]
    assert by_file
    assert len(by_file) <= 0.1 * len(every)
    for query in by_file:
        assert Path(query.path).name in query.text
        assert set(query.relevant) == {f.id for f in functions if f.path == query.path}
    assert len(every) == len(by_file) + sum("::" in query.id for query in every)


def test_track_b_says_that_it_needs_python(foreign) -> None:
    corpus, functions, splits = foreign
    with pytest.raises(
        InsufficientDataError, match=r"needs Python functions.*30 files of typescript, 10 files of go"
    ):
        build_instruct_data(functions, splits, corpus, SMOKE.track_b, 1, tokenizer=None, workers=1)
    assert NameContext.from_functions(functions, "", corpus.files).modules == {}


def test_the_card_counts_languages(foreign) -> None:
    corpus, functions, splits = foreign
    assert corpus_facts(corpus, functions, splits)["source"]["languages"] == "typescript 30, go 10"


def test_settings_choose_languages_and_patterns(tmp_path) -> None:
    put(tmp_path, {**FILES, "a.py": "def f():\n    return 1\n"})
    chosen = resolve_profile(
        RunRequest("smoke", changed_settings=("corpus.languages=python|go", "corpus.min_file_bytes=1"))
    ).corpus
    corpus = load_corpus(f"path:{tmp_path}", chosen)
    assert [file.path for file in corpus.files] == ["a.py", "go/stack.go"]
    assert {(file.reason, file.detail) for file in corpus.rejected} == {
        ("language not wanted", name) for name in ("c++", "java", "javascript", "rust", "typescript")
    }


MACROS = """#define ADD x += 1;
#define EXPORT __attribute__((visibility("default")))

/** Adds four. */
void add_four(int x) {
   {
      ADD ADD ADD
      ADD
   }
}

/** Exported. */
EXPORT
void exported(int y) {
   int z = y + 1;
}

/** Kernel style. */
static int __init start_up(void)
{
  FOREACH(i, 3) {
    run(i);
  }
  return 0;
}

int spread(FILE *of, CONST void *desc)
{
  return 1;
}

/** Torn. */
int torn(int a) {
  return a +* / 2 ];
}

int whole(int a) { return a; }
"""


@pytest.mark.parametrize("suffix", ["c", "cpp"])
def test_functions_beside_macros_are_taken_and_torn_ones_listed(tmp_path, suffix) -> None:
    corpus = load_corpus(f"path:{put(tmp_path, {f'm.{suffix}': MACROS})}", ANY_SIZE)
    found = {function.name: function for function in extract_functions(corpus)}
    assert list(found) == ["add_four", "exported", "start_up", "spread", "whole"]
    assert found["add_four"].docstring == "Adds four."
    assert (
        found["start_up"].code
        == MACROS[MACROS.index("static int") : MACROS.index("int spread")].rstrip() + "\n"
    )
    assert found["spread"].parameters == ("of", "desc")
    (left_out,) = functions_left_out(corpus)
    assert (left_out.id, left_out.reason) == (f"m.{suffix}::torn", "syntax error")
    assert left_out.detail.startswith("line 34, as ")


def test_methods_of_a_class_behind_a_macro_are_methods_of_that_class(tmp_path) -> None:
    text = """class SHOP_API Plain {
  int two() { return 2; }
};
struct SHOP_API(3) Other : public base::Box {
  /** Counts the items. */
  int count(int from) const { return items - from; }
};
"""
    corpus = load_corpus(f"path:{put(tmp_path, {'m.hpp': text})}", ANY_SIZE)
    found = {f.qualname: (f.is_method, f.is_nested) for f in extract_functions(corpus)}
    assert found == {"Plain.two": (True, False), "Other.count": (True, False)}
    assert functions_left_out(corpus) == ()


def test_code_that_hides_functions_from_the_grammar_is_listed(tmp_path) -> None:
    fine = "".join(f"func Fine{n}(a int) int {{ return a + {n} }}\n" for n in range(9))
    text = "package a\n" + fine + "func (((( broken(x) { x } }\n"
    corpus = load_corpus(f"path:{put(tmp_path, {'a.go': text})}", ANY_SIZE)
    assert {f.name for f in extract_functions(corpus)} >= {f"Fine{n}" for n in range(9)}
    (hidden,) = functions_left_out(corpus)
    assert (hidden.id, hidden.reason) == ("a.go", "beyond the grammar, may hold functions")
    assert hidden.detail == "line 11, as go"


def test_functions_left_out_stand_in_the_data_card(tmp_path) -> None:
    corpus = load_corpus(f"path:{put(tmp_path, {'m.c': MACROS})}", ANY_SIZE)
    functions = extract_functions(corpus)
    facts = corpus_facts(corpus, functions, split_corpus(corpus, functions, ANY_SIZE, 0))
    (row,) = facts["functions_left_out"]
    assert (row["reason"], row["functions"]) == ("syntax error", 1)
    card = render_data_card({"corpus": facts})
    assert "## Functions left out" in card
    assert "m.c::torn" in card


BEYOND_THE_GRAMMARS = {  # valid code that the released grammars read wrongly -> the function in it
    "a.c": [
        ("char *name_of(a, b)\nint a; char *b;\n{\n  return b + a;\n}\n", "name_of"),
        ("int twice(int a)\n{\n  typeof(1) x = a;\n  return x * 2;\n}\n", "twice"),
    ],
    "a.ts": [
        ("export class Box<in out T> {\n  get(x: T): T { return x; }\n}\n", "get"),
        ("export type * from './types';\n", ""),
        ("export function used(): number {\n  using x = open();\n  return x.n;\n}\n", "used"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "function"), [
    (name, *case) for name, cases in BEYOND_THE_GRAMMARS.items() for case in cases
])  # fmt: skip
def test_what_a_grammar_reads_wrongly_is_taken_or_listed_and_its_neighbours_stay(
    tmp_path, name, text, function
) -> None:
    kind = "int " if name.endswith(".c") else "export function "
    before, after = (
        f"/** Gives one. */\n{kind}{which}() {{\n  return 1;\n}}\n" for which in ("first", "last")
    )
    (tmp_path / name).write_text(f"{before}{text}{after}")
    corpus = load_corpus(f"path:{tmp_path}", ANY_SIZE)
    names = [one.name for one in extract_functions(corpus)]
    assert [one for one in names if one != function] == ["first", "last"]
    assert not function or function in names or len(functions_left_out(corpus)) == 1
