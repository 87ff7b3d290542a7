"""Write Ollama's Modelfile: where the weights are, how a conversation is written, where an answer ends.

Ollama does not read the Jinja template inside a GGUF file; it has templates of its own, in Go's language. The
form of the turns is found by asking the model's own template about conversations, is written in Go, and is
used only if it gives the very text that the model's template gives for other conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from helpers.models.infilling import infill_marks
from helpers.take_home.measured_model import ExportError, MeasuredModel

Conversation = Sequence[tuple[str, str]]  # (role, content)
MARKS = ("A first marker that ends nothing", "A second marker that ends nothing", "A third one")
ROLES = ("system", "user", "assistant")
# Conversations on which the form found has to agree with the model's own template.
TRIED: tuple[Conversation, ...] = (
    [("user", "Sort a list.")],
    [("user", "  def f(x):\n\n    return x\n")],
    [("system", "Answer in one line."), ("user", "Why?")],
    [("user", "a"), ("assistant", "b"), ("user", "c")],
    [("system", "s"), ("user", "{{ .Role }}"), ("assistant", '\'"""\''), ("user", "<b>\\n")],
)


@dataclass(frozen=True)
class TurnForm:
    """How a template writes a conversation: a text before and after what each role says."""

    first: str  # what comes before a conversation without a system message
    around: dict[str, tuple[str, str]]  # role -> (before, after)
    answer: str  # what asks for the answer

    def render(self, conversation: Conversation) -> str:
        """Return the text of a conversation that asks for an answer, as the Go template of `go` writes it."""
        begins = "" if conversation and conversation[0][0] == "system" else self.first
        turns = (f"{self.around[role][0]}{said}{self.around[role][1]}" for role, said in conversation)
        return begins + "".join(turns) + self.answer

    def go(self) -> str:
        """Return the form in Go's template language, for Ollama's `.Messages`."""
        parts = []
        if self.first:
            parts.append(f'{{{{ if ne (index .Messages 0).Role "system" }}}}{_go(self.first)}{{{{ end }}}}')
        parts.append("{{ range .Messages }}")
        for place, (role, (before, after)) in enumerate(self.around.items()):
            word = "else if" if place else "if"
            parts.append(f'{{{{ {word} eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(after)}')
        return "".join([*parts, "{{ end }}{{ end }}", _go(self.answer)])


def modelfile(measured: MeasuredModel, weights: str, context: int) -> str:
    """Return the Modelfile for the GGUF file `weights` beside it.

    Decoding is greedy, as the reported pass@1 is. Stops are the spellings of all end tokens.

    Raises:
        ExportError: if the model's chat template has another form than turns one after the other.
    """
    tokenizer = measured.tokenizer
    lines = [f"FROM ./{weights}", f'TEMPLATE """{template(tokenizer)}"""']
    for end in measured.ends:
        lines.append(f'PARAMETER stop "{tokenizer.convert_ids_to_tokens(end)}"')
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1", f"PARAMETER num_ctx {context}"]
    return "\n".join(lines) + "\n"


def template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the Go template: fill-in-the-middle for requests with a suffix, and the form of conversations.

    Without that form Ollama refuses a suffix, as is right for a model that was never trained on the marks.
    """
    form, marks = turn_form(tokenizer), infill_marks(tokenizer)
    if marks is None:
        return form.go()
    before, after, middle = marks.spelt
    fill = f"{_go(before)}{{{{ .Prompt }}}}{_go(after)}{{{{ .Suffix }}}}{_go(middle)}"
    return f"{{{{ if .Suffix }}}}{fill}{{{{ else }}}}{form.go()}{{{{ end }}}}"


def turn_form(tokenizer: PreTrainedTokenizerBase) -> TurnForm:
    """Find the form of a tokenizer's chat template.

    Raises:
        ExportError: if there is no template, or it does more than write turns one after the other.
    """
    if not tokenizer.chat_template:
        raise ExportError("this model has no chat template, so there is no form for Ollama; use --to gguf")

    def written(conversation: Conversation, ask: bool = True) -> str:
        turns = [{"role": role, "content": said} for role, said in conversation]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask))

    try:
        one, two, three = MARKS
        whole = written([("system", one), ("user", two), ("assistant", three), ("user", one)], ask=False)
        lone = written([("user", one)], ask=False)
        answer = written([("user", one)]).removeprefix(lone)
        start, rest = whole.split(one, 1)
        mid, rest = rest.split(two, 1)
        then, rest = rest.split(three, 1)
        again, last = rest.split(one, 1)
        after = last  # between two turns nothing shows where one ends; the last one ends alone
        pieces = (mid, then, again)
        if not all(piece.startswith(after) for piece in pieces):
            raise ValueError("turns end differently")
        user, assistant, user_again = (piece.removeprefix(after) for piece in pieces)
        first = lone.split(one, 1)[0].removesuffix(user)
        form = TurnForm(
            first, {"system": (start, after), "user": (user, after), "assistant": (assistant, after)}, answer
        )
        if user != user_again or any(form.render(said) != written(said) for said in TRIED):
            raise ValueError("turns depend on each other")
    except Exception as error:  # a template is a program of its own, and may raise anything
        raise ExportError(
            f"the chat template of this model cannot be written for Ollama ({error}); export with --to gguf "
            "and use llama.cpp's server, which reads the template in the file"
        ) from error
    return form


def _go(text: str) -> str:
    """Return text for a Go template inside the Modelfile's triple quotes."""
    if '"""' in text:
        raise ValueError('the template writes """')
    return text.replace("{{", '{{ "{{" }}')
