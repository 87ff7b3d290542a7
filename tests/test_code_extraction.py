"""Code extraction from answers: fences, chatter, truncation."""

import time

import pytest

from helpers.code.extraction import answered_line, defines, extract_code

CODE = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "response",
    [
        CODE,
        f"```python\n{CODE}```",
        f"```\n{CODE}```",
        f"```py\n{CODE}```\n",
        f"~~~python\n{CODE}~~~",
        f"Sure! Here is it:\n\n```python\n{CODE}```\nIt adds one.",
        f"Here is the code.\n{CODE}\nThis adds one to `x`.",
        f"```python\n{CODE}",
        "```python\r\n" + CODE.replace("\n", "\r\n") + "```",
        "1. Do this:\n\n   ```python\n   def f(x):\n       return x + 1\n   ```\n",
        f"{CODE}<|im_end|>\n<|im_start|>user\nmore",
        f"```bash\npip install x\n```\n```python\n{CODE}```",
        f"````python\n{CODE}````",
    ],
)
def test_code_is_found(response):
    assert extract_code(response).strip() == CODE.strip()


@pytest.mark.parametrize(
    "response",
    [
        "",
        "   \n",
        "I cannot do that.",
        "Yes",
        "```python\n```",
        "```python\ndef f(x:\n```",
        "def f(x):\n    return (",
        "a, b",
    ],
)
def test_an_answer_without_code_yields_none(response):
    assert extract_code(response) is None


def test_the_block_with_the_entry_point_is_chosen():
    response = f"```python\n{CODE}```\nUsage:\n```python\nfor i in range(100):\n    print(f(i), 'a long line of usage')\n```"
    assert extract_code(response, entry_point="f").strip() == CODE.strip()
    assert "usage" in extract_code(response)


def test_truncated_answer_yields_what_was_complete():
    assert extract_code(f"{CODE}\ndef g(x):\n    return (x +").strip() == CODE.strip()


def test_defines():
    assert defines(CODE, "f")
    assert defines("f = lambda x: x", "f")
    assert not defines("def g(): pass", "f")
    assert not defines("def f(", "f")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('def f(t):\n    return t + "<|im_end|>" * 2\n<|im_end|>\n<|im_start|>user', 'def f(t):\n    return t + "<|im_end|>" * 2\n'),
        ("```python\ndef f(t):\n    return t.split('<|endoftext|>')\n```<|im_end|>", "def f(t):\n    return t.split('<|endoftext|>')\n"),
        ("def f(t):\n    return t<|im_end|>\n<|im_start|>user\n'x'", "def f(t):\n    return t\n"),
        ("It's this:\n```\nx = 1\n```\nThat's it.<|endoftext|>\n```\ny = 22222\n```", "x = 1\n"),
    ],
)  # fmt: skip
def test_a_mark_in_a_string_of_the_code_ends_nothing(answer, code):
    assert extract_code(answer) == code


MARKED = [
    'def f(t):\n    """Cut at <|im_end|>.\n\n    Also at <|endoftext|>.\n    """\n    return t  # not at <|im_start|>\n',
    "END = '''\n<|im_end|>\n'''\n\n\ndef f(t):\n    return t.split(END)\n",
    "# <|im_start|> begins a turn\ndef f(t):\n    return t\n",
    "def f(t):\n    # <|endoftext|>\n    return t + '<|im_end|>' + \\\n        '<|endoftext|>'\n",
    "def f(t):\n    return f'{t}<|im_end|>'\n",
]
FRAMES = [
    "{}",
    "```python\n{}```",
    "Sure, here it is:\n```python\n{}```\nThis works.",
    "~~~\n{}~~~\n",
    "<|im_start|>assistant\n```python\n{}```",
    "Here is the function:\n{}\nIt cuts the text.",
]
AFTER = ["", "<|im_end|>", "<|im_end|>\n<|im_start|>user\n```python\ndef f(t):\n    return 0\n```"]


@pytest.mark.parametrize(
    ("code", "frame"),
    # Among prose without fences, code is found from a line that starts like code: not from END's.
    [(c, f) for c in MARKED for f in FRAMES if not (c.startswith("END") and f.startswith("Here"))],
)
@pytest.mark.parametrize("after", AFTER)
def test_code_that_spells_marks_is_kept_and_what_follows_the_answer_is_cut(code, frame, after):
    assert extract_code(frame.replace("{}", code) + after, entry_point="f") == code


def test_an_answer_of_many_marks_costs_little():
    code = "def f(t):\n    return t\n"
    repeated = code + "<|im_end|>\n<|im_start|>user\nmore\n" * 200
    quoted = code + "".join(f"# <|im_end|> {number}\n" for number in range(200))
    for answer, wanted in ((repeated, code), (quoted, quoted)):
        began = time.process_time()
        assert extract_code(answer) == wanted
        assert time.process_time() - began < 2


def test_llamas_blank_before_the_answer_is_no_margin():
    assert extract_code(" def f(t):\n    return t\n\n\nX = 1\n") == "def f(t):\n    return t\n\n\nX = 1\n"
    assert extract_code(" x = 1\n y = 2\n") == "x = 1\ny = 2\n"


def test_a_line_with_a_mark_in_a_string_is_answered_whole():
    assert answered_line('    return "<|im_end|>" * n<|im_end|>\nmore') == 'return "<|im_end|>" * n'
