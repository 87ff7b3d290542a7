"""Titles and tokenizers: the text stays unchanged, and the seed decides order and digest."""

import gzip

import pytest
import torch

from helpers.fixed_budget import titles as title_sets
from helpers.fixed_budget.titles import (
    TitleSetError,
    TitleSplit,
    joined,
    load_titles,
    split_titles,
    text_sha256,
)
from helpers.fixed_budget.tokenizer import KINDS, changed_titles, train_tokenizer

TITLES = [
    f"Show HN: A {word} of  C++ in {year} – “{word}”"
    for word in ("Tale", "map", "größe")
    for year in range(40)
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "titles.txt"
    path.write_text("\n".join([*TITLES, "", "a<eos>b", " spaced \t"]), encoding="utf-8")
    return path


def test_a_file_is_read_stripped_and_shuffled_by_the_seed_alone(file) -> None:
    titles = load_titles(f"file:{file}", seed=1)
    assert titles.spec == "file:titles.txt"  # no folder of anybody's machine
    assert sorted(titles.titles) == sorted([*TITLES, "spaced"])  # without the empty line and the separator
    assert titles.titles == load_titles(f"file:{file}", seed=1).titles
    assert titles.sha256 != load_titles(f"file:{file}", seed=2).sha256
    assert load_titles(f"file:{file}", seed=1, limit=30).titles == titles.titles[:30]


def test_gzip_gives_the_same_titles(file) -> None:
    packed = file.with_suffix(".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert load_titles(f"file:{packed}", seed=3).sha256 == load_titles(f"file:{file}", seed=3).sha256


def test_unicode_line_separators_do_not_cut_a_title(tmp_path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("\n".join(f"one\u2028title {i}" for i in range(30)), encoding="utf-8")
    assert len(load_titles(f"file:{path}", seed=0).titles) == 30


@pytest.mark.parametrize("spec", ["titles", "file:", "file:missing.txt", "hn:x"])
def test_unreadable_titles_are_refused_in_one_sentence(spec) -> None:
    with pytest.raises(TitleSetError, match=r"cannot read"):
        load_titles(spec, seed=1)


def test_too_few_titles_and_invalid_utf8_are_refused(tmp_path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("only one")
    with pytest.raises(TitleSetError, match="gives 1 titles"):
        load_titles(f"file:{path}", seed=1)
    path.write_bytes(b"\xff\xfe\x00" * 9)
    with pytest.raises(TitleSetError, match="UTF-8"):
        load_titles(f"file:{path}", seed=1)


def test_hacker_news_is_loaded_at_its_revision_and_counted(monkeypatch) -> None:
    """The hub's data set: pinned revision, its own shuffle, 100,000 titles; a stand-in answers."""
    import datasets

    asked = {}

    class Rows(list):
        def shuffle(self, seed):
            asked["seed"] = seed
            return Rows(reversed(self))

        def take(self, n):
            return {"title": list(self[:n])}

    def load_dataset(name, **options):
        asked.update(options, name=name)
        return Rows(f"title {i}" for i in range(rows))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(title_sets, "HN_ROWS", 300)
    rows = 300
    assert load_titles("hn", seed=1337, limit=20).titles[0] == "title 299"
    assert asked == {
        "name": "julien040/hacker-news-posts", "split": "train", "revision": title_sets.HN_REVISION, "seed": 1337,
    }  # fmt: skip
    rows = 299
    with pytest.raises(TitleSetError, match="a different data set"):
        load_titles("hn", seed=1337)


def test_docstrings_give_distinct_first_lines(monkeypatch, tmp_path) -> None:
    package = tmp_path / "made_up_package"
    (package / "tests").mkdir(parents=True)
    lines = [f"Return the {word} of a list of numbers." for word in map(str, range(30))]
    functions = [f'def f{i}():\n    """{line}\n\n    More.\n    """\n' for i, line in enumerate(lines)]
    (package / "__init__.py").write_text('"""Short."""\n' + "\n".join(functions + functions[:3]))
    (package / "broken.py").write_text('"""A module that does not parse at all."""\ndef (')
    (package / "tests" / "t.py").write_text('"""Tests are not documentation of anything."""')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(title_sets, "DOCSTRING_PACKAGES", {"made_up_package": "pytest"})
    monkeypatch.setattr(
        title_sets, "_files_of", lambda name, real=title_sets._files_of: real(name) if name else []
    )
    found = load_titles("docstrings", seed=5)
    assert sorted(found.titles) == sorted(lines)
    (package / "__init__.py").write_text("")  # now the cache answers
    assert load_titles("docstrings", seed=5).sha256 == found.sha256


def test_the_split_is_the_last_tenth_and_counts_repetitions(file) -> None:
    titles = load_titles(f"file:{file}", seed=1)
    split = split_titles(titles, 0.10)
    assert split.train + split.validation == titles.titles
    assert len(split.train) == int(0.9 * len(titles.titles))
    assert TitleSplit(("a", "b"), ("b", "c", "b")).repeated == 2


def test_the_denominator_counts_a_separator_after_each_title() -> None:
    assert len(joined(["ab", "c"])) == 3 + 2 * len("<eos>")


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_returns_any_text_exactly(kind) -> None:
    tokenizer = train_tokenizer(kind, 320, TITLES)
    strange = ["", "  two  spaces", "中文 🚀\u2028x", "<pad> <unk>", "tab\there", "UPPER lower", "\x00\x7f"]
    assert changed_titles(tokenizer, [*TITLES, *strange]) == []
    ids = tokenizer.encode(["a b"])[0]
    assert ids[-1] == tokenizer.separator_id
    assert int((torch.cat(tokenizer.encode(TITLES)) == tokenizer.separator_id).sum()) == len(TITLES)
    marks = {tokenizer.tokenizer.token_to_id(mark) for mark in ("<pad>", "<unk>", "<eos>")}
    assert not marks & set(tokenizer.encode(["a <pad>, an <unk> and an <eos>"])[0].tolist()[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_titles_give_the_same_tokenizer(kind) -> None:
    first, second = (train_tokenizer(kind, 320, TITLES) for _ in range(2))
    assert first.tokenizer.to_str() == second.tokenizer.to_str()
    assert 259 <= first.vocabulary <= 320  # 256 bytes, three special tokens, and what so little text gives
    assert first.trained_on == text_sha256(TITLES)


def test_unknown_kinds_and_small_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="bpe or unigram"):
        train_tokenizer("words", 320, TITLES)
    with pytest.raises(ValueError, match="at least 300 ids"):
        train_tokenizer("bpe", 20, TITLES)
