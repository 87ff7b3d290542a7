"""Name the licence of a code base as an SPDX identifier, from package metadata or a licence file.

Only plain names and unmistakable phrases are recognised. Anything else is reported as the text found, cut
short, or as "unknown". `licence_warning` words a doubt if the licence is missing, unknown or known to
restrict use. All this is information for the reports, not legal advice.
"""

from __future__ import annotations

import codecs
import email
import json
import re
import tomllib
from collections.abc import Iterable
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path

SPDX_OF_NAME = {
    "mit": "MIT", "mit license": "MIT", "the mit license": "MIT", "the mit license (mit)": "MIT",
    "expat": "MIT", "bsd-3-clause": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause", "bsd 3-clause license": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause", "bsd 2-clause": "BSD-2-Clause", "bsd 2-clause license": "BSD-2-Clause",
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "isc": "ISC", "isc license": "ISC", "isc license (iscl)": "ISC",
    "mpl-2.0": "MPL-2.0", "mpl 2.0": "MPL-2.0", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psf": "PSF-2.0", "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zpl 2.1": "ZPL-2.1", "zope public license": "ZPL-2.1",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "gnu affero general public license v3": "AGPL-3.0-only",
}  # fmt: skip

# Phrases of the licence texts themselves; the others must follow within NEAR_CHARS of the first. The
# licence that begins first in the text is taken: later ones belong to bundled parts.
NEAR_CHARS = 2_500
SPDX_OF_TEXT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("AGPL-3.0", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0", ("gnu general public license", "version 3")),
    ("GPL-2.0", ("gnu general public license", "version 2")),
    ("MPL-2.0", ("mozilla public license", "version 2.0")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("MIT", ("permission is hereby granted, free of charge", "the software is provided \"as is\"")),
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("ISC", ("permission to use, copy, modify, and",)),
    ("Unlicense", ("free and unencumbered software released into the public domain",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("EPL-2.0", ("eclipse public license", "v 2.0")),
    ("CC-BY-NC-4.0", ("attribution-noncommercial",)),
    ("CC-BY-ND-4.0", ("attribution-noderivatives",)),
    ("BUSL-1.1", ("business source license",)),
    ("SSPL-1.0", ("server side public license",)),
    ("Elastic-2.0", ("elastic license 2.0",)),
    ("PolyForm-Noncommercial-1.0.0", ("polyform noncommercial license",)),
)  # fmt: skip
PROPRIETARY = "LicenseRef-Proprietary"
RESERVED = re.compile(
    r"all rights reserved|\b(?:proprietary|confidential|unlicensed)\b|no (?:licen[cs]e|permission) is granted"
    r"|without (?:the )?(?:express |prior )+(?:written )?(?:permission|consent)",
    re.IGNORECASE,
)
# Parts of identifiers and what they mean for training; the first that occurs in a licence decides.
RESTRICTIVE = (
    (re.compile(r"proprietary|all rights reserved|unlicensed", re.I), "reserves all rights"),
    (re.compile(r"\bNC\b|non-?commercial", re.I), "excludes commercial use"),
    (re.compile(r"\bND\b|no-?deriv", re.I), "excludes adapted versions"),
    (re.compile(r"BUSL|SSPL|Elastic-2|commons.clause|business source|server side public", re.I),
     "restricts how the code may be used"),
)  # fmt: skip
OPEN = re.compile(
    r"\b(?:MIT|BSD|0BSD|Apache|ISC|MPL|PSF|Python|A?L?GPL|Unlicense|CC0|CC-BY(?:-SA)?-\d|Zlib|BSL-1|EPL|EUPL|"
    r"Artistic|ZPL|HPND|WTFPL|BlueOak|CNRI|Boost|GNU|public domain)",
    re.IGNORECASE,
)
MAX_BYTES = 2_000_000  # of a licence or project file
MAX_TEXT_CHARS = 20_000  # of a licence text; what follows are licences of bundled parts
LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying|unlicense)(?:[-.].*)?", re.I)


def licence_of_distribution(distribution: Distribution) -> str:
    """Return License-Expression, else an OSI classifier, else License, else what its licence files say."""
    if declared := _declared(distribution.metadata):
        return declared
    for file in distribution.files or ():
        if LICENCE_FILE.fullmatch(file.name) and file.locate().is_file():
            return licence_of_text(_read(Path(str(file.locate())))[:MAX_TEXT_CHARS])
    tails = _classifiers(distribution.metadata)
    return tails[0] if tails else "unknown"


def _declared(metadata: Message) -> str:
    """Return what package metadata declare; "" where they name no licence."""
    if expression := metadata.get("License-Expression"):
        return expression
    tails = _classifiers(metadata)
    known = sorted({SPDX_OF_NAME[tail.lower()] for tail in tails if tail.lower() in SPDX_OF_NAME})
    if known:
        return " OR ".join(known)
    field = (metadata.get("License") or "").strip()
    return licence_of_text(field) if field and field.upper() != "UNKNOWN" else ""


def _classifiers(metadata: Message) -> list[str]:
    every = metadata.get_all("Classifier") or []
    return [c.rpartition("::")[2].strip() for c in every if c.startswith("License ::")]


def licence_of_folder(root: Path) -> str:
    """Return what the project's metadata declare, else what the licence files at the top say.

    Metadata: pyproject.toml, PKG-INFO (of a source distribution), package.json, Cargo.toml.
    """
    pkg_info = email.message_from_string(_read(root / "PKG-INFO"))
    for declared in (_of_toml(root / "pyproject.toml", "project"), _declared(pkg_info),
                     _of_json(root / "package.json"), _of_toml(root / "Cargo.toml", "package")):  # fmt: skip
        if declared:
            return licence_of_text(declared)
    try:
        names = [file.name for file in root.iterdir()]
    except OSError:
        names = []
    found = {name for _, name in licence_files(root, names)}
    return " AND ".join(sorted(found)) or "unknown"


def licence_files(root: Path, paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return (path, licence) of the licence files among `paths`, sorted; links and folders do not count."""
    named = [(path, root / path) for path in sorted(paths) if LICENCE_FILE.fullmatch(Path(path).name)]
    plain = [(path, file) for path, file in named if file.is_file() and not file.is_symlink()]
    return tuple((path, licence_of_text(_read(file)[:MAX_TEXT_CHARS])) for path, file in plain)


def licence_of_text(text: str) -> str:
    """Return the SPDX identifier of a licence's name or full text; else its first line, cut at 60."""
    plain = " ".join(text.split())
    if plain.lower() in SPDX_OF_NAME:
        return SPDX_OF_NAME[plain.lower()]
    if len(plain) > 60:
        lowered = plain.lower()
        found = []
        for identifier, (opening, *others) in SPDX_OF_TEXT:
            start = lowered.find(opening)
            if start >= 0 and all(phrase in lowered[start : start + NEAR_CHARS] for phrase in others):
                found.append((start, identifier))
        if found:
            return min(found, key=lambda place: place[0])[1]
    if RESERVED.search(plain):
        return PROPRIETARY
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first[:60] or "unknown"


def licence_warning(licence: str, files: Iterable[tuple[str, str]] = ()) -> str:
    """Return a warning if `licence` may not allow training on the code; "" where there is no doubt.

    One acceptable alternative is enough ("MIT OR ..."), but every part must be ("MIT AND ...").

    Args:
        files: (path, licence) of licence files, from `licence_files`; only those at the top count.
    """
    top = [name for path, name in files if "/" not in path]
    doubts = [doubt for name in (licence, *top) for part in name.split(" AND ") if (doubt := _doubt(part))]
    if not doubts:
        return ""
    return (
        f"{doubts[0]} Make sure that you may train on this code, and share the trained model, before you do. "
        "Licences are recognised by phrases here: this is a warning, not legal advice."
    )


def _doubt(licence: str) -> str:
    alternatives = licence.strip("() ").split(" OR ")
    if any(OPEN.search(one) and not any(p.search(one) for p, _ in RESTRICTIVE) for one in alternatives):
        return ""
    for pattern, meaning in RESTRICTIVE:
        if pattern.search(licence):
            return f"The licence found ({licence}) seems to be one that {meaning}."
    if licence == "unknown":
        return "No licence was found; without one, all rights usually stay with the authors."
    return f"The licence found ({licence}) was not recognised; read what it allows."


def _read(file: Path) -> str:
    """Return the text of a regular file, else ""; reading a named pipe would never end.

    Metadata that are cut would not parse, so the limit is far above any project file.
    """
    try:
        data = file.read_bytes()[:MAX_BYTES] if file.is_file() else b""
    except OSError:
        return ""
    is_wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as some editors on Windows save it
    return data.decode("utf-16" if is_wide else "utf-8-sig", "replace")


def _of_toml(file: Path, table: str) -> str:
    try:
        declared = tomllib.loads(_read(file))[table]["license"]
        return str(declared if isinstance(declared, str) else declared.get("text", ""))
    except (ValueError, LookupError, AttributeError, TypeError):
        return ""


def _of_json(file: Path) -> str:
    try:
        declared = json.loads(_read(file))["license"]
    except (ValueError, LookupError, TypeError):
        return ""
    return declared if isinstance(declared, str) and not declared.upper().startswith("SEE ") else ""
