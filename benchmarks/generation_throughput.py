"""Tokens per second of `helpers.models.generation.generate` beside one prompt at a time.

    python benchmarks/generation_throughput.py [--model SPEC] [--prompts 64] [--new-tokens 192] [--llama FILE]

All continue the same prompts (functions of the corpus, worded as Track B words its tasks) with the same
model, the same limit and the same end tokens, greedily and by plain sampling at one temperature. The usual
way is `model.generate` of transformers, prompt after prompt, as it comes; `generate` runs once as it is, once
without drafts and once in float32, which differs for large models on a CPU alone. With `--llama`, llama.cpp's
server (`pip install xllamacpp`) writes with a GGUF file of the same model, as many texts at a time. Counted
are the tokens of the texts, encoded again. Peak memory is of each way's own process. Also told: on how many
prompts the greedy texts are those of the usual way. Run on an idle machine; on a busy one the ratio per
second of processor time, with OMP_NUM_THREADS=1, is the steadier one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.tasks.phrasings import PHRASINGS, phrase
from helpers.machine.hardware import detect_runtime, hardware_facts, set_seed
from helpers.machine.usage import peak_memory_gib, stopwatch
from helpers.models import generation, prompt_lookup
from helpers.models.causal_lm import chat_ids, load_causal_lm, load_tokenizer
from helpers.models.tokens import batch_token_ids, continuation
from helpers.profiles import PROFILES

WAYS = ("one at a time", "batched without drafts", "batched in float32", "batched")
LLAMA = "llama.cpp server"


def prompts_of(corpus: str, model: str, count: int, longest: int) -> list[list[int]]:
    """`count` prompts of at most `longest` tokens, as ids: kinds in turn, spread evenly over the corpus."""
    tokenizer = load_tokenizer(model)
    kinds = list(PHRASINGS)
    prompts = []
    for number, function in enumerate(extract_functions(load_corpus(corpus))):
        text = phrase(kinds[number % len(kinds)], number, code=function.code, name=function.name)
        prompt = tuple(chat_ids(tokenizer, text))
        if len(prompt) <= longest:
            prompts.append(prompt)
    prompts = [list(prompt) for prompt in dict.fromkeys(prompts)]
    return prompts[:: max(1, len(prompts) // count)][:count]


def one_at_a_time(
    model, tokenizer, prompts: list[list[int]], temperature: float, limit: int, runtime
) -> list[str]:
    """transformers' own loop, a prompt a call."""
    ends = sorted(generation.end_ids(model, tokenizer))
    drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    options = drawing if temperature else {"do_sample": False}
    texts = []
    for prompt in prompts:
        read = torch.tensor([prompt], device=runtime.device)
        given = model.generate(
            input_ids=read, attention_mask=torch.ones_like(read), max_new_tokens=limit, eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id, **options,
        )[0, len(prompt) :].tolist()  # fmt: skip
        texts.append(continuation(tokenizer, prompt, given))
    return texts


def batched(
    model, tokenizer, prompts: list[list[int]], temperature: float, limit: int, runtime, batch: int
) -> list[str]:
    """`helpers.models.generation.generate`."""
    texts = generation.generate(
        model, tokenizer, prompts, runtime, temperature=temperature, max_new_tokens=limit, batch_size=batch
    )
    return [text for [text] in texts]


class LlamaServer:
    """llama.cpp's server, with a slot for each of `options.batch` texts."""

    def __init__(self, options: argparse.Namespace) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path, parameters.port, parameters.warmup = str(options.llama), 0, False
        parameters.n_parallel = options.batch
        parameters.n_ctx = options.batch * (options.longest + options.new_tokens)
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = torch.get_num_threads()
        self.slots, self.server = options.batch, xllamacpp.Server(parameters)

    def written(self, prompts: list[list[int]], temperature: float, limit: int) -> list[str]:
        """Return the text to each prompt; all are asked for at once, as many as there are slots."""

        def text(prompt: list[int]) -> str:
            plain = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
            asked = {"prompt": prompt, "n_predict": limit, "temperature": temperature, **plain}
            request = urllib.request.Request(
                f"{self.server.listening_address}/completion",
                json.dumps(asked).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                return str(json.load(answer)["content"])

        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(text, prompts))


