"""Tokens with their brackets: what encloses each, what it is an argument of, where its statement begins."""

from __future__ import annotations

from helpers.code.assignment_words import CLOSES, CONTINUES, ELSE, NO_TARGETS, OPENS
from helpers.code.literals import NAME, STRING, Lexeme
from helpers.code.secret_names import strength_of

FORWARD = 400  # tokens looked back through within one statement or argument
NO_CALLERS = NO_TARGETS | {"in", "and", "or", "for", "print"}
ENDS_OF_VALUE = {".", "[", "=", ")", ","} | ELSE
JOINS = {".", "+", "?", ":", "=", "::", ")"} | ELSE


class Bracketed:
    """Tokens without comments, with the bracket around each and the partner of each bracket."""

    def __init__(self, tokens: list[Lexeme], language: str) -> None:
        """Pair the brackets; one without a partner encloses everything after it."""
        self.tokens = tokens
        self.is_text = not language
        self.is_python = language in ("python", "")
        self.alternatives = ELSE if language else {"||", "??"}  # "or" and "?" of prose are none
        self.texts = [token.text if token.kind != STRING else "" for token in tokens]
        self.around: list[int] = []  # token -> the bracket that encloses it, or -1
        self.depth: list[int] = []  # token -> number of brackets around it
        self.opener: dict[int, int] = {}  # closing bracket -> opening bracket
        self.closer: dict[int, int] = {}
        stack = [-1]
        for at, text in enumerate(self.texts):
            if text in CLOSES and len(stack) > 1 and self.texts[stack[-1]] == CLOSES[text]:
                self.opener[at] = stack.pop()
                self.closer[self.opener[at]] = at
            self.around.append(stack[-1])
            self.depth.append(len(stack) - 1)
            if text in OPENS:
                stack.append(at)

    def text(self, at: int) -> str:
        """Return a token's text; "" for strings and beyond the ends."""
        return self.texts[at] if 0 <= at < len(self.texts) else ""

    def is_string(self, at: int) -> bool:
        """Return whether a token is a string."""
        return 0 <= at < len(self.tokens) and self.tokens[at].kind == STRING

    def is_name(self, at: int) -> bool:
        """Return whether a token is a name."""
        return 0 <= at < len(self.tokens) and self.tokens[at].kind == NAME

    def is_pair(self, bracket: int) -> bool:
        """Return whether a bracket holds two values and nothing else."""
        inside = [k for k in range(bracket + 1, self.closer.get(bracket, bracket)) if self.text(k) != "\n"]
        return len(inside) < 12 and sum(self.text(k) == "," for k in inside[:-1]) == 1

    def split(self, places: list[int]) -> list[list[int]]:
        """Return tokens in groups, as commas part them."""
        signs = [self.text(k) for k in places]
        has_types = not self.is_python and signs.count("<") == signs.count(">")
        groups: list[list[int]] = [[]]
        depth = 0
        for k, sign in zip(places, signs, strict=True):
            depth += (sign == "<") - (sign == ">") if has_types else 0
            if sign == "," and not depth:
                groups.append([])
            else:
                groups[-1].append(k)
        return groups

    def lead(self, at: int) -> tuple[list[int], int]:
        """Return the tokens before `at` in its statement or argument, and the commas before that in brackets.

        What stands in brackets of its own counts as its closing bracket alone.
        """
        bracket = self.around[at]
        is_block = bracket < 0 or (self.text(bracket) == "{" and not self.is_python)
        lead: list[int] = []
        k = at - 1
        while k > bracket and len(lead) < FORWARD:
            text = self.texts[k]
            if text == ";" or (text == "}" and is_block and self.text(k + 1) not in ENDS_OF_VALUE):
                break
            if text == "," and bracket >= 0 and self._parts_values(bracket):
                break
            if text == "\n":
                if is_block and not self._goes_on(k):
                    break
            elif k in self.opener:
                lead.append(k)
                k = self.opener[k]
            else:
                lead.append(k)
            k -= 1
        return lead[::-1], self._commas(
            k, max(bracket, k - FORWARD) if self.text(bracket) in ("(", "[") else k
        )

    def _commas(self, k: int, last: int) -> int:
        """Return the number of commas after one token and up to another, outside brackets between them."""
        commas = 0
        while k > last:
            if k in self.opener:
                k = self.opener[k]
            elif self.text(k) == ",":
                commas += 1
            k -= 1
        return commas

    def _parts_values(self, bracket: int) -> bool:
        """Return whether a comma right inside a bracket ends a value."""
        return self.text(bracket) != "{" or self.is_python or self._is_literal(bracket)

    def _is_literal(self, bracket: int) -> bool:
        """Return whether a brace opens an object or a list of values rather than a block."""
        first = bracket + 1
        while self.text(first) == "\n":
            first += 1
        if self.is_string(first) and self.text(first + 1) in (",", ":", "}", "=>"):
            return True
        if self.text(first) == "." or self.text(first + 1) == ",":
            return True  # as in C: (struct config){1, .password = "..."}
        before = self.text(bracket - 1)
        return before not in (")", "else", "try", "do", "finally", "\n", ";", "{", "}", "const", "static")

    def _goes_on(self, newline: int) -> bool:
        """Return whether an expression goes on over a line break."""
        before, after = newline - 1, newline + 1
        while self.text(before) == "\n":
            before -= 1
        while self.text(after) == "\n":
            after += 1
        colon_ends_line = self.text(before) == ":" and self.is_python and self.around[newline] < 0
        return (self.text(before) in CONTINUES and not colon_ends_line) or self.text(after) in JOINS

    def caller(self, bracket: int) -> int:
        """Return the token that names what a bracket calls, or -1."""
        k = bracket - 1
        if self.text(k) in ("!", "?"):
            k -= 1
        if self.text(k) in (">", "]") and self.text(k - 1) != "]":
            k = self._before_type(k, bracket)
            if self.text(bracket - 1) == "]" and self.text(k + 1) == "[":
                return k + 3 if self.text(k + 3) == "byte" else k
        return k if self.is_name(k) and self.text(k) not in NO_CALLERS else -1

    def _before_type(self, k: int, bracket: int) -> int:
        """Return the token before the type arguments, or the index, that end at `k`."""
        depth = 0
        while k >= 0 and bracket - k < 12:
            depth += (self.text(k) in (">", "]")) - (self.text(k) in ("<", "["))
            k -= 1
            if not depth:
                break
        return k - 1 if self.text(k) == "::" else k

    def chain_start(self, k: int) -> int:
        """Return where an expression such as `a.b(c).d` begins that ends at a token."""
        while k > 0:
            if k in self.opener:
                k = self.opener[k]
            before = self.text(k - 1)
            if before in (".", "::", "->", "?"):
                k -= 2
            elif self.text(k) == "(" and before == ">":
                k = self._before_type(k - 1, k)
            elif (self.text(k) in ("(", "[") and (self.is_name(k - 1) or k - 1 in self.opener)) or (
                before in ("]", "*", "&", "new", "await") and not self.is_string(k - 1)
            ):
                k -= 1
            else:
                break
        return max(k, 0)

    def operand(self, k: int) -> str:
        """Return the name of an operand such as `a.b(c).name` that begins at a token, or "".

        Calls at its end that say nothing of a secret are left out: `password.unwrap()`.
        """
        names: list[str] = []
        while k < len(self.texts):
            if self.is_name(k):
                is_call = self.text(k + 1) == "("
                if not (is_call and names and strength_of(names[-1]) >= max(1, strength_of(self.texts[k]))):
                    names.append(self.texts[k])
            elif self.texts[k] in ("(", "[") and names and k in self.closer:
                k = self.closer[k]
            elif self.texts[k] not in (".", "::", "->", "?", "*", "&", "!"):
                break
            k += 1
        return names[-1] if names else ""

    def arguments(self, bracket: int) -> list[int]:
        """Return where each argument begins, or each entry."""
        if bracket not in self.closer:
            return []
        begins = [bracket + 1]
        k = bracket + 1
        while k < self.closer[bracket]:
            if k in self.closer:
                k = self.closer[k]
            elif self.texts[k] == ",":
                begins.append(k + 1)
            k += 1
        return [self._after_line_breaks(k) for k in begins]

    def _after_line_breaks(self, k: int) -> int:
        while self.text(k) == "\n":
            k += 1
        return k
