"""An answer that will come: given once, to one party, at once where it is there."""

from headwater.replay.deferred import Deferred


def test_the_answer_is_given_when_it_comes() -> None:
    deferred: Deferred[int] = Deferred()
    found: list[int] = []
    deferred.when_done(found.append)
    assert (deferred.done, found) == (False, [])
    deferred.complete(1)
    assert (deferred.done, found) == (True, [1])


def test_an_answer_that_is_there_is_given_at_once() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.complete(1)
    found: list[int] = []
    deferred.when_done(found.append)
    assert found == [1]


def test_only_the_first_answer_counts() -> None:
    deferred: Deferred[int] = Deferred()
    found: list[int] = []
    deferred.when_done(found.append)
    deferred.complete(1)
    deferred.complete(2)
    assert found == [1]
    assert deferred.answer == 1


def test_then_gives_what_is_made_of_the_answer() -> None:
    deferred: Deferred[int] = Deferred()
    text = deferred.then(str)
    assert not text.done
    deferred.complete(7)
    assert text.answer == "7"


def test_then_waits_for_a_deferred_that_is_made_of_the_answer() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[str] = Deferred()
    asked: list[int] = []

    def ask(answer: int) -> Deferred[str]:
        asked.append(answer)
        return second

    text: Deferred[str] = first.then(ask)
    first.complete(7)
    assert asked == [7]
    assert not text.done
    second.complete("seven")
    assert text.answer == "seven"
