"""Whether a hub model can be had, asked once and briefly.

Without a network the libraries try each file several times before they give up, most of a minute
in all. One request with a short limit tells beforehand.
"""

from __future__ import annotations

import functools

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from helpers.errors import SuiteError

PATIENCE_S = 8.0


class HubError(SuiteError, RuntimeError):
    """A model that is neither in the cache nor reachable; the message says which of the two to mend."""


@functools.cache
def cache_alone(name: str) -> bool:
    """Whether `name` has to be taken from the cache alone (True) or the hub answers for it (False).

    Raises:
        HubError: if it is in neither.
    """
    cached = isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str)
    try:
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE_S)
    except GatedRepoError:
        raise HubError(f"{name!r} needs a licence to be accepted on the hub and HF_TOKEN to be set") from None
    except RepositoryNotFoundError:
        raise HubError(
            f"the hub has no model {name!r}; check the name (a private one needs HF_TOKEN)"
        ) from None
    except HfHubHTTPError as error:
        if not cached:
            raise HubError(f"the hub refused {name!r}: {_first_line(error)}") from None
        return True
    except Exception as error:  # whatever the HTTP library in use calls a missing network, or offline mode
        if not cached:
            raise HubError(
                f"{name!r} is not on this machine and the hub cannot be reached ({_first_line(error)})"
            ) from None
        return True
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
