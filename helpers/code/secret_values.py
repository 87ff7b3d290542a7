"""Values that look like a secret: random, or chosen as a password, rather than words, paths or templates.

How much a value has to show depends on the name it is given to (`secret_names`) and on whether it is given
to it directly. Under `PASSWORD = ` any long value counts that is not a label, placeholder, sentence, path or
template. Under `key = ` it has to look random.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

from helpers.code.secret_names import PASSWORD, SECRET, parts_of_name

MIN_CHARS, MIN_BITS = 8, 2.0  # of a value under a firm name; "aaa111" has 1 bit per character
MIN_SHORT_CHARS = 6  # if letters, digits and perhaps symbols are mixed
MIN_RANDOM_CHARS = 16
MIN_LETTERS_ONLY = 12  # of a random value without digits
# The pairs of letters that make up at least 0.06% of all pairs in words of Python's standard library; they
# cover 94% of its pairs, and 42% of all possible ones.
FREQUENT_PAIRS = frozenset(
    row[0] + letter
    for row in [
        "aabcdfgiklmnprstuvwxy",
        "babceijlorsuy",
        "cacdehiklmorstu",
        "dacdefilorstu",
        "eabcdefgilmnopqrstvwxy",
        "faefilorstu",
        "gaehilnorsu",
        "haeiort",
        "iabcdefglmnoprstvxz",
        "keis",
        "lacdeilopstuy",
        "mabdeilmopsuy",
        "nacdefgiklnopstuv",
        "oabcdfgiklmnoprstuvw",
        "paehiloprstuy",
        "qu",
        "racdefgiklmnoprstuvy",
        "saceghiklmopstuy",
        "tacdefhilmnoprstuy",
        "uabcdefilmnprst",
        "vaei",
        "waeinors",
        "xceipt",
        "ynpsty",
        "zez",
    ]
    for letter in row[1:]
)
CHUNK = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^A-Za-z\d]+")
# Names of algorithms and versions contain digits but are not secrets: sha256, utf8, pbkdf2, v2.
TECHNICAL = re.compile(
    r"(?<![A-Za-z])(?:sha|md|utf|base|pbkdf|hs|rs|es|aes|rsa|ec|ed|p|v|x|oauth|ipv|s|latin|iso|cp|int|ascii|argon|"
    r"bcrypt|scrypt|blake|http|tls|ssl|rfc|secp|curve|chacha|poly|uint|float)[-_]?\d{1,5}(?![A-Za-z0-9])",
    re.IGNORECASE,
)
TEMPLATE = re.compile(
    r"\$\{[^}\n]*\}|\$\([^)\n]*\)|\{\{.*?\}\}|\{%.*?%\}|\{[\w.!:\[\]]*\}|%\(\w+\)[a-z]|<%.*?%>"
    r"|<[A-Za-z][\w -]*>|\[[A-Za-z][\w -]*\]|%[A-Za-z_]\w{2,}%"
    r"|(?:^|(?<=[\s/:=@-]))\$[A-Z_]{3,}\b|__[A-Za-z]\w*__|@@\w+@@"
)
# As people choose passwords, and write hardly anything else: letters, digits and a symbol, no separators.
CHOSEN = re.compile(r"(?=.*\d)(?=.{8})[A-Za-z\d](?=.*[!#$%^*+~]|.*[?@&]$)[A-Za-z\d!#$%^*+~?@&]*")
# Letters, digits and symbols in turns, so long that no pattern, format or selector looks like it.
SCRAMBLED = re.compile(
    r"(?=.{24})(?=(?:[^\d\n]*\d){3})(?:[A-Za-z\d]{0,12}[!@#$%^&*()_=+-]{1,3}){5,}[A-Za-z\d]{0,12}"
)
DIRECTIVE = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?l*[sdrvqxfi](?![A-Za-z\d])")
PLACEHOLDER = re.compile(
    r"\b(?:your|changeme|change|replace|insert|placeholder|example|dummy|redacted|todo|fixme|enter|goes|here|xxx+|"
    r"masked|removed|hidden|not|set|none|null|undefined|sample|fill)\b",
    re.IGNORECASE,
)
CREDENTIAL_WORDS = {
    "password", "passwords", "passwd", "pwd", "pass", "passphrase", "passcode", "passwort", "secret",
    "secrets", "token", "tokens", "key", "keys", "apikey", "auth", "authorization", "authentication",
    "oauth", "credential", "credentials", "bearer", "jwt", "api", "access", "login", "csrf", "xsrf",
    "session", "sessionid", "cookie", "username", "user", "signin", "pw", "refresh", "header", "field",
    "input", "param",
}  # fmt: skip
ACRONYMS = {
    "smtp", "ldap", "mysql", "sql", "http", "https", "xml", "json", "html", "css", "db", "aws", "gcp", "ssh",
    "ftp", "sftp", "tls", "ssl", "dns", "url", "uri", "api", "sdk", "cli", "gpg", "pgp", "rsa", "hmac",
    "sha", "md5", "csv", "pdf", "png", "svg", "jpg", "tmp", "src", "dst", "str", "cfg", "ctx", "env", "var",
    "lib", "bin", "www", "ns", "k8s", "mq", "rpc", "grpc", "id", "ui", "ux",
}  # fmt: skip
OWNERS = {
    "settings", "config", "process", "self", "this", "app", "env", "environ", "os", "sys", "errors",
    "messages", "form", "labels", "request", "data",
}  # fmt: skip
LABELS = {
    "required", "optional", "missing", "invalid", "incorrect", "expired", "string", "boolean", "integer",
    "number", "object", "hidden", "visible", "disabled", "enabled", "forgotten", "confirm", "confirmation",
    "unknown", "anonymous", "default", "undefined", "identifier", "keyword", "operator", "literal",
    "punctuation", "whitespace", "comment", "newline", "basic", "digest", "negotiate", "kerberos",
    "plaintext", "encrypted", "readonly", "contraseña", "kennwort", "senha", "parola", "heslo", "salasana",
    "lösenord", "losenord", "adgangskode", "wachtwoord", "motdepasse", "strong", "medium", "current",
    "generate", "generated", "random", "rotate", "rotated", "external", "internal", "environment",
    "production", "development", "staging", "changed", "unchanged", "nothing", "something", "anything",
}  # fmt: skip
LOCATION = re.compile(
    r"(?:https?|wss?|file|env|vault|ssm|arn|op|kms|secret|data|urn|mailto|projects?|gcp|aws|sops|ref):[/\w]|"
    r"(?:\.{0,2}|~)/[\w.@:{*-]|[A-Za-z]:\\|(?:[\w-]+/)*[\w.-]+\.(?:json|ya?ml|toml|txt|pem|key|crt|cer|env|cfg|ini|conf|py|js|ts|"
    r"go|rs|java|html?|css|xml|properties|keystore|jks|p12|pub|db|php|tsx?|jsx?|vue|svg|png|md|log|lock)$"
    r"|(?:projects|vault|secrets?|arn|kubernetes\.io|application|text|image|refs|prod|dev|staging)/[\w./-]+$"
    r"|[a-z_-]+\d{0,4}(?:/[a-z_-]*\d{0,4})+$"
)
# Parts of a regular expression: a class with a range, a group of its own kind, a count.
REGEX = re.compile(r"\[\^?(?:A-Z|a-z|0-9|\\[wds])|\(\?[:=!<P]|\\[wdsbS][+*]|\{\d+(?:,\d*)?\}")
# A type with arguments or rules for a form: varchar(64), required|min:8.
CALL_OR_RULES = re.compile(r"[a-z_]+\([\w, ]*\)|[a-z_]+(?::\w+)?(?:\|[a-z_]+(?::\w+)?)+")
ENDS_TITLED = re.compile(r"[^A-Z][A-Z][a-z]+\d{3,}\Z")  # as passwords do, and names rarely
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[A-Za-z]{2,})+")
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:\d{2}[\d:.]*(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|\d{1,2}:\d{2}(?::\d{2})?"
)
HASH_OF_A_PASSWORD = re.compile(
    r"(?:pbkdf2_|argon2|bcrypt|scrypt|sha\d|md5)\w*\$.+\$.+|\$[\da-z-]+\$.{20,}|\{S?SHA\d*\}.{20,}"
)
PUBLIC = re.compile(
    r"ssh-(?:rsa|ed25519|dss) |ecdsa-sha2|-----BEGIN (?:PUBLIC|CERTIFICATE|RSA PUBLIC)|sha(?:256|384|512)[-:]"
)
SCHEME = re.compile(
    r"\A(?i:bearer|basic|token|apikey|api-key|digest|key|jwt|negotiate|aws4-hmac-sha256)[ :=]+(?=\S)"
)


def looks_secret(value: str, strength: int, *, direct: bool = True, name: str = "") -> bool:
    """Return whether a value that is given to a name of this strength is a secret.

    Args:
        value: what the literal holds, escapes and all.
        strength: of `secret_names.strength_of`, above 0.
        name: that it is given to; a value that repeats it is none.
        direct: whether the value is assigned as it stands; if not, it stands in a call or a container.
    """
    value = _in_ascii(re.sub(r"\\([^\w])", r"\1", value).strip())
    value = SCHEME.sub("", value, count=1)
    if len(value) < MIN_SHORT_CHARS or value.startswith("MASKED_") or PUBLIC.match(value):
        return False
    words = parts_of_name(name)
    if words and parts_of_name(value)[-len(words) :] == words:
        return False
    if HASH_OF_A_PASSWORD.fullmatch(value):
        return True
    if CALL_OR_RULES.fullmatch(value) or (EMAIL.fullmatch(value) and is_wordy(value)):
        return False
    if REGEX.search(value) and not is_random(REGEX.sub("", value), 24):
        return False
    rest = DIRECTIVE.sub("", TEMPLATE.sub("", value)) if len(value) < 200 else value
    if len(rest) != len(value) and (len(rest) < MIN_CHARS or is_wordy(rest) or not is_mixed(rest)):
        return False
    if bits(value) < MIN_BITS or is_sequence(value) or DATE.fullmatch(value):
        return False
    if re.search(r"\s", value):
        return strength >= SECRET and direct and _is_secret_phrase(value, strength)
    if LOCATION.match(value) and (re.match(r"[a-z]+://", value) or is_wordy(value)):
        return False
    if strength < SECRET or not direct:
        is_token = re.fullmatch(r"[\w+/=.~-]+", value) and not UUID.fullmatch(value)
        if strength < SECRET:
            return is_random(value) if is_token else direct and _is_scrambled(value)
        return is_random(value, MIN_CHARS) or bool(CHOSEN.fullmatch(value) and is_mixed(value))
    return _is_chosen(value, strength)


def _in_ascii(value: str) -> str:
    """Return a word that holds digits with an ASCII letter for each letter of another alphabet.

    All rules know ASCII letters alone. Words without digits stay: they are labels in people's languages.
    """
    if value.isascii() or not re.search(r"\d", value) or re.search(r"\s", value):
        return value
    return "".join(
        chr(ord("a") + ord(sign) % 26) if sign.isalpha() and not sign.isascii() else sign for sign in value
    )


def _is_scrambled(value: str) -> bool:
    """Return whether a value is drawn from letters, digits and symbols, as Django's startproject does."""
    return bool(SCRAMBLED.fullmatch(value)) and len(set(re.sub(r"\w", "", value))) >= 3 and is_random(value)


