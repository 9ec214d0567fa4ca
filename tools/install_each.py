"""Install every requirement of a hashed file by itself: `python tools/install_each.py FILE`.

For packages that nothing depends on, each of which may fail without hurting the others. Always ends
with success; what did not install is named.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def requirements(text: str) -> list[str]:
    """The file's requirements, each with its continuation lines."""
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    return "\n".join(lines).replace("\n ", "\0 ").split("\n")


def install(requirement: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "requirement.txt"
        single.write_text(requirement.replace("\0", "\n") + "\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--quiet", "install", "--require-hashes", "--no-deps"]
        command = [*pip, "--no-build-isolation", "-r", str(single)]
        return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    for requirement in requirements(Path(sys.argv[1]).read_text(encoding="utf-8")):
        name = requirement.split()[0]
        print(name if install(requirement) else f"{name} did NOT install", flush=True)
