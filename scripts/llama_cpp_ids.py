# ruff: noqa: E501 (rows of texts)
"""Record the token ids that llama.cpp gives to many texts, for tests/test_gguf_tokenizer.py.

    python -m venv V && V/bin/pip install xllamacpp && V/bin/python scripts/llama_cpp_ids.py FILE.gguf OUT.json

`texts` are read by the file's own rule of splitting, with special tokens recognised and not. With
`--rules`, digests follow of the ids under other rules, which are written into copies of the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import struct
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

RULES = ("gpt-2", "smollm", "starcoder", "refact", "command-r", "codeshell", "qwen2", "deepseek-r1-qwen", "megrez",
         "llama-bpe", "phi-2", "mpt", "olmo", "jais", "trillion")  # fmt: skip
CODE = (
    "def add(first: int, second: int = 0) -> int:\n    \"\"\"Return the sum.\"\"\"\n    return first + second\n",
    "class Größe:\n\tdef __init__(self):\n\t\tself.wert = 1_000_000\n\n\n@property\nasync def f(*a, **k): ...\n",
    "x = {'a': [1, 2.5e-10, 0xFF, 0b1010, 1j], **y}\nprint(f\"{x!r:>10}\")  # 100% sure?\n",
    "function sum(a, b) { return a + b; }\nconst f = async (x) => await x?.y ?? `t${x}`;\n",
    "interface P<T extends object> { readonly name: string; age?: number }\nexport type Q = Partial<P<{}>>;\n",
    "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfor i := 0; i < 10; i++ {\n\t\tfmt.Println(i)\n\t}\n}\n",
    "public static <T> List<T> of(T... xs) throws Exception {\n    return new ArrayList<>(Arrays.asList(xs));\n}\n",
    "fn main() -> Result<(), Box<dyn Error>> {\n    let v: Vec<u8> = vec![0; 16];\n    println!(\"{:?}\", v);\n    Ok(())\n}\n",
    "#include <stdio.h>\n#define MAX(a,b) ((a)>(b)?(a):(b))\nint main(void){char *s=\"a\\n\";return *s&0x7f;}\n",
    "template <typename T>\nauto max(T a, T b) -> decltype(a) { return a > b ? a : b; }  // std::move\n",
    "SELECT a.id, COUNT(*) FROM t1 AS a LEFT JOIN t2 b ON a.id=b.id WHERE x <> 'it''s' GROUP BY 1;\n",
    "#!/usr/bin/env bash\nset -euo pipefail\nfor f in *.txt; do echo \"${f%.txt}\" | sed 's/a/b/g' >> out; done\n",
    "<!DOCTYPE html>\n<a href=\"x?y=1&amp;z=2\">A &lt; B</a>\n<!-- c -->\n", "a:\n  - b: 1\n    c: [x, y]\n  - !!str 2\n",
    "{\"k\": [null, true, -1.5E+3, \"\\u00e9\"]}", "\\begin{equation}\nE = mc^2 \\label{e}\n\\end{equation}\n",
    "# Title\n\n* item `code`\n* **bold** _it_\n\n```python\npass\n```\n", "diff --git a/x b/x\n@@ -1,2 +1,2 @@\n-a\n+b\n",
)  # fmt: skip
PLAIN = (
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", " \t ", "\r\n", "\r\n\r\n", "a\r\nb", " \n", "\n ", "  \n  \n",
    "a  b", "a   b", "a \n b", "a\n\n\n\nb", "  a", "a  ", "a\t b", "\x0b\x0c", "a\u00a0b", "\u2003x", "\u3000\u3000字", "\u200bz",
    "0", "1", "12", "123", "1234", "12345", "123456789", "3.14159", "1,000,000", "-17", "2026-11-29T01:02:03Z", "1e-9", "v1.2.3",
    "²³", "١٢٣", "Ⅷ", "½", "1st 2nd", "x1y22z333", "0x1F600",
    "It's", "IT'S", "we'll they'Re I'M don’t", "'s 't 're", "''''", "can't've", "'S 'LL 'D",
    "Hello, world!", "The quick brown fox jumps over the lazy dog.", "Grüße aus Köln", "naïve café", "cafe\u0301", "Ελλάδα", "Привет, мир",
    "שלום", "مرحبا", "नमस्ते", "你好，世界。", "こんにちは", "안녕하세요", "ไทย", "👍", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301\u0302\u0303", "ﬁ ﬂ", "ｆｕｌｌ",
    "\ufeffbom", "a\u2028b\u2029c", "\x00", "a\x00b", "\x7f\x1b[31m", "𝕏𝔸", "İı", "ǅ", "…—–", "«»„“", "€£¥", "±×÷≤≥≠", "→⇒",
    "!!!", "???", "...", "......", "----", "====", "____", "////", "\\\\\\\\", "(((", ")))", "{{}}", "[[]]", "<<>>", "&&||", "::", "->", "=>",
    "!=", "===", "**", "//", "/* */", "#!", "$x", "@y", "%d", "~`^", "\"\"\"", "a.b.c", "a_b_c", "aBcDe", "ABC_DEF", "http://x.y/z?a=b#c",
    "me@example.com", "/usr/lib/x.so.1", "C:\\Users\\x", "--flag=value", "x" * 100, "=" * 80, " " * 50 + "x", "\n" * 20, "ab" * 60, "9" * 40,
)  # fmt: skip
SPECIAL = (
    "<|im_end|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ",
    "<|endoftext|><|endoftext|>", "<|im_end", "|im_end|>", "< |im_end|>", "<|IM_END|>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<repo_name>", "<reponame>x<filename>y", "<file_sep>", "<empty_output>", "<tool_call>\n{}\n</tool_call>", "</s>", "<s>", "<pad>", "<unk>",
    "print('<|im_end|>')", "x = \"<|endoftext|>\"  # end\n", "<|im_start|>system", "<|file_sep|>", "[PAD151665]",
)  # fmt: skip
ALPHABETS = (
    "ab ", "01 .", " \n\t", "aA1_ ", "é字😀 a", "'sStTlLdD ve", "(){}[];:,. \n", "\r\n ax", "<|>im_end", "\u00a0\u2003 \u200bx", "-+*/=<>!&|^~% 1x",
)  # fmt: skip


def texts() -> list[str]:
    """Return the texts, the same ones each time: code, text, blanks, digits, special tokens, noise."""
    rng = random.Random(11)
    noise = ["".join(rng.choices(alphabet, k=rng.randint(3, 40))) for alphabet in ALPHABETS for _ in range(6)]
    halves = [code[: rng.randint(5, len(code) - 1)] for code in CODE]
    return [*CODE, *halves, *PLAIN, *SPECIAL, *noise]


def with_rule(source: Path, rule: str, target: Path) -> None:
    """Copy a GGUF file with another rule of splitting in its header."""
    content = source.read_bytes()
    key = content.index(b"tokenizer.ggml.pre") + len(b"tokenizer.ggml.pre")
    old = struct.unpack_from("<Q", content, key + 4)[0]
    end = _header_end(content)
    new_header = (
        content[: key + 4] + struct.pack("<Q", len(rule)) + rule.encode() + content[key + 12 + old : end]
    )
    padding = b"\0" * (-len(new_header) % 32)
    target.write_bytes(new_header + padding + content[-(-end // 32) * 32 :])


def _header_end(content: bytes) -> int:
    """Return where the list of tensors ends."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    tensors, pairs = struct.unpack_from("<QQ", content, 8)
    at = 24

    def text_end(at: int) -> int:
        return at + 8 + struct.unpack_from("<Q", content, at)[0]

    for _ in range(pairs):
        at = text_end(at) + 4
        kind = struct.unpack_from("<I", content, at - 4)[0]
        count = 1
        if kind == 9:
            kind, count = struct.unpack_from("<IQ", content, at)
            at += 12
        for _ in range(count if kind == 8 else 0):
            at = text_end(at)
        at += 0 if kind == 8 else sizes[kind] * count
    for _ in range(tensors):
        at = text_end(at)
        at += 4 + 8 * struct.unpack_from("<I", content, at)[0] + 12
    return at