def is_random(value: str, least: int = MIN_RANDOM_CHARS) -> bool:
    """Return whether a value without spaces is long and made of anything but words."""
    if len(value) < least or bits(value) < 2.8 or is_sequence(value) or re.search(r"\s", value):
        return False
    has_digit = bool(re.search(r"\d", TECHNICAL.sub("", value)))
    letters = re.findall(r"[A-Za-z]", value)
    if not letters:
        return False
    if not has_digit:
        pairs = [f"{a}{b}".lower() for a, b in re.findall(r"(?=([A-Za-z])([A-Za-z]))", value)]
        rare = sum(pair not in FREQUENT_PAIRS for pair in pairs)
        return (
            len(letters) >= MIN_LETTERS_ONLY and rare > 0.35 * len(pairs) and not re.search(r"[_./:-]", value)
        )
    return not is_wordy(value)


def is_wordy(value: str) -> bool:
    """Return whether a value consists of words, with a few digits between them, as names do.

    >>> [is_wordy(value) for value in ("assignVariablesTab1482SelectedItem", "kX9vQ2mZp4Lw", "node_1")]
    [True, False, True]
    """
    chunks = CHUNK.findall(TECHNICAL.sub("", value))
    letters = [chunk for chunk in chunks if chunk[0].isalpha()]
    numbers = [chunk for chunk in chunks if chunk[0].isdigit()]
    in_words = sum(len(chunk) for chunk in letters if len(chunk) >= 3 and is_word(chunk))
    total = sum(map(len, letters))
    if not total:
        return not numbers
    many_numbers = len(numbers) > max(1, len(letters) / 2) or sum(map(len, numbers)) > max(4, total / 2)
    symbols = sum(len(chunk) for chunk in chunks if not chunk[0].isalnum())
    return not many_numbers and in_words >= 0.7 * total and symbols <= max(2, 0.3 * len(value))


