"""The one thread that computes for all requests: it writes their texts together, model by model.

Requests come from other threads. Each model has a writer (`helpers.models.text_writer`), in which a new text
joins those that are being written, so a short request does not wait for a long one. Between two steps the
thread does the other jobs: embeddings, and preparing prompts.

What waits is bounded: a request over the limit is refused at once, so that clients hear about it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from transformers import PreTrainedModel

from helpers.errors import SuiteError
from helpers.machine.memory import is_out_of_memory
from helpers.machine.usage import free_memory
from helpers.models.generation import writing_form
from helpers.models.ragged_cache import ragged
from helpers.models.text_writer import TextWriter
from helpers.serving.served_models import ServedLm
from helpers.serving.written_text import WrittenText

KEEP_STATES_S = 120.0  # after a model's last text, so that the next one may begin with the same code
CALLS_AT_ONCE = 16  # jobs between two steps of the writers
CALLS_S = 0.2  # after which no further job is begun before the next step

log = logging.getLogger(__name__)


class BusyError(SuiteError, RuntimeError):
    """As many requests wait as the engine takes."""


class StoppedError(SuiteError, RuntimeError):
    """The engine has been closed, or stops."""


class Engine:
    """Computes for many threads in one.

    Args:
        slots: texts that a model writes at the same time.
        limit: texts and other jobs that may be unfinished at the same time.
    """

    def __init__(self, *, slots: int = 16, limit: int = 64) -> None:
        self.slots, self.limit = slots, limit
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._open = 0
        self._lock = threading.Lock()
        self._closing = False
        self._desks: dict[PreTrainedModel, _Desk] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def unfinished(self) -> int:
        """Return how many texts and other jobs are unfinished."""
        return self._open

    def write(self, texts: Sequence[WrittenText]) -> None:
        """Have texts written; each reports through its `on_change`.

        Raises:
            BusyError: if there is no room for all of them.
            StoppedError: if the engine is closed.
        """
        self._hand_over(list(texts))

    def call(self, job: Callable[[], Any]) -> Future[Any]:
        """Have `job` computed between two steps.

        Raises:
            BusyError: if there is no room for it.
            StoppedError: if the engine is closed.
        """
        done: Future[Any] = Future()
        self._hand_over([(job, done)])
        return done

    def close(self, timeout_s: float = 10.0) -> None:
        """Give up what is unfinished, and stop the thread after its step."""
        with self._lock:
            self._closing = True
            self._inbox.put(None)
        self._thread.join(timeout_s)

    def _hand_over(self, work: Sequence[Any]) -> None:
        with self._lock:  # else something could come in after `close` has emptied the inbox
            if self._closing:
                raise StoppedError("the server stops")
            if self._open + len(work) > self.limit:
                raise BusyError(f"{self._open} requests wait already, of at most {self.limit}")
            self._open += len(work)
            for one in work:
                self._inbox.put(one)

    def _release(self) -> None:
        with self._lock:
            self._open -= 1

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._closing:
                    self._take()
                    for desk in self._desks.values():
                        desk.step()
        finally:
            with self._lock:
                self._closing = True
            while not self._inbox.empty():  # nobody may wait for ever
                self._refuse(self._inbox.get())
            for desk in self._desks.values():
                desk.give_up("the server stops")
                desk.close()

    def _take(self) -> None:
        """Take what has come; wait for it if there is nothing to write."""
        until = 0.0
        for number in itertools.count():
            wait = not number and not any(desk.texts for desk in self._desks.values())
            try:
                taken = self._inbox.get(block=wait, timeout=KEEP_STATES_S if wait else None)
            except queue.Empty:
                return
            if taken is None or self._closing:
                self._refuse(taken)
                return
            if isinstance(taken, WrittenText):
                self._desk(taken.lm).add(taken)
                continue
            until = until or time.monotonic() + CALLS_S
            self._compute(*taken)
            if number >= CALLS_AT_ONCE or time.monotonic() > until:
                return

    def _desk(self, lm: ServedLm) -> _Desk:
        if lm.model not in self._desks:
            self._desks[lm.model] = _Desk(lm, self.slots, self._release)
        return self._desks[lm.model]

    def _compute(self, job: Callable[[], Any], done: Future[Any]) -> None:
        if not done.set_running_or_notify_cancel():
            self._release()
            return
        try:
            result = job()
        except Exception as error:  # the one who waits deals with it; the thread goes on
            self._release()
            done.set_exception(error)
        else:
            self._release()
            done.set_result(result)

    def _refuse(self, taken: Any) -> None:
        if taken is None:
            return
        self._release()
        if isinstance(taken, WrittenText):
            taken.fail(StoppedError("the server stops"))
        else:
            taken[1].set_exception(StoppedError("the server stops"))


class _Desk:
    """Where one model's texts are written; nobody else may use the model meanwhile.

    A text's place is free before anybody hears that it has ended, so the client's next request finds it.
    """

    def __init__(self, lm: ServedLm, slots: int, release: Callable[[], None]) -> None:
        self.lm, self.slots, self._release = lm, slots, release
        self.texts: dict[Any, WrittenText] = {}  # by job
        self._open = contextlib.ExitStack()
        self._writer: TextWriter | None = None
        self._idle_since = time.monotonic()

    def add(self, text: WrittenText) -> None:
        """Take a text to be written."""
        self.texts[text.job] = text
        try:
            if self._writer is None:
                form = self._open.enter_context(writing_form(self.lm.model, self.lm.runtime))
                cache = self._open.enter_context(ragged(self.lm.model, self.slots, form))
                self._writer = TextWriter(cache, self.slots)
        except Exception as error:  # most likely too little memory
            self._after_error(error)
            return
        self._writer.add([text.job])

    def step(self) -> None:
        """Add tokens to every text that has a slot."""
        if not self.texts:
            if self._writer and time.monotonic() - self._idle_since > KEEP_STATES_S:
                self.close()
            return
        self._idle_since = time.monotonic()
        self._drop_given_up()
        try:
            written = self._writer.step() if self._writer and self.texts else []
        except Exception as error:  # whatever is wrong with one batch, the server goes on
            self._after_error(error)
            return
        for job in written:
            (self._over(job) if job.finished else self.texts[job]).update()

    def give_up(self, why: str) -> None:
        """Tell every text that it ends unfinished."""
        self._fail_all(StoppedError(why))

    def close(self) -> None:
        """Free the states of texts."""
        self._open.close()
        self._open, self._writer = contextlib.ExitStack(), None

    def _drop_given_up(self) -> None:
        """Stop writing what nobody waits for any more."""
        for job in [job for job, text in self.texts.items() if text.is_given_up()]:
            job.finished = True
            self._over(job)

    def _over(self, job: Any) -> WrittenText:
        """Return the text of a job that has ended; its place is free from now on."""
        self._release()
        return self.texts.pop(job)

    def _fail_all(self, reason: Exception) -> None:
        for job in [*self.texts]:
            self._over(job).fail(reason)

    def _after_error(self, error: Exception) -> None:
        """Fail this model's texts, and begin anew with less memory if that was short."""
        memory = is_out_of_memory(error)
        log.error("%s: %s", self.lm.name, error, exc_info=None if memory else error)
        if memory:
            self.slots = max(1, self.slots // 2)
        self._fail_all(BusyError("out of memory; try again") if memory else error)
        self.close()
        free_memory()