def ids_of(file: Path, wanted: Sequence[str], *, special: bool) -> list[list[int]]:
    """Return llama.cpp's ids of each text; `special` reads special tokens in it as such."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.port, parameters.warmup = str(file), 512, 0, False
    server = xllamacpp.Server(parameters)

    def ids(text: str) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": special}
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]

    return [ids(text) for text in wanted]


def main() -> None:
    """Write OUT.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rules", action="store_true")
    options = parser.parse_args()
    wanted = texts()
    with options.file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    plain, special = (ids_of(options.file, wanted, special=flag) for flag in (False, True))
    rows = [[t, p] if p == s else [t, p, s] for t, p, s in zip(wanted, plain, special, strict=True)]
    rules = {}
    with tempfile.TemporaryDirectory() as folder:
        for rule in RULES if options.rules else ():
            copy = Path(folder) / "copy.gguf"
            with_rule(options.file, rule, copy)
            rules[rule] = [digest_of(ids) for ids in ids_of(copy, wanted, special=False)]
    found = {"file": options.file.name, "sha256": sha256, "rules": rules, "texts": rows}
    options.out.write_text(
        json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )


def digest_of(ids: Sequence[int]) -> str:
    """Return eight hexadecimal digits that stand for a list of ids."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:8]


if __name__ == "__main__":
    main()
