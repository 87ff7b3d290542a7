"""The licence of a code base as an SPDX identifier, from package metadata or a licence file.

Plain names and unmistakable phrases only: what is not recognised is reported as the text found,
cut short, or "unknown". A statement for the data card, not legal advice.
"""

from __future__ import annotations

import re
import tomllib
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

# Phrases of the licence texts themselves, the others within NEAR_CHARS after the first. The licence
# that begins first in the text is taken: what follows are licences of bundled parts.
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
    ("ISC", ("permission to use, copy, modify, and",)),
    ("Unlicense", ("free and unencumbered software released into the public domain",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
)  # fmt: skip
LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying|unlicense)(?:[-.].*)?", re.I)


def licence_of_distribution(distribution: Distribution) -> str:
    """License-Expression, else an OSI classifier, else the License field, else its licence files."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    tails = [
        c.rpartition("::")[2].strip()
        for c in metadata.get_all("Classifier") or []
        if c.startswith("License ::")
    ]
    known = sorted({SPDX_OF_NAME[tail.lower()] for tail in tails if tail.lower() in SPDX_OF_NAME})
    if known:
        return " OR ".join(known)
    field = (metadata.get("License") or "").strip()
    if field and field.upper() != "UNKNOWN":
        return licence_of_text(field)
    for file in distribution.files or ():
        if LICENCE_FILE.fullmatch(file.name) and file.locate().is_file():
            return licence_of_text(Path(str(file.locate())).read_text(encoding="utf-8", errors="replace"))
    return tails[0] if tails else "unknown"


def licence_of_folder(root: Path) -> str:
    """From pyproject.toml's `license`, else the licence file at the top (or one level above a package)."""
    try:
        declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
        text = declared if isinstance(declared, str) else declared.get("text", "")
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        text = ""
    if text:
        return licence_of_text(str(text))
    try:
        files = [
            file for file in sorted(root.iterdir()) if LICENCE_FILE.fullmatch(file.name) and file.is_file()
        ]
    except OSError:
        files = []
    found = [licence_of_text(file.read_text(encoding="utf-8", errors="replace")[:20_000]) for file in files]
    return " AND ".join(sorted(set(found))) or "unknown"


def licence_of_text(text: str) -> str:
    """SPDX identifier of a licence's name or full text; else its first line, cut at 60 characters."""
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
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first[:60] or "unknown"
