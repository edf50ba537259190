"""Calling several callbacks, each of which must be called even if another raises."""

from collections.abc import Callable, Iterable


def call_all(callbacks: Iterable[Callable[[], object]]) -> None:
    """Calls each of them, whatever the others raise. At the end raises all that was raised, as an ExceptionGroup."""
    errors = []
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - raised below, when nobody is kept from what is due
            errors.append(error)
    if errors:
        raise ExceptionGroup("callbacks have failed", errors)
