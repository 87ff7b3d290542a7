"""Keys, tokens and passwords in source text, replaced before anything is trained on it.

What a secret looks like is known by detect-secrets: its detectors of providers' keys, of credentials
in addresses, of values assigned to a secret's name and of random-looking strings. They run on text in
memory; nothing is verified over a network, nothing is written. Random-looking strings and values of
names count only together with other evidence (see `_assigned`, `_random_looking`): source code is
full of hashes, alphabets and words such as "password".

A secret becomes a word such as `MASKED_AWS_ACCESS_KEY`, the same for every one of its kind: inside
a literal the code still parses, and no line moves. Values are neither kept nor shown, only counted.
What no detector knows is not found; see `python -m detect_secrets` for what they cover.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from detect_secrets.filters import heuristic
from detect_secrets.plugins import (
    artifactory,
    aws,
    azure_storage_key,
    basic_auth,
    cloudant,
    discord,
    github_token,
    gitlab_token,
    ibm_cloud_iam,
    ibm_cos_hmac,
    jwt,
    keyword,
    mailchimp,
    openai,
    pypi_token,
    sendgrid,
    slack,
    softlayer,
    square_oauth,
    stripe,
    telegram_token,
    twilio,
)
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString

MASK = "MASKED_"
PROVIDERS: tuple[type[RegexBasedDetector], ...] = (
    aws.AWSKeyDetector, artifactory.ArtifactoryDetector, azure_storage_key.AzureStorageKeyDetector,
    cloudant.CloudantDetector, discord.DiscordBotTokenDetector, github_token.GitHubTokenDetector,
    gitlab_token.GitLabTokenDetector, ibm_cloud_iam.IbmCloudIamDetector, ibm_cos_hmac.IbmCosHmacDetector,
    jwt.JwtTokenDetector, mailchimp.MailchimpDetector, openai.OpenAIDetector,
    pypi_token.PypiTokenDetector, sendgrid.SendGridDetector, slack.SlackDetector,
    softlayer.SoftlayerDetector, square_oauth.SquareOAuthDetector, stripe.StripeDetector,
    telegram_token.TelegramBotTokenDetector, twilio.TwilioKeyDetector,
)  # fmt: skip
# Forms that the library does not know yet: kind, pattern.
NEWER_FORMS: tuple[tuple[str, str], ...] = (
    ("GitHub Token", r"\bgithub_pat_[A-Za-z0-9_]{60,}"),
    ("Google API Key", r"\bAIza[0-9A-Za-z_-]{35}(?![\w-])"),
    ("Hugging Face Token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("NPM Token", r"\bnpm_[A-Za-z0-9]{36}\b|(?<=:_authToken=)[\w-]{20,}"),
    ("OpenAI Token", r"\bsk-(?:proj|svcacct|ant|or)-[A-Za-z0-9_-]{20,}"),
)
PRIVATE_KEY, KEYWORD, URL = "Private Key", keyword.KeywordDetector.secret_type, "Basic Auth Credentials"
MAX_KEY_CHARS = 16_000
KEY_BEGIN = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-*")
KEY_END = re.compile(r"-*END [A-Z0-9 ]*PRIVATE KEY")
KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{40,}")  # one line of a key is at least so long
ESCAPE_OR_RUN = re.compile(r"\\[nrt]|[A-Za-z0-9+/=]{4,}")
NAMES_A_SECRET = re.compile(r"key|token|secret|passw|pwd|credential|auth|api", re.IGNORECASE)
MAX_LINE_CHARS = 2_000  # of a line searched for names: longer ones are data, and slow
MIN_KEYWORD_CHARS, MIN_KEYWORD_BITS = (
    6,
    2.5,
)  # of a value with a secret's name; "aaa111" has 1 bit a character
MIN_RANDOM_CHARS = 20
TOKEN_REST = re.compile(r"[\w-]*")  # patterns may end before the token does
# Names of algorithms and versions hold digits and are no secrets: sha256, utf8, pbkdf2, v2.
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
    """A text without its secrets, and the kind of each that was found."""

    text: str
    kinds: tuple[str, ...]


def mask_secrets(text: str) -> Masked:
    """Replace what the detectors find; lines keep their number, a masked text stays as it is."""
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
    """The word that stands for every secret of a kind."""
    return MASK + re.sub(r"[^A-Z0-9]+", "_", kind.upper()).strip("_")


def holds_secret(text: str) -> bool:
    """Whether a text that came out of running code may hold a secret: also any random-looking string."""
    return bool(mask_secrets(text).kinds) or any(True for _ in _random_looking(text, named=False))


def count_kinds(kinds: tuple[str, ...]) -> dict[str, int]:
    """Kind -> number, by name."""
    return dict(sorted(Counter(kinds).items()))


def _secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind) of everything found but private keys, in no order."""
    for detector, patterns in _detectors():
        for pattern in patterns:
            for match in pattern.finditer(text):
                start, end = _span(match)
                value = text[start:end]
                if _has_letters_and_digits(value) and any(
                    True for _ in detector.analyze_string(match.group())
                ):
                    yield start, end, detector.secret_type
    for kind, pattern in _newer_forms():
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
    """Quoted values that are given to a name such as `password`, where they look chosen to be one."""
    for pattern, group in keyword.QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP.items():
        for match in pattern.finditer(line):
            if _looks_chosen(match.group(group)):
                start, end = match.span(group)
                yield offset + start, offset + end, KEYWORD


def _looks_chosen(value: str) -> bool:
    """Letters and digits (those of `sha256` aside), no template, no words with blanks between them."""
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
    """Quoted strings of high entropy; with `named`, only on lines that name a key, token or password."""
    for line in re.finditer(r"[^\n]+", text):
        if named and not NAMES_A_SECRET.search(line.group()):
            continue
        for detector in _entropy_detectors():
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
    """Mask what lies between a key's BEGIN and END; a mere mention of either is no key."""
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
    """Base64 of a key masked; an escape such as \\n between two lines of it stays."""
    return run.group() if run.group().startswith("\\") else placeholder(PRIVATE_KEY)


def _span(match: re.Match[str]) -> tuple[int, int]:
    """Where the secret lies: the last group if it is one, else the match without its edges, to its end."""
    last = match.re.groups
    if last and len(match.group(last) or "") >= MIN_RANDOM_CHARS:
        return match.span(last)
    start, end = match.span()
    while start < end and match.string[start] in " \t\n\"'=:":
        start += 1
    while end > start and match.string[end - 1] in " \t\n\"'":
        end -= 1
    return start, TOKEN_REST.match(match.string, end).end()


def _has_letters_and_digits(value: str) -> bool:
    return bool(re.search(r"[A-Za-z]", value) and re.search(r"\d", value))


def _bits(value: str) -> float:
    """Shannon entropy per character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


@cache
def _detectors() -> tuple[tuple[RegexBasedDetector, tuple[re.Pattern[str], ...]], ...]:
    return tuple((made, tuple(made.denylist)) for made in (kind() for kind in PROVIDERS))


@cache
def _newer_forms() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(pattern)) for kind, pattern in NEWER_FORMS)


@cache
def _entropy_detectors() -> tuple[Base64HighEntropyString | HexHighEntropyString, ...]:
    return Base64HighEntropyString(limit=4.5), HexHighEntropyString(limit=3.0)
