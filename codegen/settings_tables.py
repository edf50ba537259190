"""Writes the tables of docs/reference/settings.md: settings without effect, refused settings, configurations of topics and groups.

`--check` changes nothing, and fails if the document differs from `broker/configs/setting_classes.py`.
"""

import sys
from pathlib import Path

from headwater.broker.configs.setting_classes import (
    GROUP_HONOURED,
    GROUP_WITHOUT_EFFECT,
    REFUSED,
    TOPIC_HONOURED,
    TOPIC_REFUSED,
    TOPIC_WITHOUT_EFFECT,
    WITHOUT_EFFECT,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
MARK = "<!-- from here on written by codegen/settings_tables.py -->\n"


def named(keys: tuple[str, ...]) -> str:
    return ", ".join(f"`{key}*`" if key.endswith(".") else f"`{key}`" for key in keys)


def tables() -> str:
    lines = [
        "",
        "## Accepted without effect",
        "",
        "When the broker starts, one line of its log names those that are set. `*` stands for any ending.",
        "",
        "| because | keys |",
        "|---|---|",
        *(f"| {reason} | {named(keys)} |" for reason, keys in WITHOUT_EFFECT.items()),
        "",
        "## Refused",
        "",
        "The broker does not start with them, unless the value is Kafka's default or changes nothing.",
        "",
        "| keys | because |",
        "|---|---|",
        *(f"| {named(refusal.keys)} | {refusal.reason} |" for refusal in REFUSED),
        "",
        "## Configurations of topics and groups",
        "",
        "Those without effect are kept and described.",
        "",
        "| of | | keys |",
        "|---|---|---|",
        f"| topics | honoured | {named(tuple(sorted(TOPIC_HONOURED)))} |",
        *(f"| topics | without effect: {reason} | {named(keys)} |" for reason, keys in TOPIC_WITHOUT_EFFECT.items()),
        *(f"| topics | refused: {reason} | {named(keys)} |" for reason, keys in TOPIC_REFUSED.items()),
        f"| groups | honoured | {named(tuple(sorted(GROUP_HONOURED)))} |",
        *(f"| groups | without effect: {reason} | {named(keys)} |" for reason, keys in GROUP_WITHOUT_EFFECT.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    text = DOCUMENT.read_text()
    wanted = text[: text.index(MARK) + len(MARK)] + tables()
    if "--check" not in sys.argv:
        DOCUMENT.write_text(wanted)
    elif wanted != text:
        print(f"{DOCUMENT.name} differs from setting_classes.py; run codegen/settings_tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
