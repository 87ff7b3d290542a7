import itertools

import pytest
import tiny_models
import torch

from helpers.data.draw import draw_files
from helpers.models.structure import hidden_states, output_head
from helpers.records import SourceFile
from helpers.train.packing import collate_packed, pack_documents, pack_texts

PAD = 1


def documents():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(2, 50, (n,), generator=generator).tolist() for n in (5, 9, 3, 40, 16, 2, 1, 7)]


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_packed_logits_equal_those_of_each_document_alone(family):
    model = tiny_models.model(family, 50)
    rows = pack_documents(documents(), 16, pad_id=PAD)
    assert any(row.position_ids.count(0) > 2 for row in rows), "several documents share a row"
    batch = collate_packed(rows)
    with torch.no_grad():
        packed = output_head(model)(
            hidden_states(model, batch["input_ids"], position_ids=batch["position_ids"])
        )
        for row, logits in zip(rows, packed, strict=True):
            starts = [i for i, p in enumerate(row.position_ids) if p == 0] + [16]
            for start, end in itertools.pairwise(starts):
                alone = model(torch.tensor([row.input_ids[start:end]]), use_cache=False).logits[0]
                assert torch.allclose(logits[start:end], alone, atol=1e-4)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_without_restarting_positions_documents_would_see_each_other(family):
    """The test above must be able to fail."""
    model = tiny_models.model(family, 50)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
    with torch.no_grad():
        joined = hidden_states(model, ids)[0, 4:]
        alone = hidden_states(model, ids[:, 4:])[0]
    assert not torch.allclose(joined, alone, atol=1e-2)


def test_every_token_but_a_documents_first_is_a_target_exactly_once():
    docs = documents()
    rows = pack_documents(docs, 16, pad_id=PAD)
    targets = sorted(label for row in rows for label in row.labels if label != -100)
    assert targets == sorted(token for doc in docs for token in doc[1:])
    for row in rows:
        assert len(row.input_ids) == len(row.labels) == len(row.position_ids) == 16
        for token, label, position in zip(row.input_ids, row.labels, row.position_ids, strict=True):
            assert label in (-100, token)
            assert position > 0 or label == -100


def test_the_first_column_is_never_a_target():
    batch = collate_packed(pack_documents(documents(), 16, pad_id=PAD))
    assert "attention_mask" not in batch
    assert (batch["labels"][:, 0] == -100).all()


def test_specials_and_padding_are_inputs_but_no_targets():
    tok = tiny_models.tokenizer()
    rows = pack_texts(["def f(): pass", "x = 1", "text with <|endoftext|> inside"], tok, 64)
    ids = [token for row in rows for token in row.input_ids]
    labels = [label for row in rows for label in row.labels]
    assert ids.count(tok.eos_token_id) == 3, "one end per document; the spelled one is plain characters"
    assert not set(labels) & set(tok.all_special_ids)
    decoded = "".join(tok.decode([label for label in row.labels if label != -100]) for row in rows)
    assert " f(): pass" in decoded
    assert "<|endoftext|> inside" in decoded


def test_best_fit_fills_rows():
    rows = pack_documents([[9] * n for n in (10, 6, 8, 8, 3, 13)], 16, pad_id=PAD)
    assert len(rows) == 3
    assert all(PAD not in row.input_ids for row in rows)


def test_empty_and_single_token_documents_leave_nothing():
    assert pack_documents([[], [7]], 8, pad_id=PAD) == []
    assert pack_texts([""], tiny_models.tokenizer(), 8) == []
    with pytest.raises(ValueError, match="too short"):
        pack_documents([[1, 2]], 1, pad_id=PAD)


def source(name: str, repeats: int) -> SourceFile:
    text = "word " * repeats
    return SourceFile(name, text, name, len(text))


def test_drawing_meets_the_budget_with_whole_files_in_seeded_order():
    tok = tiny_models.tokenizer()
    files = [source(f"{i}.py", 10 + i) for i in range(30)]
    total = sum(len(tok(f.text).input_ids) for f in files)
    drawn = draw_files(files, tok, total // 3, seed=1)
    tokens = sum(len(tok(f.text).input_ids) for f in drawn)
    assert total / 3 * 0.8 <= tokens <= total / 3 * 1.1
    assert drawn == draw_files(files[::-1], tok, total // 3, seed=1)
    assert drawn != draw_files(files, tok, total // 3, seed=2)
    assert len({f.path for f in drawn}) == len(drawn)


def test_a_file_larger_than_the_budget_is_passed_over_unless_there_is_no_other():
    tok = tiny_models.tokenizer()
    big, small = source("big.py", 1000), source("small.py", 10)
    assert draw_files([big, small], tok, 60, seed=0) == [small]
    assert draw_files([big], tok, 60, seed=0) == [big]
    assert draw_files([], tok, 60, seed=0) == []
