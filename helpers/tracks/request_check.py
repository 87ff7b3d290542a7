"""Check what a person asked for before a run folder is made: one list of everything that does not fit.

Whoever misspelt a setting, an index and a model should read of all three at once. The choices are checked
without a model; only if one cannot be honoured are the models tried as well (`helpers.tracks.preflight`), so
that the list is whole. Otherwise the notebook tries them in its first cells.
"""

from __future__ import annotations

from helpers.data.corpus_spec import CorpusError, check_place
from helpers.errors import SuiteError
from helpers.machine.hardware import detect_runtime
from helpers.profiles import RunRequest, apply_request
from helpers.run.folder import second_copy_root, with_profile_named
from helpers.settings import Profile


def check_request(request: RunRequest) -> None:
    """Check every choice in `request`; nothing is loaded if all can be honoured.

    Models that would first have to be downloaded are not tried here; the message says so.

    Raises:
        PreflightError: if one cannot be; it lists every problem, those of the models too.
    """
    profile, wrong = apply_request(with_profile_named(request))
    wrong = [" ".join(line.split()) for line in wrong]
    if request.second_copy:
        try:
            second_copy_root(request.second_copy)
        except SuiteError as error:
            wrong.append(str(error))
    if wrong or not _is_there(profile):
        from helpers.tracks.preflight import raise_all  # it loads the libraries of the models

        raise_all(profile, detect_runtime(nf4=profile.nf4), wrong)


def _is_there(profile: Profile) -> bool:
    try:
        check_place(profile.corpus.spec)
    except CorpusError:
        return False
    return True
