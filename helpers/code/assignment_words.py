"""The words and signs by which code gives a value to a name, in all supported languages."""

from __future__ import annotations

import re

from helpers.code.secret_names import parts_of_name

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
    "String", "str", "bytes", "from", "new", "to_string", "to_owned", "into", "encode", "Some", "Ok",
    "Just",
    "Field", "field", "SecretStr", "Secret", "SecretString", "Option", "option", "Value", "value",
    "default",
    "unwrap_or", "unwrap_or_else", "get_or_insert", "b64decode", "Buffer", "byte", "Optional", "of",
    "strdup", "string", "string_view", "from_str", "from_static", "Box", "Arc", "Rc", "Cow", "mark_safe",
    "valueOf", "quote", "unquote", "config", "env", "getenv", "cast", "typing", "Annotated", "str_to_bytes",
    "fromhex", "unhexlify", "decode", "toCharArray", "Literal", "Ref", "ref", "signal", "useState",
    "String2", "intern", "text", "Zeroizing", "SecretVec", "Final", "bytearray", "memoryview", "freeze",
    "trim", "strip", "join", "concat", "Borrowed", "Owned", "from_utf8", "to_vec", "g_strdup",
    "StringBuilder",
    "QString", "QStringLiteral", "make_unique", "make_shared", "get_or_init", "get_or_insert_with",
    "or_insert",
    "or_insert_with", "requireNonNullElse", "orElse", "orElseGet", "default_value", "default_val",
    "defaultValue",
    "unwrap_or_default", "getOrElse", "Unicode", "c_str", "as_str", "into_boxed_str",
    "staticmethod", "LazyAttribute", "LazyFunction",
}  # fmt: skip
GETS = {
    "get", "fetch", "load", "read", "find", "look", "lookup", "query", "select", "input", "prompt",
    "require", "open", "import", "has", "contains", "exists", "remove", "delete", "pop", "env", "var",
    "log",
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
# A string among the arguments of these calls names nothing that another argument is given to.
TELLS = {
    "log", "logf", "print", "printf", "println", "fprintf", "warn", "warning", "error", "info", "debug",
    "trace",
    "fatal", "exception", "critical", "raise", "throw", "format", "replace", "replaceAll", "replace_all",
    "sub",
    "subn", "gsub", "translate", "contains", "startswith", "startsWith", "endswith", "endsWith", "split",
}  # fmt: skip
COMPARING = re.compile(r"^(?:assert|expect|check|verify|matches)|equal|compare|cmp|^eq$", re.IGNORECASE)
EXPECTING = {"when", "expect", "assertThat", "expectThat", "assert_that", "that"}
# Calls that fill what was selected before: a field of a form, an option, an entry.
FILLS = {
    "fill", "type", "sendKeys", "send_keys", "fill_in", "typeText", "val", "default_value", "default_val",
    "defaultValue", "or_insert", "or_insert_with", "withDefault", "setValue", "set_value",
    "toConstantValue", "default_str", "mockReturnValue", "mockResolvedValue",
}  # fmt: skip
# Calls that give what stands in for a value which is missing.
FALLS_BACK = {"unwrap_or", "unwrap_or_else", "orElse", "orElseGet", "getOrElse", "value_or"}
# Calls whose last argument of several is a password; of others that log in, it may be one.
AUTHENTICATES = re.compile(
    r"login|create_?(?:super_?)?user|basic_?auth|password_?auth|user_?password|password_?(?:token|cred)|getconnection",
    re.IGNORECASE,
)
LOGS_IN = re.compile(r"auth|login|credential|connect|create_?(?:super_?)?user|wifi|sequelize", re.IGNORECASE)
KEYED = re.compile(
    r"jwt|hmac|fernet|cipher|signed_?string|sign_?with|from_secret|secret_?key_?spec|cookie_?store",
    re.IGNORECASE,
)
BEARS = re.compile(r"bearer_?auth|bearer_?token|^bearer$", re.IGNORECASE)
VALUE_ANNOTATIONS = {"Value", "DefaultValue", "ConfigProperty"}
DEFINES = {"def", "fn", "func", "function"}
# An argument or attribute of this name holds the value that another name names.
NEUTRAL = {
    "default", "value", "initial", "fallback", "const", "default_value", "defaultValue", "initialValue",
    "initial_value", "data", "text", "new",
}  # fmt: skip
# Words of calls that give the argument after a name to it. Other calls may only mention both.
GIVES = {
    "set", "put", "insert", "add", "append", "env", "environ", "getenv", "get", "default", "flag", "flags",
    "option", "options", "argument", "arg", "opt", "var", "string", "str", "entry", "of", "pair", "emplace",
    "store", "save", "write", "update", "patch", "override", "attr", "config", "property", "define", "item",
    "pop", "header", "cookie", "cookies", "param", "with", "setting", "settings", "variable", "secret", "cpy",
    "cmp", "merge", "unwrap", "or", "assign", "push", "map", "parametrize", "input", "stub",
    "setenv", "setdefault", "setattr", "getattr", "putenv", "setopt", "strcpy", "dotenv", "stubenv",
}  # fmt: skip
# The key beside `default` or `value` that says whose value it is.
NAMING = {
    "name", "names", "key", "id", "env", "envvar", "long", "flag", "flags", "var", "variable", "field",
    "property", "provide", "option", "dest", "setting", "parameter", "param", "header",
}  # fmt: skip
NEUTRAL_WORDS = {"default", "value", "initial", "fallback"}
BRANCHES = {"match", "if", "switch", "unsafe", "loop", "{"}
# A container of this name says something of the names in it: `ICONS = {"token": "..."}`.
DESCRIBING = {
    "icon", "label", "column", "type", "rule", "title", "message", "error", "hint", "help", "description",
    "placeholder", "validator", "class", "style", "color", "name", "schema", "pattern", "caption", "tooltip",
    "alias", "translation", "annotation",
}  # fmt: skip
STATES = {"is", "was", "to", "be"}  # between a name and its value, in prose
LABELS = {"case", "default"}
# Words that begin a compound statement of Python; a body may follow the colon on the same line.
HEADS = {"if", "elif", "else", "for", "while", "with", "try", "except", "finally", "def", "class", "async"}
DECLARES = {"let", "const", "var", "mut", "final", "auto", "val"}
GETTER = re.compile(r"^_*(?:get|default|load|read|fetch)_?(?=\w)")


def says_nothing(name: str) -> bool:
    """Return whether the name of an argument or attribute says nothing about its value,
    as `default` does."""
    return name in NEUTRAL or holds_default(name)


def holds_default(name: str) -> bool:
    """Return whether an argument or attribute of this name holds the value of something."""
    return not NEUTRAL_WORDS.isdisjoint(parts_of_name(name))
