"""Find out with one short request whether the hub answers for a model.

Without a network the libraries try each file several times before they give up, which takes most of a
minute.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from helpers.errors import SuiteError
from helpers.paths import expanded

PATIENCE_S = 8.0


class HubError(SuiteError, RuntimeError):
    """A model is neither in the cache nor reachable; the message says what stands in the way."""


@functools.cache
def must_use_cache(name: str) -> bool:
    """Return True if the hub does not answer but the cache has the model; HubError if neither does."""
    cached = isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str)
    try:
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE_S)
        return False
    except GatedRepoError:
        raise HubError(f"{name!r} is gated: accept its licence on the hub and set HF_TOKEN") from None
    except RepositoryNotFoundError:
        wrong = f"the hub has no model {name!r}; check the name (a private one needs HF_TOKEN)"
        raise HubError(wrong) from None
    except HfHubHTTPError as error:
        wrong = f"the hub refused {name!r}: {first_line(error)}"
    except Exception as error:  # no network, or offline mode: the type depends on the HTTP library
        wrong = f"{name!r} is not on this machine and the hub cannot be reached ({first_line(error)})"
    if not cached:
        raise HubError(wrong)
    return True


def needs_download(spec: str) -> bool:
    """Return whether `spec` is a hub name (OWNER/NAME) of which nothing is on this machine."""
    is_name = spec.count("/") == 1 and not re.search(r"[:\\]|^[./~]|^helpers/", spec)
    if not is_name or os.path.isdir(expanded(spec)):
        return False
    return not isinstance(huggingface_hub.try_to_load_from_cache(spec, "config.json"), str)


def hub_file(name: str, file: str) -> Path:
    """Return one file of the hub's model `name`, from the cache if it is there; HubError if it is nowhere."""
    cached = huggingface_hub.try_to_load_from_cache(name, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(huggingface_hub.hf_hub_download(name, file, etag_timeout=PATIENCE_S))
    except GatedRepoError:
        wrong = f"{name!r} is gated: accept its licence on the hub and set HF_TOKEN"
    except RepositoryNotFoundError:
        wrong = f"the hub has no model {name!r}; check the name (a private one needs HF_TOKEN)"
    except LocalEntryNotFoundError as error:  # no network, or offline mode; an EntryNotFoundError, too
        wrong = (
            f"{file!r} of {name!r} is not on this machine and the hub cannot be reached "
            f"({first_line(error)}); without a network fetch the file elsewhere and name it as gguf:FILE"
        )
    except EntryNotFoundError:
        wrong = f"the hub's model {name!r} has no file {file!r}; check the spelling"
    except Exception as error:  # the type depends on the HTTP library
        wrong = f"the hub did not send {file!r} of {name!r}: {first_line(error)}"
    raise HubError(wrong) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