def is_word(letters: str) -> bool:
    """Return whether letters could be a word: few rare pairs, and neither vowels nor consonants alone."""
    letters = letters.lower()
    if not letters.isascii() or letters in ACRONYMS or letters in CREDENTIAL_WORDS:
        return True
    pairs = [first + second for first, second in itertools.pairwise(letters)]
    rare = sum(pair not in FREQUENT_PAIRS for pair in pairs)
    return rare <= max(1, 0.3 * len(pairs)) and (len(letters) < 4 or bool(re.search("[aeiouy]", letters)))


def is_mixed(value: str) -> bool:
    """Return whether letters stand beside digits that belong to no technical term."""
    if not (re.search(r"[A-Za-z]", value) and re.search(r"\d", value)):
        return False
    plain = TECHNICAL.sub("", value)
    return bool(re.search(r"\d", plain)) or not is_wordy(plain)


def is_sequence(value: str) -> bool:
    """Return whether most characters follow the one before them, as in an alphabet."""
    steps = [ord(second) - ord(first) for first, second in itertools.pairwise(value)]
    return sum(step in (0, 1, -1) for step in steps) > 0.6 * max(1, len(steps))


def bits(value: str) -> float:
    """Return the Shannon entropy per character, in bits."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _is_chosen(value: str, strength: int) -> bool:
    """Return whether a value without spaces under a firm name is more than a label or placeholder."""
    words = [chunk.lower() for chunk in CHUNK.findall(value) if chunk[0].isalpha()]
    wordy = is_wordy(value) or set(words) <= CREDENTIAL_WORDS
    if wordy and PLACEHOLDER.search(" ".join(words)):
        return False
    is_name = bool(re.fullmatch(r"[\W_]*[A-Za-z][\w.:/ -]*[\W_]*", value))
    separated = bool(re.search(r"[A-Za-z][_.:/-]+[A-Za-z\d]", value))
    if wordy and is_name and set(words) & CREDENTIAL_WORDS and (separated or not is_mixed(value)):
        return False
    dotted = bool(re.fullmatch(r"(?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*(?:\(\))?", value)) and wordy
    dotted = dotted and not ENDS_TITLED.search(value)
    if wordy and not is_mixed(value) and re.search(r"\w[.:]+\w*[A-Z:]", value):
        return False  # package.module:Class
    if dotted and (strength < PASSWORD or set(words) & OWNERS or value.endswith("()")):
        return False  # settings.SECRET_KEY
    if is_mixed(value):
        mixed_enough = len(value) >= MIN_CHARS or strength == PASSWORD or len(set(value)) >= 6
        return mixed_enough and not (
            TECHNICAL.search(value) and is_wordy(TECHNICAL.sub("", value)) and separated
        )
    if len(value) < MIN_CHARS:
        return False
    if re.fullmatch(r"[\d.,: +-]+", value):
        return len(value) >= 10 and bits(value) > 2.5
    bare = value.rstrip(":.?!*… ")
    if not wordy:
        return not TECHNICAL.search(value) and bool(re.search("[A-Za-z]", value)) and len(value) >= 10
    if re.search(r"[!@#$%^&*+=~?|]", bare):
        is_plain = bool(set(words) & (CREDENTIAL_WORDS | LABELS)) or "|" in bare
        return strength == PASSWORD and not is_plain
    if set(words) & LABELS or set(words) & CREDENTIAL_WORDS:
        return False
    return (
        strength == PASSWORD
        and is_name
        and (len(words) >= 4 or (len(words) == 1 and len(bare) >= 12 and bare.islower()))
    )


def _is_secret_phrase(value: str, strength: int) -> bool:
    """Return whether words with spaces are a passphrase, or hold a part that no sentence would."""
    parts = value.split()
    odd = [part for part in parts if len(part) >= MIN_CHARS and is_mixed(part) and not is_wordy(part)
           and not DATE.search(part) and not LOCATION.match(part)]  # fmt: skip
    if odd and sum(map(len, odd)) >= 0.5 * len(value):
        return True
    if len(parts) <= 4 and not any(is_wordy(part) for part in parts) and is_mixed(value):
        return len(value) >= MIN_RANDOM_CHARS
    plain = all(re.fullmatch("[a-z]{3,}", part) for part in parts)
    return (
        strength == PASSWORD
        and plain
        and len(parts) >= 4
        and not set(parts) & (FUNCTION_WORDS | CREDENTIAL_WORDS)
    )


FUNCTION_WORDS = {
    "the", "a", "an", "is", "are", "was", "be", "to", "of", "for", "from", "in", "on", "at", "by", "with",
    "without", "and", "or", "not", "your", "you", "this", "that", "must", "can", "cannot", "should", "will",
    "may", "has", "have", "had", "does", "did", "please", "enter", "choose", "use", "used", "if", "as",
    "than", "too", "it", "its", "no", "new", "any", "all", "which",
}  # fmt: skip
