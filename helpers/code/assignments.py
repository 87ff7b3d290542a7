"""Which name a string literal is given to, in any form of assignment of the supported languages.

The tokens before a literal are read backwards: an operator (`=`, `:=`, `:`, `=>`, `==`, `or`, `||`, ...)
leads to the name it assigns to, a bracket to the call, container or entry around it. So
`password: str = "..."`, `{"password": "..."}`, `environ.get("PASSWORD", "...")`,
`add_argument("--password", default="...")`, `#define PASSWORD "..."` and `user, password = "...", "..."`
are read by the same few rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helpers.code.literals import COMMENT, NAME, STRING, Lexeme
from helpers.code.secret_names import IDENTIFIER, SECRET, is_plural, parts_of_name, strength_of

ASSIGNS = {"=", ":=", "+=", ":", "=>", "||=", "??=", "==", "===", "!=", "!=="}
ELSE = {"or", "||", "??", "?:", "else", "?"}  # what follows stands in for what was before
OPENS, CLOSES = {"(": ")", "[": "]", "{": "}"}, {")": "(", "]": "[", "}": "{"}
CONTINUES = ASSIGNS | ELSE | {"+", ",", ".", "\\", "(", "[", "{", "->", "&", "and", "|", "await", "return"}
TYPES = {
    "str", "bytes", "string", "String", "byte", "error", "any", "object", "char", "int", "var", "let",
    "const", "val", "auto", "Text", "static", "final",
}  # fmt: skip
NO_TARGETS = {
    "public", "private", "protected", "default", "case", "lambda", "if", "elif", "while", "else", "return",
    "assert", "not", "await",
}  # fmt: skip
# A call to one of these returns what it is given, in another form.
SAME_VALUE = {
    "String", "str", "bytes", "from", "new", "to_string", "to_owned", "into", "encode", "Some", "Ok", "Just",
    "Field", "field", "SecretStr", "Secret", "SecretString", "Option", "option", "Value", "value", "default",
    "unwrap_or", "unwrap_or_else", "get_or_insert", "b64decode", "Buffer", "byte", "Optional", "of",
    "strdup", "string", "string_view", "from_str", "from_static", "Box", "Arc", "Rc", "Cow", "mark_safe",
    "valueOf", "quote", "unquote", "config", "env", "getenv", "cast", "typing", "Annotated", "str_to_bytes",
    "fromhex", "unhexlify", "decode", "toCharArray", "Literal", "Ref", "ref", "signal", "useState",
    "String2", "intern", "text", "Zeroizing", "SecretVec", "Final", "bytearray", "memoryview", "freeze",
    "trim", "strip", "join", "concat",
}  # fmt: skip
GETS = {
    "get", "fetch", "load", "read", "find", "look", "lookup", "query", "select", "input", "prompt",
    "require", "open", "import", "has", "contains", "exists", "remove", "delete", "pop", "env", "var", "log",
    "print", "warn", "error", "info", "debug", "raise", "throw", "format", "render", "translate", "gettext",
    "describe", "argument", "option", "flag", "split", "replace", "match", "search", "starts", "startswith",
    "ends", "endswith", "pattern", "re", "compile", "t", "it", "tr", "i", "getpass",
}  # fmt: skip
SETS = re.compile(
    r"(?i:set|with|use|put|add|assign|update|store|save|register|configure|sign|authenticate|login|connect)"
    r"(?=[A-Z_])_?"
)
COMPARES = {
    "equals", "equalsIgnoreCase", "compareTo", "compare", "eq", "equal", "assign", "append", "push_str",
    "set", "push",
}  # fmt: skip
LOGS_IN = re.compile(r"auth|login|credential|connect|create_?(?:super_?)?user|wifi", re.IGNORECASE)
KEYED = re.compile(r"jwt|hmac|fernet|cipher", re.IGNORECASE)
VALUE_ANNOTATIONS = {"Value", "DefaultValue", "ConfigProperty"}
DEFINES = {"def", "fn", "func", "function"}
# An argument or attribute of this name holds the value that another name names.
NEUTRAL = {
    "default", "value", "initial", "fallback", "const", "default_value", "defaultValue", "initialValue",
    "initial_value", "data", "text",
}  # fmt: skip
FORWARD = 400  # tokens looked back through within one statement or argument


@dataclass(frozen=True)
class Assigned:
    """String literals that make one value, and the name it is given to."""

    name: str
    strength: int  # of `secret_names.strength_of`
    pieces: tuple[Lexeme, ...]
    direct: bool  # assigned as it stands, not through a call or a container


def assigned_strings(tokens: Sequence[Lexeme], language: str) -> Iterator[Assigned]:
    """Yield the values of string literals that are given to a name that promises a secret.

    Args:
        tokens: of `literals.lexemes`, comments and line breaks included.
        language: of the text; "" if it is none.
    """
    code = _Code([token for token in tokens if token.kind != COMMENT], language)
    at = 0
    while at < len(code.tokens):
        if code.tokens[at].kind != STRING:
            at += 1
            continue
        pieces, after = code.chain(at)
        found = code.name_of(at) or code.compared_with(after) or code.annotated(at) or code.returned_by(at)
        if found and any(len(piece.text) >= 3 for piece in pieces):
            name, direct = found
            yield Assigned(name, strength_of(name), tuple(pieces), direct)
        at = after


class _Code:
    """Tokens without comments, with the bracket around each and the partner of each bracket."""

    def __init__(self, tokens: list[Lexeme], language: str) -> None:
        self.tokens = tokens
        self.is_python = language in ("python", "")
        self.alternatives = ELSE if language else {"||", "??"}  # "or" and "?" of prose are none
        self.around: list[int] = []  # token -> the bracket that encloses it, or -1
        self.opener: dict[int, int] = {}  # closing bracket -> opening bracket
        self.closer: dict[int, int] = {}
        stack: list[int] = []
        for at, token in enumerate(tokens):
            text = token.text if token.kind != STRING else ""
            if text in CLOSES and stack and tokens[stack[-1]].text == CLOSES[text]:
                self.opener[at] = stack.pop()
                self.closer[self.opener[at]] = at
            self.around.append(stack[-1] if stack else -1)
            if text in OPENS:
                stack.append(at)

    def text(self, at: int) -> str:
        """Return a token's text; "" for strings and beyond the ends."""
        inside = 0 <= at < len(self.tokens) and self.tokens[at].kind != STRING
        return self.tokens[at].text if inside else ""

    def is_string(self, at: int) -> bool:
        """Return whether a token is a string."""
        return 0 <= at < len(self.tokens) and self.tokens[at].kind == STRING

    def chain(self, at: int) -> tuple[list[Lexeme], int]:
        """Return the literals that are joined from here on, by nothing or by +, and where they end."""
        pieces = [self.tokens[at]]
        end = at + 1
        glue = {"+", "\\", ","} if self._is_concat(self.around[at]) else {"+", "\\"}
        while True:
            following = end
            while self.text(following) == "\n":
                following += 1
            if self.text(following) in glue:
                following += 1
            elif following > end and self.around[at] < 0 and self.is_python:
                break  # the next line is a statement of its own
            while self.text(following) == "\n":
                following += 1
            if not self.is_string(following):
                break
            pieces.append(self.tokens[following])
            end = following + 1
        return pieces, end

    def _is_concat(self, bracket: int) -> bool:
        """Return whether what a bracket encloses is joined, as by `concat!(...)` or `"".join([...])`."""
        if bracket < 0:
            return False
        names = [self.text(k) for k in range(max(0, bracket - 3), bracket)]
        closing = self.closer.get(bracket, -1)
        return bool({"concat", "join"} & set(names)) or (closing > 0 and self.text(closing + 2) == "join")

    def name_of(self, at: int) -> tuple[str, bool] | None:
        """Return the secret's name that the value at a token is given to, and whether directly."""
        direct = True
        nth = -1  # of the value within a tuple that was left
        wrapper: tuple[str, bool] | None = None
        for _ in range(6):
            lead, commas = self._lead(at)
            found = self._in_lead(lead, nth)
            if found is not None:
                return (found, direct) if found else wrapper
            bracket = self.around[at]
            if bracket < 0:
                return self._defined(lead) or wrapper
            kind = self.text(bracket)
            caller = self._caller(bracket)
            neutral = self._is_neutral(lead)
            if lead and not neutral and self._ends_in_assignment(lead) and kind == "(":
                return None  # another argument's value
            if kind == "(" and caller >= 0:
                decided, name, is_direct = self._in_call(bracket, caller, at, neutral)
                if decided and self.text(caller) in SAME_VALUE:
                    wrapper = (name, direct) if name else wrapper
                elif decided:
                    return (name, direct and is_direct) if name else wrapper
                direct = direct and self.text(caller) in SAME_VALUE
                at = self._chain_start(caller)
                nth = -1
            else:
                if kind == "[" and (
                    (caller >= 0 and self.text(bracket - 1) != "!") or bracket - 1 in self.opener
                ):
                    return None  # a subscript
                if not lead and (name := self._named_before(at)):
                    is_pair = name.startswith("-") or self._is_pair(bracket)
                    return name, direct and is_pair
                if kind == "{" and not self.is_python and caller >= 0 and not lead:
                    name = self._chain_name(caller)
                    if strength_of(name):
                        return name, direct
                if kind in "[{" and not (lead and kind == "{" and self._is_entry(lead)):
                    outer = self._outer_name(bracket)
                    return (outer, direct) if outer and strength_of(outer) >= SECRET else None
                if kind == "{":
                    outer = self._outer_name(bracket)
                    return (outer, False) if outer and is_plural(outer) else None
                if not lead and (name := self._named_before(at)) and self._is_pair(bracket):
                    return name, direct
                nth = commas
                at = bracket
        return None

    def compared_with(self, after: int) -> tuple[str, bool] | None:
        """Return the secret's name that follows a value and a comparison: `"..." == password`."""
        name = self.text(after + 1)
        return (name, True) if self.text(after) in ("==", "===") and strength_of(name) else None

    def annotated(self, at: int) -> tuple[str, bool] | None:
        """Return the secret's name of an annotated field, as in `@Value("...") String key`."""
        bracket = self.around[at]
        if bracket < 2 or self.text(bracket - 2) != "@" or self.text(bracket - 1) not in VALUE_ANNOTATIONS:
            return None
        k = self.closer.get(bracket, len(self.tokens)) + 1
        names = []
        while k < len(self.tokens) and self.text(k) not in (";", "=", "{", ")", ","):
            names.append(self.text(k))
            k += 1
        return (names[-1], True) if names and strength_of(names[-1]) else None

    def returned_by(self, at: int) -> tuple[str, bool] | None:
        """Return the name of the function, a secret's, that returns a value or ends with it."""
        bracket = self.around[at]
        if self.text(at - 1) not in ("return", "{", "\n") or (self.text(bracket) or "{") != "{":
            return None
        for k in range(at - 1, max(-1, at - 40), -1):
            opened = self.opener.get(k - 1, -1) if self.text(k) == "{" else -1
            name = (
                self.text(k + 1) if self.text(k) in DEFINES else self.text(opened - 1) if opened > 0 else ""
            )
            if name:
                name = re.sub(r"^(?:get|default|load|read)_?(?=\w)", "", name)
                is_value = self.text(at - 1) == "return" or self.text(k) == "fn"
                return (name, True) if strength_of(name) >= SECRET and is_value else None
        return None

    def _named_before(self, at: int) -> str:
        """Return the secret's name in the string just before a value, as in `("password", "...")`."""
        k = at - 1
        while self.text(k) == "\n":
            k -= 1
        if self.text(k) != ",":
            return ""
        k -= 1
        return self.tokens[k].text if self.is_string(k) and self._is_secret_string(k) else ""

    def _is_pair(self, bracket: int) -> bool:
        """Return whether a bracket holds two values and nothing else."""
        inside = [k for k in range(bracket + 1, self.closer.get(bracket, bracket)) if self.text(k) != "\n"]
        return len(inside) < 12 and sum(self.text(k) == "," for k in inside[:-1]) == 1

    def _outer_name(self, bracket: int) -> str:
        """Return the secret's name that a list, set or dictionary is given to, or ""."""
        if (
            self.text(bracket) == "{"
            and not self.is_python
            and self.text(bracket - 1) in (")", "else", "try", "")
        ):
            return ""
        found = self.name_of(bracket)
        return found[0] if found else ""

    def _is_entry(self, lead: list[int]) -> bool:
        return any(self.text(k) in (":", "=>", "=") for k in lead)

    def _ends_in_assignment(self, lead: list[int]) -> bool:
        return any(self.text(k) in ("=", ":") for k in lead)

    def _is_neutral(self, lead: list[int]) -> bool:
        """Return whether the argument's name says nothing, such as `default=`."""
        for place, k in enumerate(lead):
            if self.text(k) in ("=", ":"):
                return place > 0 and self.tokens[lead[place - 1]].text in NEUTRAL
        return False

    def _lead(self, at: int) -> tuple[list[int], int]:
        """Return the tokens before `at` in its statement or argument, and the commas before that in brackets.

        What stands in brackets of its own counts as its closing bracket alone.
        """
        bracket = self.around[at]
        is_block = bracket < 0 or (self.text(bracket) == "{" and not self.is_python)
        lead: list[int] = []
        commas = 0
        k = at - 1
        while k > bracket and len(lead) < FORWARD:
            text = self.text(k)
            if text == ";" or (text == "}" and is_block and not self._is_value_end(k)):
                break
            if text == "," and bracket >= 0 and self.text(bracket) != "{":
                break
            if text == "," and bracket >= 0 and (self.is_python or self._is_literal(bracket)):
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
        last = max(bracket, k - FORWARD) if self.text(bracket) == "(" else k
        while k > last:
            if k in self.opener:
                k = self.opener[k]
            elif self.text(k) == ",":
                commas += 1
            k -= 1
        return lead[::-1], commas

    def _is_value_end(self, k: int) -> bool:
        return self.text(k + 1) in {".", "[", "=", ")", ","} | ELSE

    def _is_literal(self, bracket: int) -> bool:
        """Return whether a brace opens an object or a list of values rather than a block."""
        first = bracket + 1
        while self.text(first) == "\n":
            first += 1
        if self.is_string(first) and self.text(first + 1) in (",", ":", "}", "=>"):
            return True
        before = self.text(bracket - 1)
        return before not in (")", "else", "try", "do", "finally", "\n", ";", "{", "}", "const", "static")

    def _goes_on(self, newline: int) -> bool:
        """Return whether an expression goes on over a line break."""
        before, after = newline - 1, newline + 1
        while self.text(before) == "\n":
            before -= 1
        while self.text(after) == "\n":
            after += 1
        joins = {".", "+", "?", ":", "=", "::", ")"} | ELSE
        colon_ends_line = self.text(before) == ":" and self.is_python and self.around[newline] < 0
        return (self.text(before) in CONTINUES and not colon_ends_line) or self.text(after) in joins

    def _in_lead(self, lead: list[int], nth: int) -> str | None:
        """Return the secret's name that a value is assigned to, "" for another name, None for no name."""
        place = len(lead) - 1
        fallen_back = False
        while place >= 0:
            text = self.text(lead[place])
            if text in self.alternatives:
                fallen_back = True
            elif text in ASSIGNS:
                if text == ":" and any(self.text(k) == "?" for k in lead[:place]):
                    place = next(p for p in range(place - 1, -1, -1) if self.text(lead[p]) == "?")
                    continue
                names = self._targets(lead, place, nth)
                for name in names:
                    if strength_of(name):
                        return name
                if text != "=>" and names and not set(names) & NEUTRAL and not fallen_back:
                    earlier = any(self.text(k) in ("=", ":=") for k in lead[:place])
                    bracket = self.around[lead[place]]
                    is_entry = bracket >= 0 and self.text(bracket) in "[{"
                    if not earlier and not is_entry:
                        return ""
            elif fallen_back and (name := self._named_by(lead[place])):
                return name
            place -= 1
        return None

    def _named_by(self, at: int) -> str:
        """Return the secret's name that an operand before `or` names: a name, or a string in its brackets."""
        if at in self.opener:
            for k in range(self.opener[at] + 1, at):
                if self.is_string(k) and self._is_secret_string(k):
                    return self.tokens[k].text
            return ""
        return (
            self.tokens[at].text if self.tokens[at].kind == NAME and strength_of(self.tokens[at].text) else ""
        )

    def _is_secret_string(self, at: int) -> bool:
        content = self.tokens[at].text.strip()
        return len(content) < 80 and bool(IDENTIFIER.fullmatch(content)) and strength_of(content) > 0

    def _targets(self, lead: list[int], place: int, nth: int) -> list[str]:
        """Return the names left of an operator that may be what it assigns to, the likeliest first."""
        left = lead[:place]
        after = [k for k in lead[place + 1 :] if self.text(k) == ","]
        for p in range(len(left) - 1, -1, -1):  # of `a = "x", b = "y"` only `b` is meant
            if self.text(left[p]) in ("=", ":=") or self.text(left[p]) in NO_TARGETS:
                left = left[p + 1 :]
                break
        left = _after_last_comma_of_assignment(self, lead, left)
        nth = nth if nth >= 0 else len(after)
        groups = self._split(left)
        if len(groups) == 1 and len(left) == 1 and left[0] in self.opener and self.text(left[0]) == ")":
            inner = list(range(self.opener[left[0]] + 1, left[0]))
            groups = self._split(inner)
        if len(groups) > 1:
            left = groups[min(nth, len(groups) - 1)]
        colons = [p for p, k in enumerate(left) if self.text(k) == ":"]
        if colons and colons[0] > 0:
            left = left[: colons[0]]
        names = self._names_at_end(left)
        if (
            names
            and len(groups) == 1
            and nth == 1
            and names[0].lower() in ("auth", "basic_auth", "credentials")
        ):
            return ["password"]
        return names

    def _split(self, left: list[int]) -> list[list[int]]:
        groups: list[list[int]] = [[]]
        for k in left:
            if self.text(k) == ",":
                groups.append([])
            else:
                groups[-1].append(k)
        return groups

    def _names_at_end(self, left: list[int]) -> list[str]:
        """Return the last name of a target, and the one before where the last is a type or says nothing."""
        names: list[str] = []
        for k in reversed(left):
            if self.is_string(k):
                content = self.tokens[k].text.strip()
                return [*names, content if IDENTIFIER.fullmatch(content) else "_"]
            if k in self.opener and self.text(k) == "]":
                inner = range(self.opener[k] + 1, k)
                strings = [self.tokens[i].text for i in inner if self.is_string(i)]
                if strings:
                    return [*names, strings[-1]]
                constants = [self.tokens[i].text for i in inner if self.tokens[i].kind == NAME]
                if constants and strength_of(constants[-1]):
                    return [*names, constants[-1]]
            elif self.tokens[k].kind == NAME:
                names.append(self.tokens[k].text)
                if self.tokens[k].text not in TYPES | NEUTRAL:
                    return names
            elif self.text(k) not in ("*", "&", ".", "->", "?", "!", "\n", "[", "]", "::"):
                return names
        return names

    def _caller(self, bracket: int) -> int:
        """Return the token that names what a bracket calls, or -1."""
        k = bracket - 1
        if self.text(k) in ("!", "?"):
            k -= 1
        if self.text(k) in (">", "]") and self.text(k - 1) != "]":
            depth = 0
            while k >= 0 and bracket - k < 12:
                depth += (self.text(k) in (">", "]")) - (self.text(k) in ("<", "["))
                k -= 1
                if not depth:
                    break
            if self.text(k) == "::":
                k -= 1
            if self.text(bracket - 1) == "]" and self.text(k + 1) == "[":
                return k + 3 if self.text(k + 3) == "byte" else k
        elif self.tokens[k].kind == NAME if k >= 0 else False:
            pass
        else:
            return -1
        is_name = k >= 0 and self.tokens[k].kind == NAME
        return k if is_name and self.text(k) not in NO_TARGETS | {"in", "and", "or", "for", "print"} else -1

    def _chain_start(self, k: int) -> int:
        """Return where an expression such as `a.b(c).d` begins that ends at a token."""
        while k > 0:
            if k in self.opener:
                k = self.opener[k]
            before = self.text(k - 1)
            if before in (".", "::", "->", "?"):
                k -= 2
            elif (
                self.text(k) in ("(", "[") and (self.tokens[k - 1].kind == NAME or k - 1 in self.opener)
            ) or (before in ("]", "*", "&", "new", "await") and not self.is_string(k - 1)):
                k -= 1
            else:
                break
        return max(k, 0)

    def _chain_name(self, caller: int) -> str:
        return self.tokens[caller].text

    def _in_call(self, bracket: int, caller: int, at: int, neutral: bool) -> tuple[bool, str, bool]:
        """Return whether a call decides about its argument, the secret's name or "", and whether directly."""
        before: list[str] = []
        k = max(bracket + 1, at - FORWARD)
        nth = 0
        while k < at:
            if self.text(k) in OPENS:
                close = self.closer.get(k, k)
                k = close if close < at else k
            elif self.text(k) == ",":
                nth += 1
            elif self.is_string(k) and self._is_secret_string(k) and self.text(k - 1) in ("(", ",", "\n"):
                before.append(self.tokens[k].text)
            elif self.tokens[k].kind == NAME and strength_of(self.tokens[k].text) and self.text(k + 1) == ",":
                before.append("*" + self.tokens[k].text)
            k += 1
        callee = self.tokens[caller].text
        if before:
            copies = re.search(r"cpy|cmp|equal|compare|cat|set|assign", callee, re.IGNORECASE)
            name = before[-1]
            return (True, name.lstrip("*"), not name.startswith("*") or bool(copies))
        if callee in COMPARES and nth == 0 and self.text(caller - 1) in (".", "->", "::"):
            receiver = self.text(caller - 2)
            if strength_of(receiver):
                return True, receiver, True
        chain = "".join(self.text(k) for k in range(max(0, caller - 2), caller + 1))
        if nth >= 1 and LOGS_IN.search(chain):
            return True, "credentials", False
        if KEYED.search(chain):
            return True, "key", False
        strength = strength_of(callee)
        setter = SETS.match(callee)
        if setter and nth == 0 and strength_of(callee[setter.end() :]):
            return True, callee[setter.end() :], True
        if strength and not neutral:
            first = parts_of_name(callee)[0]
            is_plain = not self._gets(callee) and first not in ("make", "hash", "check", "is")
            if callee[0].isupper() and strength < SECRET:
                return True, callee, False
            return True, callee if is_plain else "", nth == 0 and is_plain and callee not in SAME_VALUE
        if self._gets(callee) and callee not in SAME_VALUE and not neutral:
            return True, "", False
        if callee in ("getenv", "env", "config", "get", "var") and nth == 0 and not neutral:
            return True, "", False
        return False, "", False

    def _gets(self, callee: str) -> bool:
        words = parts_of_name(callee) or [callee]
        return words[0] in GETS or words[-1] in ("argument", "option")

    def _defined(self, lead: list[int]) -> tuple[str, bool] | None:
        """Return the name of `#define NAME "..."`, or of Go's and shell's forms without an operator."""
        words = [self.text(k) for k in lead if self.text(k) != "\\"]
        if len(words) >= 2 and words[-2] == "define" and strength_of(words[-1]):
            return words[-1], True
        return None


def _after_last_comma_of_assignment(code: _Code, lead: list[int], left: list[int]) -> list[int]:
    """Return only what follows the comma where an assignment precedes it: `a = "x", b = "y"`."""
    if len(left) < len(lead) and left and lead[0] != left[0]:
        commas = [p for p, k in enumerate(left) if code.text(k) == ","]
        if commas:
            return left[commas[-1] + 1 :]
    return left
