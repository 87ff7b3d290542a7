"""Continue code with the language model that a finished run adapted to its repository.

Reads two things from the run folder: the adapter (`track_a/train/adapter`), which names its base model, and
`run.json`, which records the window that the adapter was trained with. With retrieved code in the prompt,
also what `helpers.tools.retrieved_prompt` names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from helpers.errors import SuiteError
from helpers.eval.completion_comparison import ARMS
from helpers.eval.completion_task import ADAPTER
from helpers.lines import lines_of
from helpers.machine.hardware import Runtime, set_seed
from helpers.models.causal_lm import load_adapted, load_causal_lm
from helpers.models.generation import end_ids
from helpers.models.infilling import infill_marks
from helpers.models.token_borders import HeldText, held_back
from helpers.models.tokens import continuation, last_ids
from helpers.run.folder import newest_run_with
from helpers.run.workspace import read_json
from helpers.tools.retrieved_prompt import chosen_context, retrieving_prompt


class CompletionError(SuiteError, ValueError):
    """There is nothing to continue: no adapted model, no text, or no room for an answer."""


@dataclass(frozen=True)
class PromptSource:
    """Which model continues a prompt, and what is known of the place that it comes from."""

    arm: str = "adapted"  # of `helpers.eval.completion_comparison.ARMS`
    file: Path | None = None  # that the prompt stands in; nothing of it is retrieved


def prompt_from(text: str | None, file: Path | None, line: int | None) -> str:
    """Return the code to continue: `text`, or `file` up to and including line `line`.

    Lines count from 1; without `line` the whole file is used.

    Raises:
        CompletionError: unless exactly one of `text` and `file` is given and it is not empty.
    """
    if (text is None) == (file is None):
        raise CompletionError("give the code to continue as --prompt TEXT, or as --file FILE with --line N")
    if text is not None and line is not None:
        raise CompletionError("--line goes with --file, not with --prompt")
    if file is not None:
        try:
            lines = lines_of(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise CompletionError(f"cannot read {file}: {reason}") from error
        if line is not None and not 1 <= line <= len(lines):
            raise CompletionError(f"{file} has {len(lines)} lines; --line {line} is not one of them")
        text = "".join(lines[:line])
    if not text.strip():
        raise CompletionError("there is no code to continue: the prompt is empty")
    return text


def complete_code(
    run_folder: Path,
    prompt: str,
    runtime: Runtime,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    source: PromptSource | None = None,
    on_text: Callable[[str], None] = lambda text: None,
) -> str:
    """Return what a model of the run in `run_folder` writes after `prompt`, without the prompt.

    Prompt and answer together must fit into the window that the adapter was trained with. A longer
    prompt loses its start.

    Args:
        max_tokens: longest answer; it ends sooner at one of the model's end tokens.
        temperature: 0 decodes greedily, above 0 samples from the whole vocabulary.
        source: which model writes, and whether code is retrieved; by default the adapted one, without.
        on_text: called with each piece of the answer as soon as it is written.

    Raises:
        CompletionError: if the run has no adapted model, or an argument is out of range.
        RetrievalError: if code is to be retrieved and the run cannot.
        ModelError: if the adapter's base model cannot be loaded.
    """
    spec, window = _base_and_window(run_folder)
    if not 1 <= max_tokens < window:
        raise CompletionError(
            f"--max-tokens must lie between 1 and {window - 1} for this model, not {max_tokens}"
        )
    if temperature < 0:
        raise CompletionError(f"--temperature must be 0 (greedy) or above, not {temperature:g}")
    model, tokenizer, read, held = _model_and_prompt(
        run_folder, spec, prompt, source or PromptSource(), window - max_tokens, runtime
    )
    ids = torch.tensor([read], device=model.device)
    first = HeldText(tokenizer, held) if held else None
    set_seed(seed)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    streamer = _Pieces(tokenizer, read, held, on_text)
    with torch.inference_mode():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens + (first.most_before if first else 0),
            eos_token_id=sorted(end_ids(model, tokenizer)),
            pad_token_id=tokenizer.pad_token_id,
            streamer=streamer,
            logits_processor=LogitsProcessorList([_HeldFirst(first, len(read))] if first else []),
            stopping_criteria=StoppingCriteriaList([_Enough(first, len(read), max_tokens)] if first else []),
            **(sampling if temperature else {"do_sample": False}),
        )
    return streamer.text


def _model_and_prompt(
    run_folder: Path, spec: str, prompt: str, source: PromptSource, room: int, runtime: Runtime
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[int], str]:
    """Load the model of an arm; return it, its tokenizer, what it reads and what it has to write first."""
    if source.arm not in ARMS:
        raise CompletionError(f"there is no arm {source.arm!r}; there are {', '.join(ARMS)}")
    chosen = chosen_context(run_folder) if source.arm.endswith("+retrieved") else None
    is_adapted = source.arm.startswith("adapted")
    model, tokenizer = (
        load_adapted(spec, run_folder / ADAPTER, runtime) if is_adapted else load_causal_lm(spec, runtime)
    )
    in_the_middle = chosen is not None and infill_marks(tokenizer) is not None
    held = "" if in_the_middle else held_back(tokenizer, prompt)
    room = max(1, room - (HeldText(tokenizer, held).most_before if held else 0))
    if chosen is None:
        return model, tokenizer, last_ids(tokenizer, prompt.removesuffix(held), room), held
    read, _ = retrieving_prompt(
        run_folder, chosen, tokenizer, prompt, source.file, room=room, runtime=runtime
    )
    return model, tokenizer, read, held


def newest_adapted_run(runs: Path) -> Path:
    """Return the newest run folder below `runs` that holds an adapted language model, or raise."""
    found = newest_run_with(runs, (ADAPTER,))
    if found is None:
        raise CompletionError(
            f"there is no run with an adapted language model below {runs}/: make one with `make run`, or "
            "name one with --run"
        )
    return found


class _HeldFirst(LogitsProcessor):
    """Lets a model write what was held back from its prompt before anything else."""

    def __init__(self, held: HeldText, prompt_tokens: int) -> None:
        self.held, self.prompt_tokens = held, prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Rule out, in `scores` (1, vocabulary), the tokens that may not come next."""
        only = self.held.next_tokens(input_ids[0, self.prompt_tokens :].tolist())
        if only is None:
            return scores
        left = torch.full_like(scores, float("-inf"))
        left[:, only] = scores[:, only]
        return left