def measure(
    way: str, prompts: list[list[int]], options: argparse.Namespace, temperature: float, channel
) -> None:
    """Run one way in a process of its own and send what it measured."""
    runtime = detect_runtime()
    if way == "batched in float32":
        runtime = dataclasses.replace(runtime, autocast_dtype=None)
    if way == LLAMA:
        tokenizer, server = load_tokenizer(options.model), LlamaServer(options)
    else:
        model, tokenizer = load_causal_lm(options.model, runtime)
    set_seed(0)
    arguments = (temperature, options.new_tokens, runtime)

    if way == "batched without drafts":
        prompt_lookup.MAX_DRAFT = 0

    def run(some: list[list[int]]) -> list[str]:
        if way == LLAMA:
            return server.written(some, temperature, options.new_tokens)
        if way != "one at a time":
            return batched(model, tokenizer, some, *arguments, options.batch)
        return one_at_a_time(model, tokenizer, some, *arguments)

    run(prompts[:2])  # warm up
    loaded = peak_memory_gib()
    spent = time.process_time()
    with torch.inference_mode(), stopwatch() as took:
        texts = run(prompts)
    spent = time.process_time() - spent
    tokens = sum(map(len, batch_token_ids(tokenizer, texts)))
    channel.send(
        {
            "tokens": tokens,
            "seconds": round(took["seconds"], 2),
            "tokens_per_second": round(tokens / took["seconds"], 1),
            "tokens_per_cpu_second": round(tokens / spent, 1),
            "peak_memory_gib": round(peak_memory_gib(), 2),
            "of_it_with_the_model_loaded": round(loaded, 2),
            "texts": texts,
            "hardware": hardware_facts(runtime),
        }
    )


def in_own_process(
    way: str, prompts: list[list[int]], options: argparse.Namespace, temperature: float
) -> dict[str, Any]:
    """`measure` in a fresh interpreter."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(way, prompts, options, temperature, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise SystemExit(f"{way}: the process died without a result") from None
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=PROFILES["cpu"].track_b.model)
    parser.add_argument("--corpus", default=PROFILES["cpu"].corpus.spec)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--longest", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--new-tokens", type=int, default=PROFILES["cpu"].track_b.max_new_tokens)
    parser.add_argument("--batch", type=int, default=PROFILES["cpu"].track_b.generation_batch)
    parser.add_argument("--temperature", type=float, default=0.6, help="of the sampled part; 0: greedy only")
    parser.add_argument("--llama", type=Path, help="GGUF file of the same model, for llama.cpp's server")
    options = parser.parse_args()

    prompts = prompts_of(options.corpus, options.model, options.prompts, options.longest)
    compared = (*WAYS, LLAMA) if options.llama else WAYS
    report: dict[str, Any] = {"prompts": len(prompts), "new_tokens_at_most": options.new_tokens}
    for temperature in dict.fromkeys((0.0, options.temperature)):
        name = f"sampled at {temperature:g}" if temperature else "greedy"
        ways = {way: in_own_process(way, prompts, options, temperature) for way in compared}
        alone, *others = (ways[way].pop("texts") for way in ways)
        report["hardware"] = [way.pop("hardware") for way in ways.values()][-1]
        report[name] = {**ways}
        for unit in ("second", "cpu_second"):
            slowest, *speeds = (ways[way][f"tokens_per_{unit}"] for way in compared)
            report[name][f"speedup_per_{unit}"] = [round(speed / slowest, 1) for speed in speeds]
        if not temperature:
            report[name]["same_texts"] = [
                sum(a == b for a, b in zip(alone, texts, strict=True)) for texts in others
            ]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
