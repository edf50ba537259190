"""Topic patterns: words between dots. `*` stands for one word and `#` for any number of words, or none (as in AMQP).

For example, `orders.*.paid` matches `orders.eu.paid`, and `orders.#` matches `orders`, `orders.eu` and `orders.eu.paid`.
"""

import re


class PatternError(ValueError):
    """An invalid pattern."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression whose `fullmatch` matches the topics of a pattern. Raises PatternError.

    It uses only what POSIX extended expressions have too, since Kafka's C client also reads it.
    """
    if not pattern:
        raise PatternError("a topic pattern is empty; use '#' for every topic")
    expression = ""
    is_start = True
    words = pattern.split(".")
    for position, word in enumerate(words):
        if word == "#":
            if not is_start:
                expression += r"(\.[^.]+)*"
            elif position == len(words) - 1:
                expression += r"([^.]+(\.[^.]+)*)?"
            else:
                expression += r"([^.]+\.)*"  # what follows is still at the start
            continue
        if "#" in word or ("*" in word and word != "*") or not word:
            raise PatternError(f"in {pattern!r}, * and # stand for whole words, and no word is empty")
        expression += ("" if is_start else r"\.") + ("[^.]+" if word == "*" else re.escape(word))
        is_start = False
    return re.compile(expression)


def check_topic(topic: object) -> None:
    """Raises PatternError for an invalid topic, which would reach the wrong subscribers or none."""
    if not isinstance(topic, str):
        raise PatternError(f"the topic is {topic!r}; give it as text")
    if not topic or "*" in topic or "#" in topic or "" in topic.split("."):
        raise PatternError(f"the topic {topic!r}: * and # are for patterns, and no word between dots is empty")


def matches(pattern: str, topic: str) -> bool:
    """Whether a pattern matches a topic. To match many topics, use `compile_pattern`."""
    return compile_pattern(pattern).fullmatch(topic) is not None


def kafka_pattern(pattern: str) -> str:
    """The pattern as a regular expression for Kafka's clients, which begins with ^."""
    return f"^{compile_pattern(pattern).pattern}$"