class _Enough(StoppingCriteria):
    """Ends a text after `most` tokens; those that hold nothing but what was held back are not counted."""

    def __init__(self, held: HeldText, prompt_tokens: int, most: int) -> None:
        self.held, self.prompt_tokens, self.most = held, prompt_tokens, most

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        """Return, as one truth value, whether the text of `input_ids` (1, tokens) has ended."""
        new = input_ids[0, self.prompt_tokens :].tolist()
        return torch.tensor([len(new) - self.held.count_before(new) >= self.most], device=input_ids.device)


class _Pieces(BaseStreamer):
    """A streamer that passes text on as it becomes final: a word or a line at a time.

    transformers' own decodes each line by itself, which costs it a blank under Llama-style tokenizers.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: list[int], held: str, on_text: Callable[[str], None]
    ) -> None:
        self.tokenizer, self.prompt, self.held, self.on_text = tokenizer, prompt, held, on_text
        self.new: list[int] = []
        self.text = ""  # passed on so far
        self.has_begun = False

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt at the first call, then new tokens."""
        if self.has_begun:
            self.new += value.flatten().tolist()
            known = self._written()
            self._pass_on(known[: max(known.rfind(" "), known.rfind("\n")) + 1])
        self.has_begun = True

    def end(self) -> None:
        """Pass on what is left."""
        self._pass_on(self._written())

    def _written(self) -> str:
        return continuation(self.tokenizer, self.prompt, self.new)[len(self.held) :]

    def _pass_on(self, final: str) -> None:
        if len(final) > len(self.text):
            piece, self.text = final[len(self.text) :], final
            self.on_text(piece)


def _base_and_window(run_folder: Path) -> tuple[str, int]:
    """Return base model and window of the adapter in `run_folder`."""
    if not run_folder.is_dir():
        raise CompletionError(
            f"there is no run in {run_folder}: make one with `make run`, or name its folder"
        )
    try:
        spec = read_json(run_folder / ADAPTER / "adapter_config.json")["base_model_name_or_path"]
        window = read_json(run_folder / "run.json")["profile"]["track_a"]["window"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CompletionError(
            f"{run_folder} holds no adapted language model of Track A ({ADAPTER}): either it is not a run "
            "folder below runs/, or that track did not finish; make a run with `make run`"
        ) from error
    return spec, window
