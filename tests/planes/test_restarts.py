"""The delay before a restart grows up to a limit, and begins again after a sound run."""

from headwater.planes.restarts import FIRST_MS, LONGEST_MS, SOUND_MS, Restarts


def test_the_delay_doubles_up_to_a_limit() -> None:
    restarts = Restarts()
    delays = [restarts.delay_ms(0) for _ in range(10)]
    assert delays[:3] == [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS]
    assert delays[-1] == LONGEST_MS
    assert max(delays) == LONGEST_MS


def test_a_sound_run_brings_the_first_delay_back() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.delay_ms(SOUND_MS - 1)
    assert restarts.delay_ms(SOUND_MS) == FIRST_MS
