"""Threads that decode: what ends a turn is queued, and interim text only runs on a thread that is idle."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mesh.steps import StepReport

T = TypeVar("T")
_Item = tuple[Future[Any], Callable[[], Any], bool]


class Workers:
    """A few threads in front of one queue. With more than one thread, one is always left to what is queued."""

    def __init__(self, count: int, name: str, report: StepReport | None = None) -> None:
        """Starts `count` threads called `name`; `report` is told how long each call took."""
        self.count = count
        self._report = report
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._taken = 0
        self._optional = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True) for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queues `call`, in order of coming."""
        with self._lock:
            return self._put(call, optional=False)

    def try_submit(self, call: Callable[[], T]) -> Future[T] | None:
        """Runs `call` at once, or returns None if no thread is idle."""
        with self._lock:
            if self._taken >= self.count or self._optional >= max(1, self.count - 1):
                return None
            return self._put(call, optional=True)

    def close(self) -> None:
        """Cancels what waits and ends the threads once their running calls are done. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            while not self._queue.empty():
                item = self._queue.get()
                if item is not None:
                    item[0].cancel()
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _put(self, call: Callable[[], T], *, optional: bool) -> Future[T]:
        future: Future[T] = Future()
        if self._closed:
            future.cancel()
            return future
        self._taken += 1
        self._optional += optional
        self._queue.put((future, call, optional))
        return future

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            future, call, optional = item
            try:
                if not future.set_running_or_notify_cancel():
                    continue
                began = time.perf_counter()
                result = call()
                if self._report is not None:
                    self._report(time.perf_counter() - began)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                with self._lock:
                    self._taken -= 1
                    self._optional -= optional
