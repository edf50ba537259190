"""How a consumer leaves its group. librdkafka alone would wait for an unreachable broker as long as a session lasts."""

import threading

from confluent_kafka import Consumer as RawConsumer

CLOSE_TIMEOUT_MS = 10_000.0
AWAY_TIMEOUT_MS = 500.0  # if an exception is on its way and no broker has answered lately


def leave(raw: RawConsumer, timeout_ms: float) -> bool:
    """Commits and leaves. Returns False if that takes too long; it then continues in its own thread."""
    is_done = threading.Event()
    errors: list[BaseException] = []

    def close() -> None:
        try:
            raw.close()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            errors.append(error)
        finally:
            is_done.set()

    threading.Thread(target=close, name="headwater-consumer-close", daemon=True).start()
    if not is_done.wait(timeout_ms / 1000):
        return False
    if errors:
        raise errors[0]
    return True
