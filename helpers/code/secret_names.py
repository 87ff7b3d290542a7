"""Names that promise a secret: `DB_PASSWORD` and `apiKey` do, `password_field` and `primary_key` do not."""

from __future__ import annotations

import re
from functools import lru_cache

PASSWORD, SECRET, PERHAPS = 3, 2, 1  # how firmly a name promises a secret

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
PASSWORDS = {
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "passwort",
    "psw",
    "pswd",
    "pass_phrase",
    "userpwd",
}
SECRETS = {
    "secret", "apikey", "apisecret", "secretkey", "accesskey", "privatekey", "authkey", "authtoken", "jwt",
    "bearer", "psk",
}  # fmt: skip
CREDENTIALS = {"credential", "cred", "creds", "authorization", "token", "sessionid"}
# In one word with others: dbpassword, accesstoken.
PASSWORD_END = re.compile(r"(?:password|passwd|passphrase|passcode)$")
SECRET_END = re.compile(r"(?:secret|apikey|secretkey|accesskey|privatekey|authtoken|accesstoken)$")
# What a key is of, or for, if it is a secret.
SECRET_KEYS = {
    "secret", "api", "private", "access", "auth", "authentication", "authorization", "encryption", "encrypt",
    "decrypt", "decryption", "crypto", "cipher", "signing", "sign", "signature", "signer", "master", "app",
    "application", "account", "service", "license", "licence", "hmac", "aes", "des", "fernet", "jwt",
    "session", "webhook", "deploy", "deployment", "client", "admin", "server", "host", "storage",
    "subscription", "shared", "security", "root", "stripe", "aws", "gcp", "azure", "google", "openai",
    "anthropic", "github", "gitlab", "sendgrid", "mailgun", "twilio", "datadog", "sentry", "algolia",
    "integration", "partner", "vault", "rsa", "ssh", "tls", "ssl", "ssn", "bot", "write", "ingest", "cookie",
    "flask", "django", "cdn", "ftp", "smtp", "sms", "maps", "payment", "billing", "merchant",
    "preshared",
}  # fmt: skip
HARMLESS_KEYS = {
    "public", "pub", "primary", "foreign", "sort", "partition", "cache", "dict", "dictionary", "map", "hash",
    "row", "routing", "registry", "lookup", "index", "group", "grouping", "order", "column", "field",
    "object", "json", "yaml", "config", "option", "setting", "settings", "translation", "i18n", "locale",
    "message", "event", "menu", "tab", "item", "node", "edge", "attribute", "attr", "shortcut", "hot",
    "arrow", "idempotency", "composite", "unique", "candidate", "surrogate", "natural", "next", "prev",
    "previous", "first", "last", "current", "selected", "query", "search", "filter", "label", "entry",
    "metadata", "property", "prop", "state", "store", "redux", "bucket", "memo", "react", "vue", "widget",
    "section", "route", "name", "title", "theme", "style", "color", "css", "template", "feature", "flag",
    "dedup", "dedupe", "topic", "min", "max", "sorted", "data",
}  # fmt: skip
HOLDERS = {
    "password", "passwd", "pwd", "pass", "token", "key", "username", "user", "email", "credential",
    "credentials", "apikey",
}  # fmt: skip
HARMLESS_TOKENS = {
    "next", "page", "continuation", "eos", "bos", "pad", "unk", "sep", "cls", "mask", "special", "start",
    "end", "stop", "begin", "separator", "delimiter", "current", "prev", "previous", "last", "first", "peek",
    "lookahead", "word", "lexer", "parser", "syntax", "comment", "string", "number", "operator", "keyword",
    "open", "close", "left", "right", "n", "num", "max", "min", "total", "new", "input", "output", "prompt",
    "completion", "cancellation", "css", "design", "sync",
}  # fmt: skip
# Passes that take a password: db_pass, smtp_pass. Others are passes over something.
PASS_OF = {
    "db", "database", "smtp", "user", "admin", "root", "mysql", "pg", "postgres", "postgresql", "mongo",
    "redis", "ftp", "sftp", "mail", "email", "imap", "login", "my", "ssh", "proxy", "http", "https", "app",
    "auth", "ldap", "account", "service", "client", "server", "rabbit", "rabbitmq", "mq", "sql", "oracle",
    "keystore", "truststore", "store", "key",
    "wifi",
}  # fmt: skip
STAGES = {"prod", "production", "dev", "development", "staging", "test", "local"}
NO_VALUE_BEFORE = {
    "is", "has", "no", "not", "without", "needs", "need", "require", "requires", "required", "show", "hide",
    "toggle", "forgot", "forgotten", "reset", "change", "changed", "invalid", "wrong", "missing",
    "incorrect", "bad", "bogus", "max", "min", "num", "n", "count", "total", "allow", "disable", "enable",
    "error", "about", "label", "msg", "message", "title", "help", "input", "field", "url", "path", "file",
    "name", "use", "uses", "should", "can", "verify", "validate", "check", "prompt", "ask", "get", "read",
    "load", "parse", "find", "fetch", "public", "example", "sample",
}  # fmt: skip
NO_VALUE_AFTER = {
    "name", "names", "field", "fields", "type", "types", "url", "uri", "urls", "link", "header", "headers",
    "prefix", "suffix", "path", "paths", "file", "files", "filename", "dir", "directory", "folder", "label",
    "labels", "hint", "help", "message", "messages", "msg", "error", "errors", "regex", "pattern", "re",
    "format", "length", "len", "size", "count", "index", "idx", "position", "pos", "column", "col", "table",
    "param", "params", "parameter", "arg", "args", "argument", "attr", "attribute", "class", "classes",
    "selector", "title", "placeholder", "policy", "rule", "rules", "algorithm", "algo", "alg", "hasher",
    "method", "scheme", "digest", "sha256", "sha1", "sha512", "sha", "md5", "checksum", "fingerprint",
    "endpoint", "host", "hostname", "port", "expiry", "expires", "expiration", "lifetime", "ttl", "age",
    "scope", "scopes", "issuer", "audience", "charset", "alphabet", "chars", "characters", "description",
    "desc", "doc", "docs", "example", "examples", "template", "status", "state", "event", "action", "kind",
    "version", "reset", "strength", "validator", "validators", "encoder", "generator", "manager", "service",
    "provider", "backend", "form", "page", "view", "route", "screen", "widget", "input", "element", "button",
    "icon", "prompt", "text", "caption", "tooltip", "identifier", "ref", "reference", "arn", "resource",
    "location", "source", "env", "environ", "envvar", "variable", "var", "usage", "command", "cmd", "option",
    "mode", "category", "enum", "style", "color", "id", "ids", "modal", "dialog", "key_name", "map",
    "mapping", "bytes_length", "bits", "set", "list", "separator", "delimiter", "limit", "rotation", "key",
    "keys", "mgr", "realm", "processor", "required", "exists", "is", "valid", "invalid", "changed",
    "expired", "missing", "created", "updated", "revoked", "uuid", "info", "property", "properties",
}  # fmt: skip
PHRASES = {
    ("pass", "word"),
    ("pass", "phrase"),
    ("pass", "code"),
    ("seed", "phrase"),
    ("recovery", "phrase"),
    ("backup", "phrase"),
    ("recovery", "code"),
}
IDENTIFIER = re.compile(r"(?:--?)?[A-Za-z_][\w.-]*(?::[\w.-]+)?(?:\[\])?")


