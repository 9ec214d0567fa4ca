"""Compile the core in place with mypyc, and notice compiled files that no longer fit their source.

    python tools/compile_core.py build | clean | drop-stale

Which modules: `include` of the mypyc hook in pyproject.toml, the list that wheels use too. Python
prefers a compiled module to the source beside it, so one that is out of date hides every edit.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "mypyc"
STAMP = Path("build") / ".compiled"  # make's; without it the next `make compile` builds again
GROUP = "orrange_core"


def listed_sources(root: Path = ROOT) -> list[Path]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    return [root / pattern.lstrip("/") for pattern in hook["include"]]


def compiled_modules(root: Path = ROOT) -> list[Path]:
    return sorted((root / "orrange_p2p").rglob("*.so"))


def source_of(compiled: Path) -> Path:
    # A wheel's build leaves book__mypyc beside book.
    return compiled.with_name(compiled.name.split(".", 1)[0].removesuffix("__mypyc") + ".py")


def stale_modules(root: Path = ROOT) -> list[Path]:
    """Compiled modules that are older than their source, or have lost it."""
    return [
        compiled
        for compiled in compiled_modules(root)
        if not (source := source_of(compiled)).exists()
        or source.stat().st_mtime > compiled.stat().st_mtime
    ]


def clean(root: Path = ROOT) -> None:
    for compiled in [*compiled_modules(root), *root.glob("*__mypyc.*.so")]:
        compiled.unlink()
    (root / STAMP).unlink(missing_ok=True)


def drop_stale(root: Path = ROOT) -> None:
    """All or none: the modules of one group call each other without going through Python."""
    if stale_modules(root):
        print("the compiled core is older than its source: going on with the source")
        clean(root)


def missing_tool() -> str | None:
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "the headers of Python (Debian and Ubuntu: apt-get install python3-dev)"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"a C compiler ({compiler})"
    return None


def build(root: Path = ROOT) -> int:
    sources = [source for source in listed_sources(root) if source.exists()]
    for absent in sorted(set(listed_sources(root)) - set(sources)):
        print(f"not compiled, does not exist: {absent.relative_to(root)}")
    lacking = missing_tool()
    if lacking or not sources:
        clean(root)
        if lacking:
            print(f"the core stays interpreted: compiling it takes {lacking}")
        return 0

    from mypyc.build import mypycify
    from setuptools import Distribution

    print(f"compiling {', '.join(source.stem for source in sources)}", flush=True)
    os.chdir(root)
    BUILD.mkdir(parents=True, exist_ok=True)
    extensions = mypycify(
        [f"--cache-dir={BUILD / 'cache'}", *(str(s.relative_to(root)) for s in sources)],
        opt_level="3",
        group_name=GROUP,
        target_dir=str(BUILD),
    )
    # A Distribution by hand: setup() would read this project's pyproject.toml, which is hatch's.
    command = Distribution({"name": GROUP, "ext_modules": extensions}).get_command_obj("build_ext")
    command.inplace = True
    command.build_temp = str(BUILD / "objects")
    command.build_lib = str(BUILD / "lib")
    command.ensure_finalized()
    command.run()

    for compiled in compiled_modules(root):
        if source_of(compiled) in sources:
            compiled.touch()  # unchanged C is not linked again, and must not look stale
        else:
            compiled.unlink()
    return 0


if __name__ == "__main__":
    commands = {"build": build, "clean": clean, "drop-stale": drop_stale}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: compile_core.py {' | '.join(commands)}")
    sys.exit(commands[sys.argv[1]]())
