"""Asks OSV.dev for known vulnerabilities of every package in uv.lock; `make audit` runs it.

Ends with 0 only if every package was looked up and has none. Ends with 1 and a line for each vulnerability, or with 2 and
one line where not everything could be looked up: an audit that asked nothing must not look like one that found nothing.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).parent / "uv"
TIMEOUT_S = 300


def locked_packages() -> int:
    """How many packages of others the lock file has."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return sum("registry" in package["source"] for package in packages)


def audit(options: list[str]) -> tuple[dict[str, Any] | None, str]:
    """uv's report, or None and why there is none."""
    features = ["--preview-features", "audit-command", "--preview-features", "json-output"]
    command = [str(UV), "audit", "--frozen", "--output-format", "json", *features, *options]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    try:
        report: dict[str, Any] = json.loads(result.stdout)
        return report, ""
    except ValueError:
        return None, "; ".join(line.strip().removeprefix("cause: ") for line in result.stderr.splitlines())


def main(options: list[str]) -> int:
    report, reason = audit(options)
    if report is None:
        print(f"audit: nothing was audited: {reason or 'uv gave no reason'}", file=sys.stderr)
        return 2
    audited, locked = report["summary"]["audited_packages"], locked_packages()
    if audited == 0 or audited < locked:
        print(f"audit: only {audited} of the {locked} packages in uv.lock were audited", file=sys.stderr)
        return 2
    for found in [*report["vulnerabilities"], *report["adverse_statuses"]]:
        fixed = ", ".join(found.get("fix_versions", ())) or "no version"
        package = found["dependency"]
        what = f"{found.get('display_id', found.get('status'))} {found.get('summary', '')}".strip()
        print(f"audit: {package['name']} {package['version']}: {what}; fixed in {fixed}", file=sys.stderr)
    if report["vulnerabilities"] or report["adverse_statuses"]:
        return 1
    print(f"{audited} packages audited, no known vulnerability")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
