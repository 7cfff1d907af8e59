"""Write requirements.lock, the tested environment with the hash of every file: `make lock`.

On the same system and Python, `pip install --require-hashes -r requirements.lock` installs just
these files; elsewhere pyproject.toml's looser pins serve.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
OPTIONS = ["--dry-run", "--ignore-installed", "--quiet", "--disable-pip-version-check"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", *OPTIONS, "--report", str(report)]
        subprocess.run([*command, f"{LOCK.parent}[test]"], check=True)
        LOCK.write_text(lock(json.loads(report.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {LOCK}")


def lock(report: dict) -> str:
    """The text, of a report of pip; the project itself is left out."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines = [f"# {line}".rstrip() for line in [*__doc__.strip().splitlines(), system]]
    for item in sorted(report["install"], key=lambda item: item["metadata"]["name"].lower()):
        about, file = item["metadata"], item["download_info"].get("archive_info", {})
        if file.get("hashes"):
            sha = file["hashes"]["sha256"]
            lines.append(f"{about['name']}=={about['version']} --hash=sha256:{sha}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
