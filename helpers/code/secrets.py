"""Masking of keys, tokens and passwords in source text, before anything is trained on it.

The detectors come from detect-secrets. They find the keys of providers. Passwords in URLs and values
that are given to names such as `password` are found here: `assignments` reads which name a literal is given
to, `secret_names` what the name promises, `secret_values` whether the value looks like a secret. All run on
text in memory: nothing is verified over a network and nothing is written.

A secret becomes a word such as `MASKED_AWS_ACCESS_KEY`, which is the same for all secrets of its kind.
Inside a literal the code still parses, and no line moves. Secrets are only counted, never kept or
shown. Secrets that no detector knows are missed; `python -m detect_secrets` lists what is covered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name

from detect_secrets.filters import heuristic
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString
from detect_secrets.plugins.keyword import KeywordDetector

from helpers.code.assignments import assigned_strings
from helpers.code.literals import ANY, COMMENT, STRING, Lexeme, lexemes
from helpers.code.secret_names import PASSWORD, SECRET, strength_of
from helpers.code.secret_values import (
    ENDS_TITLED,
    MIN_CHARS,
    SCHEME,
    is_mixed,
    is_random,
    is_wordy,
    looks_secret,
)

MASK = "MASKED_"
PROVIDERS = (  # detectors below `detect_secrets.plugins`
    "aws:AWSKeyDetector", "artifactory:ArtifactoryDetector", "azure_storage_key:AzureStorageKeyDetector",
    "cloudant:CloudantDetector", "discord:DiscordBotTokenDetector", "github_token:GitHubTokenDetector",
    "gitlab_token:GitLabTokenDetector", "ibm_cloud_iam:IbmCloudIamDetector",
    "ibm_cos_hmac:IbmCosHmacDetector", "jwt:JwtTokenDetector", "mailchimp:MailchimpDetector",
    "openai:OpenAIDetector", "pypi_token:PypiTokenDetector", "sendgrid:SendGridDetector",
    "slack:SlackDetector", "softlayer:SoftlayerDetector", "square_oauth:SquareOAuthDetector",
    "stripe:StripeDetector", "telegram_token:TelegramBotTokenDetector", "twilio:TwilioKeyDetector",
)  # fmt: skip
# Detectors whose patterns are slow to search for -> what stands in every text that they match.
_LONG_RUN = re.compile(r"(?<![a-z0-9])[a-z0-9]{24}", re.IGNORECASE)
_LONGER_RUN = re.compile(r"(?<![a-zA-z0-9_-])[a-zA-z0-9_-]{44}", re.IGNORECASE)
REQUIRED = {
    "cloudant": _LONG_RUN, "ibm_cos_hmac": _LONG_RUN, "softlayer": _LONG_RUN, "mailchimp": _LONG_RUN,
    "ibm_cloud_iam": _LONGER_RUN, "artifactory": re.compile("AKC|AP[0-9A-F]"),
}  # fmt: skip
# Secrets that the library does not know yet: kind -> pattern, and how the secret begins or what leads to it.
NEWER_FORMS = {
    "GitHub Token": (re.compile(r"\bgithub_pat_[A-Za-z0-9_]{60,}"), ("github_pat_",)),
    "Google API Key": (re.compile(r"\bAIza[0-9A-Za-z_-]{35}(?![\w-])"), ("AIza",)),
    "Hugging Face Token": (re.compile(r"\bhf_[A-Za-z0-9]{30,}"), ("hf_",)),
    "NPM Token": (
        re.compile(r"\bnpm_[A-Za-z0-9]{36}\b|(?<=:_authToken=)[\w-]{20,}"), ("npm_", ":_authToken="),
    ),
    "OpenAI Token": (re.compile(r"\bsk-(?:proj|svcacct|ant|or)-[A-Za-z0-9_-]{20,}"), ("sk-",)),
}  # fmt: skip
ENTROPY_DETECTORS = (Base64HighEntropyString(limit=4.5), HexHighEntropyString(limit=3.0))
PRIVATE_KEY, KEYWORD, URL = "Private Key", KeywordDetector.secret_type, BasicAuthDetector.secret_type
MAX_KEY_CHARS = 16_000
KEY_BEGIN = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-*")
KEY_END = re.compile(r"-*END [A-Z0-9 ]*PRIVATE KEY")
KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{40,}")  # a key has a line at least this long
ESCAPE_OR_RUN = re.compile(r"\\[nrt]|[A-Za-z0-9+/=]{4,}")
# Parts of words, in lower case, without which nothing in a text is given to a secret's name.
PARTS_OF_NAMES = (
    "key", "token", "secret", "passw", "phrase", "passcode", "pwd", "psw", "cred", "auth", "api", "jwt",
    "bearer", "basic", "cookie", "session", "identified", "-u ", "mysql", "sshpass", "connect", "user",
    "login", "hmac", "fernet", "cipher", "wifi", "recovery", "sequelize",
)  # fmt: skip
ENDS_OF_NAMES = re.compile(r"(?:[Pp]ass|PASS|[Pp]w|PW|_pat|_PAT)(?![a-z])|@(?:tcp|udp|unix)\(")
MIN_RANDOM_CHARS = 20
MIN_PAIR_CHARS = 8  # of the shortest name, a sign between, and the shortest value
TOKEN_REST = re.compile(r"[\w-]*")  # a pattern may end before the token does
# A password in a URL may hold any symbol but a slash, a quote or a space.
USER_INFO = re.compile(r"[A-Za-z][\w+.-]{1,20}://([^\s:/@'\"`<>]*):([^\s'\"`/<>]+)@(?=[\w\[{$%.-])")
AUTHORIZATION = re.compile(r"\b(?i:bearer|basic|token|apikey)[ :]\s*([A-Za-z0-9+/=._~-]{12,})(?![\w$({])")
# Unquoted values in strings and comments: lines of an env, INI or YAML file, parts of a connection string,
# options of a command, elements of XML, and SQL.
LINE_PAIR = re.compile(
    r"(?m)^[ \t]*(?:[-+#*>$] ?|//+ ?)?(?:export |set |ENV |env |SET )?[ \t]*([A-Za-z_][\w.-]*)[ \t]*[=:]"
    r"[ \t]*(?![\"'`])(\S+)[ \t]*(?=$|#|\\)"
)
PAIR = re.compile(
    r"(?<![\w-])([A-Za-z_][\w.-]*)[\"']?[ \t]*(?:=>|:=|=|:)[ \t]*(?![\"'`])(?=([^\s\"'`,;&<>]+))"
)
OPTION = re.compile(r"(?<!\w)--?([A-Za-z][\w-]+)(?:=|[ \t]+)(?!-)([^\s\"'`]+)")
ELEMENT = re.compile(r"<([A-Za-z][\w.-]*)>([^<>\s]+)</")
SPOKEN = re.compile(r"(?i)\b(password|identified by|passphrase|secret)[ \t]+'?([^\s\"'`,;]{8,})")
CURL_USER = re.compile(r"(?<!\S)-u[ \t]+([\w.@-]+):([^\s\"'`]+)")
MYSQL = re.compile(r"\b(mysql\w*|sshpass)\b[^\n\"'`]{0,80}?\s-p(?:(?<=sshpass -p) )?([^\s\"'`]{6,})")
LOGIN = re.compile(r"\b(login)\b[^\n\"'`]{0,80}?\s-p[ \t=]+([^\s\"'`]{6,})")  # docker login -u me -p ...
SET_PASSWORD = re.compile(r"(?i)\b(set password)\b[^\n\"'`]{0,60}'([^\n\"'`]{6,})'")  # of SQL
DATA_SOURCE = re.compile(r"(?<![\w/])([\w.-]+):([^\s@/\"'`]+)@(?=(?:tcp|udp|unix)\()")  # of Go's MySQL driver
ENV_LINE = re.compile(r"(?m)^[ \t]*(?:ENV|setenv|SetEnv|set -g?x)[ \t]+([A-Za-z_]\w*)[ \t]+(\S+)[ \t]*$")
STATED = re.compile(r"(?<![\w-])([A-Za-z_][\w-]*)[ \t]+(?:is|was|be)[ \t:]+([^\s\"'`,;]{8,})")
# A default beside a name, in a tag of Go.
TAGGED = re.compile(
    r"\b(?:env\w*|name|key|long|flag|yaml|json|mapstructure):\"([\w.-]+)[^\"\n]*\"[^`\n]*?[dD]efault\w*:\"([^\"\n]+)\""
)
DEFAULTED = re.compile(r"\$\{([A-Za-z_]\w*):?[-=]([^\s\"'`{}]+)\}")  # ${PASSWORD:-...} of a shell
# A header that a server sends on, or a setting: proxy_set_header X-Api-Key ...;
SENT = re.compile(
    r"\b(?:proxy_set_header|add_header|RequestHeader set|fastcgi_param|config(?:ure)? set|git config)"
    r"[ \t]+([\w-]+)[ \t]+([^\s\"'`;]+)"
)
INSERT = re.compile(r"(?i)\(([^()]+)\)\s*VALUES\s*\(([^()]+)\)")
OF_PASSWORDS = (SPOKEN, CURL_USER, MYSQL, LOGIN, SET_PASSWORD, DATA_SOURCE)
# Form -> what stands in each of its texts.
FORMS = {
    LINE_PAIR: "", PAIR: "", OPTION: "-", ELEMENT: "</", SPOKEN: " ", CURL_USER: "-u", MYSQL: "-p",
    DATA_SOURCE: "@", ENV_LINE: " ", STATED: " ", TAGGED: "efault",
    DEFAULTED: "${", SENT: " ", LOGIN: "-p",
    SET_PASSWORD: "'",
}  # fmt: skip
TEMPLATED = re.compile(r"[{}<>]|%[sd(]|\$\(|\$\{")
ESCAPED = re.compile(r"\\([nrt\"'`])")
CONTINUED = re.compile(r"\\\n[ \t]*")
# A line of a value, without its margins and without a backslash that continues it.
LINE_OF_VALUE = re.compile(r"(?!\\\n)\S(?:[^\n]*?\S)?(?=\s*\\?\n|\s*\Z)")
MAX_DEPTH = 2  # of code inside a string inside a string
PLACEHOLDER_PASSWORD = re.compile(
    r"(?:(?:my|your|the|user|some|db|a)?[-_ ]?)?"
    r"(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|key|credentials?|\*+|x+|\.+|p|auth|port|\d{1,5})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Masked:
    """A text with its secrets masked, and the kind of each secret found."""

    text: str
    kinds: tuple[str, ...]


def mask_secrets(text: str, language: str = "python") -> Masked:
    """Replace every secret that the detectors find; line numbers stay. Masking again changes nothing.

    Args:
        text: source code, or any text.
        language: a value of `languages.SUFFIXES`; "" for text that is no code.
    """
    without_keys = _without_private_keys(text)
    text = without_keys.text
    parts: list[str] = []
    kinds = list(without_keys.kinds)
    at = 0
    for start, end, kind in sorted(_secrets(text, language), key=lambda span: (span[0], -span[1])):
        if start >= at and not text.startswith(MASK, start):
            mask = placeholder(kind)
            parts += [text[at:start], LINE_OF_VALUE.sub(mask, text[start:end])]
            kinds.append(kind)
            at = end
    return Masked("".join([*parts, text[at:]]), tuple(kinds))


def placeholder(kind: str) -> str:
    """Return the word that replaces every secret of a kind."""
    return MASK + re.sub(r"[^A-Z0-9]+", "_", kind.upper()).strip("_")


def holds_secret(text: str) -> bool:
    """Return whether what code printed or returned may hold a secret, such as any random-looking string."""
    return bool(mask_secrets(text).kinds) or any(True for _ in _random_looking(text))


def count_kinds(kinds: tuple[str, ...]) -> dict[str, int]:
    """Return kind -> number of secrets, sorted by kind."""
    return dict(sorted(Counter(kinds).items()))


def _secrets(text: str, language: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, kind) of every secret except private keys, in no particular order."""
    stands = {pattern: bool(pattern.search(text)) for pattern in set(REQUIRED.values())}
    for name, detector in _detectors().items():
        if name in REQUIRED and not stands[REQUIRED[name]]:
            continue
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                start, end = _span(match)
                value = text[start:end]
                found = detector.analyze_string(match.group())
                if _has_letters_and_digits(value) and any(True for _ in found):
                    yield start, end, detector.secret_type
    for kind, (pattern, beginnings) in NEWER_FORMS.items():
        if any(beginning in text for beginning in beginnings):
            for match in pattern.finditer(text):
                yield *match.span(), kind
    yield from _in_urls(text)
    if _names_a_secret(text):
        yield from _assigned(text, language, 0, 0)


