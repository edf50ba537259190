"""Calling others of whom each has a right to be called."""

from collections.abc import Callable, Iterable


def call_all(callbacks: Iterable[Callable[[], object]]) -> None:
    """Calls each of them, whatever the others raise; raises what they raised at the end, as an ExceptionGroup."""
    errors = []
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - raised below, when nobody is kept from what is due
            errors.append(error)
    if errors:
        raise ExceptionGroup("callbacks have failed", errors)
