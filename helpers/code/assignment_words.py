"""The words and signs by which code gives a value to a name, in all supported languages."""

from __future__ import annotations

import re

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