def _in_urls(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the passwords in URLs."""
    for match in USER_INFO.finditer(text) if "://" in text else ():
        user, value = match.groups()
        if value != user and not PLACEHOLDER_PASSWORD.fullmatch(value) and not TEMPLATED.search(value):
            yield *match.span(2), URL


def _assigned(text: str, language: str, offset: int, depth: int) -> Iterator[tuple[int, int, str]]:
    """Yield values that are given to a secret's name, in code and in what its strings and comments hold."""
    tokens = lexemes(text, language)
    for found in assigned_strings(tokens, language):
        value = CONTINUED.sub("", "".join(map(_fixed_part, found.pieces)))
        certain = not depth or (found.direct and _is_no_phrase(value))
        if certain and looks_secret(value, found.strength, direct=found.direct, name=found.name):
            for piece in found.pieces:
                scheme = SCHEME.match(piece.text)
                start = piece.start + (scheme.end() if scheme else 0)
                if value := text[start : piece.end].rstrip():
                    yield offset + start, offset + start + len(value), KEYWORD
    for token in tokens:
        if token.kind in (STRING, COMMENT) and _names_a_secret(token.text):
            inner = ESCAPED.sub(_same_length, token.text)
            yield from _unquoted(inner, offset + token.start)
            if depth < MAX_DEPTH and re.search("[\"'`]", inner):
                body = inner.lstrip("#/*") if token.kind == COMMENT else inner
                start = offset + token.start + len(inner) - len(body)
                yield from _assigned(body, ANY, start, depth + 1)


def _names_a_secret(text: str) -> bool:
    """Return whether a text may hold a secret's name; costs little."""
    if len(text) < MIN_PAIR_CHARS:
        return False
    lower = text.lower()
    return any(part in lower for part in PARTS_OF_NAMES) or bool(ENDS_OF_NAMES.search(text))


def _fixed_part(piece: Lexeme) -> str:
    """Return what a literal holds, without the expressions that an f-string evaluates."""
    if "f" not in piece.prefix and "t" not in piece.prefix:
        return piece.text
    return re.sub(r"\{[^{}]*\}", "{}", re.sub(r"\{\{|\}\}", "", piece.text))


def _same_length(escape: re.Match[str]) -> str:
    """Return what an escape stands for, in two characters, so that places stay."""
    return {"n": " \n", "r": "  ", "t": "  "}.get(escape.group(1), " " + escape.group(1))


def _unquoted(text: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Yield secrets that no quotes enclose, in the content of a string or comment."""
    for match in AUTHORIZATION.finditer(text):
        if looks_secret(match.group(1), SECRET) and (is_mixed(match.group(1)) or is_random(match.group(1))):
            yield offset + match.start(1), offset + match.end(1), KEYWORD
    yield from _inserted(text, offset)
    for form, sign in FORMS.items():
        for match in form.finditer(text) if sign in text else ():
            name, value = match.groups()
            strength = PASSWORD if form in OF_PASSWORDS else strength_of(name)
            if strength < PASSWORD and is_wordy(value) and not ENDS_TITLED.search(value):
                continue  # as in "Secret: never-shared-2"
            value = value.rstrip(",;") if form is not LINE_PAIR else value
            if (
                strength
                and _is_no_phrase(value)
                and not TEMPLATED.match(value)
                and looks_secret(value, strength)
            ):
                yield offset + match.start(2), offset + match.start(2) + len(value), KEYWORD


def _inserted(text: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Yield the secrets among the values that SQL inserts into columns of a secret's name."""
    for match in INSERT.finditer(text):
        at = match.start(2)
        for column, value in zip(match[1].split(","), match[2].split(","), strict=False):
            bare = value.strip().strip("'\"")
            if strength_of(column.strip(' \t\n`"[]')) >= PASSWORD and looks_secret(bare, PASSWORD):
                start = offset + at + value.index(bare)
                yield start, start + len(bare), KEYWORD
            at += len(value) + 1


def _is_no_phrase(value: str) -> bool:
    """Return whether a value is none of prose: it is mixed with digits, random, or of many words joined."""
    return is_mixed(value) or is_random(value, MIN_CHARS) or len(re.findall(r"\w[-_. ]\w", value)) >= 3


def _random_looking(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield quoted strings of high entropy, whatever they are given to."""
    for detector in ENTROPY_DETECTORS:
        for match in detector.regex.finditer(text):
            value = match.group(2)
            if (
                len(value) >= MIN_RANDOM_CHARS
                and _has_letters_and_digits(value)
                and not heuristic.is_sequential_string(value)
                and not value.startswith(MASK)
                and detector.calculate_shannon_entropy(value) > detector.entropy_limit
            ):
                yield *match.span(2), detector.secret_type


def _without_private_keys(text: str) -> Masked:
    """Mask everything between a key's BEGIN and END; a mere mention of either is not a key."""
    parts: list[str] = []
    at = 0
    for begin in KEY_BEGIN.finditer(text) if "PRIVATE KEY" in text else ():
        if begin.start() < at:
            continue
        end = KEY_END.search(text, begin.end(), begin.end() + MAX_KEY_CHARS)
        stop = end.start() if end else min(begin.end() + MAX_KEY_CHARS, len(text))
        body = text[begin.end() : stop]
        if KEY_LINE.search(body):
            parts += [text[at : begin.end()], (ESCAPE_OR_RUN if end else KEY_LINE).sub(_run_masked, body)]
            at = stop
    return Masked("".join([*parts, text[at:]]), (PRIVATE_KEY,) * (len(parts) // 2))


def _run_masked(run: re.Match[str]) -> str:
    """Mask a run of a key's base64; an escape such as \\n between two of its lines stays."""
    return run.group() if run.group().startswith("\\") else placeholder(PRIVATE_KEY)


def _span(match: re.Match[str]) -> tuple[int, int]:
    """Return where the secret is: the last group if that is long enough, else the match without quotes."""
    last = match.re.groups
    if last and len(match.group(last) or "") >= MIN_RANDOM_CHARS:
        return match.span(last)
    start = match.end() - len(match.group().lstrip(" \t\n\"'=:"))
    end = max(start, match.start() + len(match.group().rstrip(" \t\n\"'")))
    rest = TOKEN_REST.match(match.string, end)
    return start, rest.end() if rest else end


def _has_letters_and_digits(value: str) -> bool:
    return bool(re.search(r"[A-Za-z]", value) and re.search(r"\d", value))


@cache
def _detectors() -> dict[str, RegexBasedDetector]:
    """Return module -> detector."""
    return {name.split(":")[0]: resolve_name(f"detect_secrets.plugins.{name}")() for name in PROVIDERS}
