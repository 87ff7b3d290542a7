import ast

import pytest
import tiny_models

from helpers.data import general_code
from helpers.data.general_code import (
    GeneralCodeError,
    general_code_sources,
    general_code_texts,
    rehearsal_texts,
)


def test_the_slice_is_fixed_by_its_seed():
    texts = general_code_texts(12, 3)
    assert len(set(texts)) == 12
    assert texts == general_code_texts(12, 3)
    assert texts[:6] == general_code_texts(6, 3)
    assert texts != general_code_texts(12, 4)
    assert all(2_000 <= len(text.encode()) <= 30_000 for text in texts)
    for text in texts:
        ast.parse(text)


def test_the_corpus_is_kept_out():
    assert "matplotlib" in general_code_sources()
    assert "matplotlib" not in general_code_sources(exclude="matplotlib")
    assert not any("matplotlib" in text for text in general_code_texts(12, 3, exclude="matplotlib"))


def test_more_than_there_is_gives_what_there_is(monkeypatch):
    monkeypatch.setattr(general_code, "PACKAGES", {"requests": "requests"})
    texts = general_code_texts(10_000, 0)
    assert 1 <= len(texts) < 100


def test_without_any_package_it_says_which(monkeypatch):
    monkeypatch.setattr(general_code, "PACKAGES", {"no_such_package": "no-such-package"})
    with pytest.raises(GeneralCodeError, match="no_such_package"):
        general_code_texts(1, 0)


def test_copies_of_held_out_files_are_not_rehearsed(tmp_path, monkeypatch):
    """A corpus can hold the standard library itself, for example one that vendors a module of it."""
    tok, body = tiny_models.tokenizer(), "\n".join(f"value_{i} = {i}" for i in range(200)) + "\n"
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.py").write_text(f"# {name}\n{body}")
    monkeypatch.setattr(general_code.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert len(rehearsal_texts(tok, 10**6, 3)) == 3
    copies = [f"# first\n\n{body}", f"# second\n{body}".replace("\n", "  \r\n")]
    (kept,) = rehearsal_texts(tok, 10**6, 3, held_out=copies)
    assert kept.startswith("# third")


def test_rehearsal_meets_its_budget_and_leaves_the_measured_slice_alone():
    tok = tiny_models.tokenizer()
    texts = rehearsal_texts(tok, 60_000, 3)
    tokens = sum(len(tok(text, verbose=False).input_ids) for text in texts)
    assert 40_000 <= tokens <= 66_000
    assert texts == rehearsal_texts(tok, 60_000, 3)
    assert not set(texts) & set(general_code_texts(40, 3))
    assert rehearsal_texts(tok, 0, 3) == []
