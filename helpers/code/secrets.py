"""Masking of keys, tokens and passwords in source text, before anything is trained on it.

The detectors come from detect-secrets. They find providers' keys, credentials in URLs, values assigned
to names such as `password`, and random-looking strings. They run on text in memory: nothing is verified
over a network and nothing is written. Assigned values and random-looking strings count only together
with other evidence (see `_assigned` and `_random_looking`), since source code is full of hashes,
alphabets and words such as "password".

A secret becomes a word such as `MASKED_AWS_ACCESS_KEY`, which is the same for all secrets of its kind.
Inside a literal the code still parses, and no line moves. Secrets are only counted, never kept or
shown. Secrets that no detector knows are missed; `python -m detect_secrets` lists what is covered.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name

from detect_secrets.filters import heuristic
from detect_secrets.plugins import basic_auth, keyword
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString

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
# Secrets that the library does not know yet: kind -> pattern.
NEWER_FORMS = {
    "GitHub Token": re.compile(r"\bgithub_pat_[A-Za-z0-9_]{60,}"),
    "Google API Key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}(?![\w-])"),
    "Hugging Face Token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "NPM Token": re.compile(r"\bnpm_[A-Za-z0-9]{36}\b|(?<=:_authToken=)[\w-]{20,}"),
    "OpenAI Token": re.compile(r"\bsk-(?:proj|svcacct|ant|or)-[A-Za-z0-9_-]{20,}"),
}
ENTROPY_DETECTORS = (Base64HighEntropyString(limit=4.5), HexHighEntropyString(limit=3.0))
PRIVATE_KEY, KEYWORD, URL = "Private Key", keyword.KeywordDetector.secret_type, "Basic Auth Credentials"
MAX_KEY_CHARS = 16_000
KEY_BEGIN = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-*")
KEY_END = re.compile(r"-*END [A-Z0-9 ]*PRIVATE KEY")
KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{40,}")  # a key has a line at least this long
ESCAPE_OR_RUN = re.compile(r"\\[nrt]|[A-Za-z0-9+/=]{4,}")
NAMES_A_SECRET = re.compile(r"key|token|secret|passw|pwd|credential|auth|api", re.IGNORECASE)
MAX_LINE_CHARS = 2_000  # longer lines are not searched for names: they are data, and slow to search
# Minimum length and entropy per character of a value with a secret's name; "aaa111" has 1 bit.
MIN_KEYWORD_CHARS, MIN_KEYWORD_BITS = 6, 2.5
MIN_RANDOM_CHARS = 20
TOKEN_REST = re.compile(r"[\w-]*")  # a pattern may end before the token does
# Names of algorithms and versions contain digits but are not secrets: sha256, utf8, pbkdf2, v2.
TECHNICAL = re.compile(
    r"(?<![A-Za-z])(?:sha|md|utf|base|pbkdf|hs|rs|es|aes|rsa|ec|ed|p|v|x|oauth|ipv|s|latin|iso|cp|int|ascii)"
    r"[-_]?\d+(?![A-Za-z0-9])",
    re.IGNORECASE,
)
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


def mask_secrets(text: str) -> Masked:
    """Replace every secret that the detectors find; line numbers stay. Masking again changes nothing."""
    without_keys = _without_private_keys(text)
    text = without_keys.text
    parts: list[str] = []
    kinds = list(without_keys.kinds)
    at = 0
    for start, end, kind in sorted(_secrets(text), key=lambda span: (span[0], -span[1])):
        if start >= at and not text.startswith(MASK, start):
            parts += [text[at:start], placeholder(kind)]
            kinds.append(kind)
            at = end
    return Masked("".join([*parts, text[at:]]), tuple(kinds))


def placeholder(kind: str) -> str:
    """Return the word that replaces every secret of a kind."""
    return MASK + re.sub(r"[^A-Z0-9]+", "_", kind.upper()).strip("_")


def holds_secret(text: str) -> bool:
    """Return whether what code printed or returned may hold a secret, such as any random-looking string."""
    return bool(mask_secrets(text).kinds) or any(True for _ in _random_looking(text, named=False))


def count_kinds(kinds: tuple[str, ...]) -> dict[str, int]:
    """Return kind -> number of secrets, sorted by kind."""
    return dict(sorted(Counter(kinds).items()))


def _secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, kind) of every secret except private keys, in no particular order."""
    for detector in _detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                start, end = _span(match)
                value = text[start:end]
                found = detector.analyze_string(match.group())
                if _has_letters_and_digits(value) and any(True for _ in found):
                    yield start, end, detector.secret_type
    for kind, pattern in NEWER_FORMS.items():
        for match in pattern.finditer(text):
            yield *match.span(), kind
    for pattern in basic_auth.BasicAuthDetector.denylist:
        for match in pattern.finditer(text) if "://" in text else ():
            value = match.group(1)
            if not PLACEHOLDER_PASSWORD.fullmatch(value) and not re.search(r"[{}<>%]", value):
                yield *match.span(1), URL
    for line in re.finditer(r"[^\n]+", text):
        if len(line.group()) <= MAX_LINE_CHARS and NAMES_A_SECRET.search(line.group()):
            yield from _assigned(line.group(), line.start())
    yield from _random_looking(text, named=True)


def _assigned(line: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Yield quoted values assigned to a name such as `password` that look like a chosen secret."""
    for pattern, group in keyword.QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP.items():
        for match in pattern.finditer(line):
            if _looks_chosen(match.group(group)):
                start, end = match.span(group)
                yield offset + start, offset + end, KEYWORD


def _looks_chosen(value: str) -> bool:
    """Return whether a value has letters and digits (beyond `sha256`), and is no template or phrase."""
    plain = TECHNICAL.sub("", value)
    return (
        len(value) >= MIN_KEYWORD_CHARS
        and not re.search(r"\s|[{}<>()$]|%[sd(]|://", value)
        and _has_letters_and_digits(plain)
        and not value.startswith(MASK)
        and not heuristic.is_sequential_string(value)
        and _bits(value) >= MIN_KEYWORD_BITS
    )


def _random_looking(text: str, *, named: bool) -> Iterator[tuple[int, int, str]]:
    """Yield quoted strings of high entropy; if `named`, only on lines that name a key, token or password."""
    for line in re.finditer(r"[^\n]+", text):
        if named and not NAMES_A_SECRET.search(line.group()):
            continue
        for detector in ENTROPY_DETECTORS:
            for match in detector.regex.finditer(line.group()):
                value = match.group(2)
                if (
                    len(value) >= MIN_RANDOM_CHARS
                    and _has_letters_and_digits(value)
                    and not heuristic.is_sequential_string(value)
                    and not value.startswith(MASK)
                    and detector.calculate_shannon_entropy(value) > detector.entropy_limit
                ):
                    start, end = match.span(2)
                    yield line.start() + start, line.start() + end, detector.secret_type


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
    return start, TOKEN_REST.match(match.string, end).end()


def _has_letters_and_digits(value: str) -> bool:
    return bool(re.search(r"[A-Za-z]", value) and re.search(r"\d", value))


def _bits(value: str) -> float:
    """Return the Shannon entropy per character, in bits."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


@cache
def _detectors() -> tuple[RegexBasedDetector, ...]:
    return tuple(resolve_name(f"detect_secrets.plugins.{name}")() for name in PROVIDERS)