@lru_cache(maxsize=100_000)
def strength_of(name: str) -> int:
    """Return how firmly a name promises a secret: PASSWORD, SECRET, PERHAPS, or 0 if it does not.

    >>> [strength_of(name) for name in ("DB_PASSWORD", "apiKey", "token", "password_field", "primary_key")]
    [3, 2, 1, 0, 0]
    """
    words = parts_of_name(name)
    for at in reversed(range(len(words))):
        strength = _strength_at(words, at)
        if strength:
            return 0 if set(words[at + 1 :]) & NO_VALUE_AFTER else strength
    return 0


def is_plural(name: str) -> bool:
    """Return whether a name promises several secrets, such as `API_KEYS`."""
    return bool(re.search(r"(?:s|S)(?:_?[A-Z]+)?$", name)) and strength_of(name) > 0


def parts_of_name(name: str) -> list[str]:
    """Return the words of a name in snake, kebab or camel case, in lower case."""
    return [word.lower() for word in WORD.findall(name)]


def _strength_at(words: list[str], at: int) -> int:
    """Return the strength of the word at a place, given the words before it."""
    word, before = words[at], words[:at]
    one = word.removesuffix("s") if word not in ("pass", "sms") else word
    if one in PASSWORDS or PASSWORD_END.search(one) or tuple(words[max(0, at - 1) : at + 1]) in PHRASES:
        strength = PASSWORD
    elif one == "pass":
        rest = words[at + 1 :]
        is_verb = bool(rest) and not (set(rest) <= STAGES or rest[-1].isdigit())
        alone = 0 if before or is_verb else SECRET  # pass_context, passValue
        strength = PASSWORD if before and before[-1] in PASS_OF else alone
    elif one == "pw":
        strength = PASSWORD
    elif one == "pat":
        strength = SECRET if before and before[-1] in ("github", "gh", "gitlab", "azure", "devops") else 0
    elif one in SECRETS or SECRET_END.search(one):
        strength = SECRET
    elif one in CREDENTIALS:
        if one == "token" and before and before[-1] in HARMLESS_TOKENS:
            return 0
        if word == "tokens" and not set(before) & (SECRET_KEYS | {"refresh", "bearer", "personal"}):
            return PERHAPS  # of a lexer or a text
        named = one in ("authorization", "credential", "cred", "creds") or before
        strength = SECRET if named else PERHAPS
    elif one == "key":
        if before and before[-1] in HARMLESS_KEYS | HOLDERS:
            return 0
        strength = SECRET if set(before) & SECRET_KEYS else PERHAPS
    elif one == "auth":
        strength = PERHAPS
    else:
        return 0
    return 0 if set(before[:1]) & NO_VALUE_BEFORE and one != "key" else strength
