"""Print each known vulnerability of the installed packages on its own line; the exit code is 1 if there are any.

Without a network, or where the vulnerability service does not know the packages, one note says so: that is no failure.
"""

import json
import subprocess
import sys
from typing import Any


def summary(report: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the lines to print and whether a vulnerability is among them, from the JSON report of pip-audit."""
    packages = [one for one in report["dependencies"] if "editable" not in one.get("skip_reason", "")]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    lines = []
    for package in packages:
        for found in package.get("vulns", ()):
            fixed = f"fixed in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "no fix released"
            lines.append(f"vulnerability: {package['name']} {package['version']}: {found['id']}, {fixed}")
    vulnerable = bool(lines)
    audited = len(packages) - len(unknown)
    if unknown:
        names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        lines.append(f"note: {len(unknown)} of {len(packages)} packages could not be looked up: {names}")
    if audited and not vulnerable:
        lines.append(f"no known vulnerabilities in {audited} packages")
    return lines, vulnerable


def main() -> int:
    """Run pip-audit and print the summary."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        lines, vulnerable = summary(json.loads(done.stdout))
    except json.JSONDecodeError:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:200]
        lines, vulnerable = [f"note: dependencies were not audited: {reason}"], False
    print("\n".join(lines))
    return int(vulnerable)


if __name__ == "__main__":
    sys.exit(main())
