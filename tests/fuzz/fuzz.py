"""`make fuzz`: coverage-guided fuzzing of every decoder, so many seconds each.

Needs atheris, which has an environment of its own. It sees the branches of Python code only, so
this runs on a copy of the sources without the compiled modules. An input that broke a target is
kept in build/fuzz/findings; it becomes a test first. Exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "fuzz"
LONGEST: Final = 4096
"""Bytes of an input: what is wrong with long ones is wrong with short ones, but for the limits,
which the vectors cover."""
MEMORY_MIB: Final = 2048
INPUT_S: Final = 10


def fuzz_one(target: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["orrange_p2p"]):
        import fuzz_targets
    check = fuzz_targets.TARGETS[target]
    atheris.Setup([sys.argv[0], *arguments], check)
    atheris.Fuzz()


def fuzz_all(names: list[str], seconds: int) -> dict[str, str]:
    """What became of each target: its last line of statistics, or where its finding is."""
    BUILD.mkdir(parents=True, exist_ok=True)
    findings = BUILD / "findings"
    findings.mkdir(exist_ok=True)
    verdicts = {}
    with tempfile.TemporaryDirectory(prefix="orrange-fuzz-") as folder:
        sources = Path(folder) / "sources"
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / "orrange_p2p", sources / "orrange_p2p", ignore=ignore)
        for name in names:
            verdicts[name] = _run(name, seconds, sources, findings)
            print(f"{name:14} {verdicts[name]}", flush=True)
    return verdicts


def _run(name: str, seconds: int, sources: Path, findings: Path) -> str:
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, __file__, "--target", name, str(corpus)),
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={INPUT_S}"),
        *(f"-rss_limit_mb={MEMORY_MIB}", f"-artifact_prefix={findings}/{name}-"),
        "-print_final_stats=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    write_seeds = [sys.executable, __file__, "--seeds", name, str(corpus)]
    subprocess.run(write_seeds, env=environment, check=True)
    log = BUILD / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            env=environment,
            stdout=output,
            stderr=output,
            check=False,
            timeout=seconds + 120,
        )
    lines = log.read_text(errors="replace").splitlines()
    if done.returncode != 0:
        return f"FINDING, see {log.relative_to(ROOT)} and {findings.relative_to(ROOT)}"
    runs = next((line.split()[-1] for line in lines if "number_of_executed" in line), "?")
    progress = [line.split("cov: ")[1].split()[0] for line in lines if "cov: " in line]
    covered = progress[-1] if progress else "?"
    return f"ok: {runs} inputs, {covered} branches"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("targets", nargs="*", help="by default all")
    options = parser.parse_args()
    sys.path.append(str(ROOT))  # for the names; what is fuzzed is the copy
    import fuzz_targets

    if unknown := [name for name in options.targets if name not in fuzz_targets.TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(fuzz_targets.TARGETS)}")
    verdicts = fuzz_all(options.targets or list(fuzz_targets.TARGETS), options.seconds)
    found = [name for name, verdict in verdicts.items() if not verdict.startswith("ok")]
    print(json.dumps({"targets": len(verdicts), "seconds_each": options.seconds, "found": found}))
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] == ["--seeds"]:
        import fuzz_targets

        for number, seed in enumerate(fuzz_targets.seeds(sys.argv[2])):
            Path(sys.argv[3], f"seed-{number:03}").write_bytes(seed[:LONGEST])
    else:
        sys.exit(main())
