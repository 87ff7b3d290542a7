"""Where a GGUF file can be named, and how an adapter finds its base again."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from pathlib import Path

import huggingface_hub
import pytest
import tiny_gguf
import tiny_models
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from helpers.models.causal_lm import ModelError, add_lora, load_adapted, load_causal_lm
from helpers.models.gguf.header import GgufError
from helpers.models.gguf.sources import (
    converted_folder,
    described_name,
    find_gguf,
    recorded_name,
    weights_facts,
)
from helpers.run.workspace import write_json
from helpers.settings import MINILM_PACKAGE, TINY_CODE_LM, LoraSettings
from helpers.tools.complete import ADAPTER, complete_code

RUNTIME = tiny_models.CPU_FP32
IDS = torch.tensor([[5, 40, 90, 7, 7, 130, 21, 300, 11]])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "models").mkdir()
    return tiny_gguf.write(tmp_path / "models" / "tiny.gguf")


def package(folder: Path, name: str, *files: Path) -> None:
    """A package that cannot be imported, as when what it depends on is missing."""
    (folder / name / "data").mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for number, file in enumerate(files):
        shutil.copy(file, folder / name / "data" / f"m{number}.gguf")


def test_a_file_a_package_and_a_folder(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    package(tmp_path / "site", "tiny_weights", path)
    monkeypatch.chdir(tmp_path)
    names = (
        "gguf:models/tiny.gguf",
        f"gguf:{path}",
        "package:tiny_weights",
        "package:tiny-weights",
        "models",
        str(path.parent),
    )
    found = [find_gguf(name) for name in names]
    assert len({source.sha256 for source in found}) == 1
    assert len({source.folder() for source in found}) == 1
    model, _ = load_causal_lm("package:tiny-weights", RUNTIME)
    assert model.name_or_path == f"package:tiny-weights@sha256:{found[0].sha256}"


def test_a_package_is_found_by_its_distributions_name_too(path, tmp_path, monkeypatch):
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    package(site, "weights_of_tiny", path)
    (site / "tiny_model-1.0.dist-info").mkdir()
    (site / "tiny_model-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
    )
    (site / "tiny_model-1.0.dist-info" / "RECORD").write_text("weights_of_tiny/data/m0.gguf,,\n")
    assert find_gguf("package:tiny-model").sha256 == find_gguf(f"gguf:{path}").sha256


def test_names_of_other_forms_stay_as_they_are(tmp_path):
    folder = str(tiny_models.save(tmp_path / "plain", "qwen2"))
    shutil.copy(tiny_gguf.write(tmp_path / "x.gguf"), folder)  # beside a config.json, which wins
    for name in (
        "Qwen/Qwen2.5-Coder-0.5B",
        TINY_CODE_LM,
        MINILM_PACKAGE,
        folder,
        "nowhere",
        "package:json",
        "",
    ):
        assert find_gguf(name) is None
        assert recorded_name(name) == described_name(name) == converted_folder(name) == name
        assert weights_facts(name) == {}


def test_several_files_are_listed(path, tmp_path, monkeypatch):
    shutil.copy(path, path.with_name("other.gguf"))
    with pytest.raises(
        ModelError, match=r"holds 2 GGUF files; name one as gguf:FILE: other\.gguf, tiny\.gguf"
    ):
        load_causal_lm(str(path.parent), RUNTIME)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    package(tmp_path / "site", "two_weights", path, path)
    with pytest.raises(ModelError, match=r"holds 2 GGUF files.*data/m0\.gguf, data/m1\.gguf"):
        load_causal_lm("package:two_weights", RUNTIME)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("gguf:no/such.gguf", r"no GGUF file 'no/such\.gguf' \(looked in .*check the spelling"),
        (
            "package:no_such_package",
            "no installed package with a GGUF file is called 'no_such_package'; install it",
        ),
        ("gguf:~no-such-user/a.gguf", r"no GGUF file '~no-such-user/a\.gguf'"),
        (f"gguf:{'n' * 300}.gguf", r"no GGUF file 'nnn"),
        ("package:json", "no installed package with a GGUF file"),
        ("package:../x", "no installed package with a GGUF file"),
        ("package:", "no installed package with a GGUF file"),
    ],
)
def test_what_is_not_there_is_said(name, wrong):
    with pytest.raises(ModelError, match=wrong):
        load_causal_lm(name, RUNTIME)


def test_a_bare_file_name_and_an_empty_folder_say_what_to_write(path, tmp_path):
    with pytest.raises(ModelError, match=f"write gguf:{path} for a GGUF file"):
        load_causal_lm(str(path), RUNTIME)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no model: config\.json is missing"):
        load_causal_lm(str(tmp_path / "empty"), RUNTIME)


def test_the_notebook_sees_the_file_from_its_own_folder(path, tmp_path, monkeypatch):
    from helpers.report import headless_run as suite

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite, "FOLDER", tmp_path / "suite")
    assert suite._model_seen("gguf:models/tiny.gguf") == "gguf:../models/tiny.gguf"
    assert suite._model_seen("package:x") == "package:x"


class Hub(http.server.BaseHTTPRequestHandler):
    """A stand-in for the hub that has one file of one model."""

    content = b""
    asked: list[str]

    def do_HEAD(self):
        type(self).asked.append(f"{self.command} {self.path}")
        there = self.path.startswith("/org/tiny-GGUF/resolve/main/tiny.gguf")
        self.send_response(200 if there else 404)
        if there:
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound" if "tiny-GGUF" in self.path else "RepoNotFound")
        self.send_header("Content-Length", str(len(self.content) if there else 0))
        self.end_headers()
        if self.command == "GET" and there:
            self.wfile.write(self.content)

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(path, tmp_path, monkeypatch):
    Hub.content, Hub.asked = path.read_bytes(), []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real = huggingface_hub.hf_hub_download

    def download(name, file, **options):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        return real(
            name,
            file,
            endpoint=f"http://127.0.0.1:{server.server_port}",
            cache_dir=tmp_path / "hub",
            **options,
        )

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    asks = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *a, **k: asks(*a, **k, cache_dir=tmp_path / "hub")
    )
    yield Hub
    server.shutdown()


def test_a_file_on_the_hub_is_fetched_once(hub, path):
    source = find_gguf("org/tiny-GGUF:tiny.gguf")
    assert source.path.read_bytes() == path.read_bytes()
    assert any(line.startswith("GET ") for line in hub.asked)
    hub.asked.clear()
    model, _ = load_causal_lm("org/tiny-GGUF:tiny.gguf", RUNTIME)
    assert hub.asked == []
    assert model.name_or_path == f"org/tiny-GGUF:tiny.gguf@sha256:{source.sha256}"


def test_a_wrong_name_on_the_hub_is_said(hub):
    with pytest.raises(ModelError, match=r"the hub's model 'org/tiny-GGUF' has no file 'other\.gguf'"):
        load_causal_lm("org/tiny-GGUF:other.gguf", RUNTIME)
    with pytest.raises(ModelError, match=r"the hub has no model 'org/nothing'"):
        load_causal_lm("org/nothing:other.gguf", RUNTIME)


def test_without_a_network_the_hubs_file_is_said_to_be_missing():
    with pytest.raises(ModelError, match=r"cannot be reached .*name it as gguf:FILE"):
        load_causal_lm("org/tiny-GGUF:tiny.gguf", RUNTIME)


@pytest.fixture
def run_folder(path, tmp_path):
    """A run whose adapter changes what the model predicts, and the adapted logits."""
    model = add_lora(load_causal_lm(f"gguf:{path}", RUNTIME)[0], LoraSettings(rank=4, alpha=8))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.5)
        expected = model(IDS).logits
    folder = tmp_path / "runs" / "cpu-1"
    model.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
    write_json(folder / "run.json", {"profile": {"track_a": {"window": 64}}})
    return folder, expected


def adapted_logits(spec: str, adapter: Path) -> torch.Tensor:
    model, _ = load_adapted(spec, adapter, RUNTIME)
    with torch.inference_mode():
        return model(IDS).logits


def test_an_adapter_records_its_base_with_the_digest(path, run_folder):
    folder, expected = run_folder
    recorded = json.loads((folder / ADAPTER / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert recorded == find_gguf(f"gguf:{path}").recorded
    assert torch.allclose(adapted_logits(f"gguf:{path}", folder / ADAPTER), expected, atol=1e-5)
    assert torch.allclose(adapted_logits(recorded, folder / ADAPTER), expected, atol=1e-5)
    assert complete_code(folder, "def add(", RUNTIME, max_tokens=8)


def test_the_five_lines_of_the_readme(path, run_folder):
    folder, expected = run_folder
    base = AutoModelForCausalLM.from_pretrained(converted_folder(f"gguf:{path}"))
    adapted = PeftModel.from_pretrained(base, str(folder / ADAPTER))
    with torch.inference_mode():
        assert torch.allclose(adapted(IDS).logits, expected, atol=1e-5)


def test_the_base_is_found_by_its_digest(path, run_folder, tmp_path, monkeypatch):
    """After the file was moved it is found in the cache, or elsewhere in the adapter's folder."""
    folder, expected = run_folder
    moved = path.rename(tmp_path / "moved.gguf")
    assert torch.allclose(adapted_logits(f"gguf:{path}", folder / ADAPTER), expected, atol=1e-5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with pytest.raises(
        ModelError, match="is not on this machine: nothing is found under its name; put the file back"
    ):
        load_adapted(f"gguf:{path}", folder / ADAPTER, RUNTIME)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / ADAPTER, elsewhere)
    shutil.copy(moved, elsewhere / "renamed.gguf")
    recorded = json.loads((elsewhere / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert torch.allclose(adapted_logits(recorded, elsewhere), expected, atol=1e-5)


def test_another_file_under_the_same_name_is_refused(path, run_folder):
    folder, _ = run_folder
    tiny_gguf.write(path, fields={"general.name": "Other"})
    with pytest.raises(ModelError, match=r"was trained on gguf:.*@sha256:.* has sha256 .*; name the file"):
        load_adapted(f"gguf:{path}", folder / ADAPTER, RUNTIME)


def test_a_digest_that_is_none(path):
    with pytest.raises(GgufError, match="has no SHA-256 of 64 hexadecimal digits"):
        find_gguf(f"gguf:{path}@sha256:../../etc")


def test_a_digest_that_is_nowhere(path):
    with pytest.raises(GgufError, match=r"with sha256 0{64} is not on this machine: what it names now has"):
        find_gguf(f"gguf:{path}@sha256:{'0' * 64}")


def test_a_name_in_the_file_is_shown_on_one_visible_line(path):
    tiny_gguf.write(path, fields={"general.name": "A\n\x1b[31mB"})
    assert weights_facts(f"gguf:{path}")["weights"]["file"] == "tiny.gguf"
    assert "tiny.gguf: A \\x1b[31mB, F32" in described_name(f"gguf:{path}")


def test_the_card_says_what_the_file_holds(path, run_folder):
    sha256 = find_gguf(f"gguf:{path}").sha256
    assert described_name(f"gguf:{path}") == f"gguf:{path} (tiny.gguf: Tiny, F32, sha256 {sha256})"
    known = {"file": "tiny.gguf", "quantisation": "F32", "sha256": sha256}
    assert weights_facts(f"gguf:{path}") == {"weights": known}
    recorded = find_gguf(f"gguf:{path}").recorded
    path.unlink()
    assert described_name(recorded) == f"gguf:{path} (tiny.gguf: Tiny, F32, sha256 {sha256})"


def test_the_command_completes_from_another_folder(path, run_folder, tmp_path, monkeypatch, command):
    folder, _ = run_folder
    monkeypatch.chdir(tmp_path)
    done = command("complete", "--run", str(folder), "--prompt", "def add(", "--max-tokens", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
