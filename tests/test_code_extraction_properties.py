"""Properties of code extraction: wrapped code comes out unchanged, and nothing else comes out."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.code.extraction import answered_line, defines, extract_code, is_code
from helpers.code.fences import fenced_blocks, without_blocks

CODES = [
    "def f(x):\n    return x + 1\n",
    "import math\n\n\ndef f(x):\n    return math.sqrt(x)\n",
    "LIMIT = 3\n\n\ndef f(x):\n    return min(x, LIMIT)\n",
    "# adds one\n@cache\ndef f(x):\n    # not two\n    return x + 1\n",
    'def f(x):\n    """Say so.\n\n    ```python\n    f(1)\n    ```\n    """\n    return x\n',
    'def f(x):\n    text = """a\n   \n\n  b\x0cc"""\n    return text + x\n',
    "def f(x):\n    return '\u2028' + x\n\n\ndef g(x):\n    return f(x)\n",
    "class f:\n    def __init__(self, x):\n        self.x = x\n\n    def go(self):\n        return ~~~self.x\n",
    "async def f(x):\n    if x:\n\n        return [\n            1,\n        ]\n    return x\n",
    "f = lambda x: x + 1\n",
    "def f(x):\n    return '```'\n",
]
PROSE = [
    "Sure! Here is the corrected function:",
    "Done",
    "This adds one to `x`, and returns it.",
    "if you want, it can be shorter",
    "from the graph we take the nodes",
    "class of problems: easy",
    "- first point",
    "1. Step one:",
    "It runs in O(n).",
    "for example, f(1) is 2",
    "with this change the tests pass",
    "Note that `f(x)` is called once",
    "Yes",
]
OTHER_BLOCKS = [
    "```bash\npip install numpy\n```",
    "```text\n2\n```",
    '```json\n{"a": 1}\n```',
    "~~~output\n3\n~~~",
]
TAGS = [
    "",
    "python",
    "py",
    "Python",
    "python3",
    'python title="a.py"',
    " python",
    "{.python}",
    "python:main.py",
]
CODE = st.sampled_from(CODES)
CHATTER = st.lists(st.sampled_from(PROSE), max_size=4)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def text_of(parts):
    return "\n\n".join(part for part in parts if part)


@MANY
@given(
    CODE, CHATTER, CHATTER, st.sampled_from(["```", "````", "~~~", "`````"]), st.sampled_from(TAGS), st.data()
)
def test_fenced_code_is_extracted_unchanged(code, before, after, fence, tag, data):
    margin = data.draw(st.sampled_from(["", "", "   ", "\t"]))
    closing = data.draw(st.sampled_from([fence, fence, fence + " ", f"<|im_end|>\n{fence}"]))
    block = f"{fence}{tag}\n{code}{closing}"
    if margin:
        if '"""' in code:
            margin = ""  # inside a string, a margin cannot be distinguished from the string's own
        block = "\n".join(margin + line for line in block.split("\n"))
    others = data.draw(st.lists(st.sampled_from(OTHER_BLOCKS), max_size=2))
    answer = text_of([*before, *others, block, *after])
    if data.draw(st.booleans()):
        answer = answer.replace("\n", "\r\n")
    assert extract_code(answer, entry_point="f") == code


@MANY
@given(st.sampled_from([c for c in CODES if not c.startswith("f =")]), CHATTER, CHATTER, st.booleans())
def test_code_among_chatter_is_extracted_unchanged(code, before, after, unclosed):
    if unclosed:
        answer = text_of([*before, f"```python\n{code}"])
    else:
        answer = text_of([*before, code, *after])
    assert extract_code(answer, entry_point="f") == code


@MANY
@given(st.lists(st.sampled_from(PROSE), min_size=1, max_size=6), st.sampled_from([*OTHER_BLOCKS, ""]))
def test_prose_yields_no_code(prose, other):
    assert extract_code(text_of([*prose, other])) is None


@MANY
@given(CODE, st.booleans(), st.data())
def test_a_truncated_answer_yields_complete_lines_or_nothing(code, fenced, data):
    answer = f"```python\n{code}```" if fenced else code
    cut = answer[: data.draw(st.integers(0, len(answer)))]
    found = extract_code(cut, entry_point="f")
    assert found is None or is_code(found)
    if found is not None and defines(found, "f"):
        assert code.startswith(found.rstrip("\n"))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="`~ \n\rdefx():+1=#'\"python\t<|im_end>", max_size=120))
def test_extraction_never_crashes_and_its_result_parses(answer):
    found = extract_code(answer, entry_point="f")
    assert found is None or is_code(found)
    without_blocks(answer)
    answered_line(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Here: ```python\ndef f(x):\n    return x\n```",
        "```python\ndef f(x):\n    return x```",
        "```python\ndef f(x):\n    return x\n````",
        "<|im_start|>assistant\n```python\ndef f(x):\n    return x\n```<|im_end|>",
        "```pycon\n>>> def f(x):\n...     return x\n>>> f(1)\n```".replace("\n>>> f(1)", ""),
        "def f(x):\n    return x\n\nDone",
        "Answer\n\ndef f(x):\n    return x\n\n\nThat is all",
    ],
)
def test_odd_fences_and_bare_words(answer):
    assert extract_code(answer, entry_point="f") == "def f(x):\n    return x\n"


def test_a_comment_between_a_bare_word_and_the_code_is_kept():
    code = "# adds one\n@cache\ndef f(x):\n    return x + 1\n"
    assert extract_code(f"Done\n\n{code}", entry_point="f") == code
    assert extract_code(f"Done\n\nYes\n\n{code}", entry_point="f") == code
    assert extract_code("Done; x = 1\n") == "Done; x = 1\n"


def test_definitions_missing_from_one_block_come_from_another():
    answer = "```python\nfrom math import sqrt\n```\nThen\n```python\ndef f(x):\n    return sqrt(x)\n```"
    assert extract_code(answer, entry_point="f") == "from math import sqrt\n\ndef f(x):\n    return sqrt(x)\n"
    unrelated = answer.replace("import sqrt", "import floor")
    assert extract_code(unrelated, entry_point="f") == "def f(x):\n    return sqrt(x)\n"
    usage = "```python\ndef f(x):\n    return g(x)\n```\n```python\ng = f(2)\nprint(g)\n```"
    assert extract_code(usage, entry_point="f") == "def f(x):\n    return g(x)\n"


def test_a_long_answer_that_never_parses_is_abandoned_quickly():
    assert extract_code("def f(:\n    x = (\n" * 1500) is None
    assert extract_code("\n".join(f"def f{i}(x): return ((" for i in range(2000))) is None


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("return a + b", "return a + b"),
        ("  return a + b\n\nmore", "return a + b"),
        ("`return a + b`", "return a + b"),
        ("The corrected line is:\n```python\n    return a + b\n```", "return a + b"),
        ("```\nreturn a + b\n```\nThis adds.", "return a + b"),
        ("return a + b<|im_end|>", "return a + b"),
        ("", ""),
        ("```python\n```", "```python"),
    ],
)
def test_the_answered_line_is_found(answer, line):
    assert answered_line(answer) == line


def test_blocks_and_the_text_outside_them():
    text = "a\n```python\nx = 1\n```\nb\n~~~\ny\n~~~"
    assert [(b.tag, b.content, b.closed) for b in fenced_blocks(text)] == [
        ("python", "x = 1", True),
        ("", "y", True),
    ]
    assert without_blocks(text) == "a\nb"
    assert not fenced_blocks("```python\nx = 1")[0].closed
    assert defines("f: int = 1\nf = 2", "f")
