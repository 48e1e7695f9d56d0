"""Results are told of as they come; what nobody told of is found all the same."""

from __future__ import annotations

import threading

from distdqn.runtime import news as module
from distdqn.runtime.news import News


class There:
    """Says which of them are there, and how often it was asked."""

    def __init__(self) -> None:
        self.there: list[str] = []
        self.asked = 0

    def __call__(self, refs: list[str]) -> list[str]:
        self.asked += 1
        return [ref for ref in refs if ref in self.there]


def test_each_is_told_once_and_nothing_else_is_looked_at() -> None:
    look = There()
    news = News(look)
    assert news.of(["a", "b", "c"], 0.0) == []
    news.tell("c")(None)
    news.tell("a")(None)
    assert news.of({"a": 1, "b": 2, "c": 3}.keys(), 60.0) == ["c", "a"]
    assert news.of(["b"], 0.0) == []
    assert look.asked == 1


def test_waits_for_what_another_thread_tells() -> None:
    news = News(There())
    timer = threading.Timer(0.05, lambda: news.tell("b")(None))
    timer.start()
    assert news.of(["a", "b"], 60.0) == ["b"]
    timer.join()


def test_what_nobody_waits_for_any_more_is_passed_over() -> None:
    news = News(There())
    assert news.of(["b"], 0.0) == []
    news.tell("gone")(None)
    news.tell("gone, too")(None)
    threading.Timer(0.05, lambda: news.tell("b")(None)).start()
    assert news.of(["b"], 60.0) == ["b"]
    assert news.of([], 0.0) == []


def test_what_nobody_told_of_is_found_by_and_by() -> None:
    look = There()
    news = News(look)
    look.there = ["a"]
    assert news.of(["a", "b"], 60.0) == ["a"]
    look.there = ["b"]
    assert news.of(["b"], 0.0) == []
    news._next_sweep -= module.SWEEP_SECONDS
    assert news.of(["b"], 60.0) == ["b"]
