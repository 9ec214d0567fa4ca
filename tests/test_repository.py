"""The repository keeps its own rules: locks, packaging, compiled files, import contracts."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import compile_core
import install_each
import pytest
from packaging.requirements import Requirement

import orrange_p2p

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ["build.txt", "run.txt", "dev.txt", "bench-peers.txt", "fuzz.txt"]


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Name -> (version, hashes) of one lock file; fails on any line of another shape."""
    found = {}
    for block in install_each.requirements(lock_text(name)):
        head, *rest = (line.strip().removesuffix("\\").strip() for line in block.split("\0"))
        match = re.fullmatch(r"([a-z0-9-]+)==([\w.!+]+)( ; .+)?", head)
        assert match, head
        assert rest, f"{head} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in rest), head
        found[match[1]] = (match[2], frozenset(rest))
    return found


def tracked_files() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listing.stdout.splitlines()


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_requirement_is_pinned_and_hashed(name: str) -> None:
    assert pins(name)


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_packages_and_no_places(name: str) -> None:
    assert not re.search(r"://|file:|--(extra-)?index-url|--find-links| @ ", lock_text(name))


def test_npm_locks_record_no_download_addresses() -> None:
    locks = [path for path in tracked_files() if path.endswith("package-lock.json")]
    assert [path for path in locks if '"resolved"' in (ROOT / path).read_text("utf-8")] == []


def test_each_lock_contains_the_one_installed_before_it() -> None:
    assert pins("build.txt").items() <= pins("run.txt").items() <= pins("dev.txt").items()


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("build.txt", PROJECT["dependency-groups"]["build"]),
        ("run.txt", PROJECT["project"]["dependencies"]),
        ("run.txt", PROJECT["project"]["optional-dependencies"]["devnet"]),
        ("dev.txt", PROJECT["dependency-groups"]["dev"]),
        ("bench-peers.txt", PROJECT["dependency-groups"]["peers"]),
        ("fuzz.txt", PROJECT["dependency-groups"]["fuzz"]),
    ],
)
def test_locks_satisfy_what_the_project_declares(name: str, declared: list[str]) -> None:
    locked = pins(name)
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(locked[requirement.name][0]), requirement


def test_the_installed_version_is_the_packages() -> None:
    assert version("orrange-p2p") == orrange_p2p.__version__


def test_the_modules_to_compile_exist() -> None:
    sources = compile_core.listed_sources()
    assert sources
    assert [source for source in sources if not source.is_file()] == []


def test_nothing_compiled_is_tracked() -> None:
    compiled = (".so", ".pyd", ".pyc", ".c", ".o")
    assert [path for path in tracked_files() if path.endswith(compiled)] == []


def test_a_compiled_module_older_than_its_source_is_stale(tmp_path: Path) -> None:
    core = tmp_path / "orrange_p2p" / "core"
    core.mkdir(parents=True)
    source, compiled = core / "book.py", core / "book.cpython-311-x86_64-linux-gnu.so"
    source.touch()
    assert compile_core.stale_modules(tmp_path) == []
    compiled.touch()
    os.utime(source, ns=(0, compiled.stat().st_mtime_ns - 1))
    assert compile_core.stale_modules(tmp_path) == []
    os.utime(source, ns=(0, compiled.stat().st_mtime_ns + 10**9))
    assert compile_core.stale_modules(tmp_path) == [compiled]
    source.unlink()
    assert compile_core.stale_modules(tmp_path) == [compiled]
    compile_core.drop_stale(tmp_path)
    assert not compiled.exists()


def test_core_imports_only_attrs_cbor2_and_the_compilers_integers() -> None:
    allowed = {*sys.stdlib_module_names, "attr", "attrs", "cbor2", "mypy_extensions", "orrange_p2p"}
    foreign = set()
    for source in (ROOT / "orrange_p2p" / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            foreign |= {(source.name, n) for n in names if n.split(".")[0] not in allowed}
    assert foreign == set()


ROOMS = (
    *("bench", "chains", "cli", "client", "core", "crypto", "daemon", "devnet", "feeds"),
    *("p2p", "ports", "rpc", "signers", "sim", "store"),
)


def import_contracts(folder: Path, imports: dict[str, str]) -> dict[str, str]:
    """Contract name -> KEPT or BROKEN for a package with these rooms and the given imports."""
    for room in ROOMS:
        package = folder / "orrange_p2p" / room
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "module.py").write_text(imports.get(room, ""), encoding="utf-8")
    (folder / "orrange_p2p" / "__init__.py").touch()
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    result = subprocess.run(
        [*command, "--config", ROOT / "pyproject.toml"], cwd=folder, capture_output=True, text=True
    )
    return dict(re.findall(r"^(.+) (KEPT|BROKEN)$", result.stdout, re.MULTILINE))


def test_the_import_contracts_bite(tmp_path: Path) -> None:
    names = {contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]}
    lawful = {
        "cli": "import orrange_p2p.daemon.module",
        "daemon": "import orrange_p2p.p2p.module, orrange_p2p.rpc.module, orrange_p2p.sim.module",
        "bench": "import orrange_p2p.store.module, orrange_p2p.feeds.module",
        "p2p": "import libp2p, orrange_p2p.ports.module, orrange_p2p.crypto.module",
        "ports": "import orrange_p2p.core.module",
        "core": "import orrange_p2p.crypto.module",
    }
    assert import_contracts(tmp_path / "lawful", lawful) == dict.fromkeys(names, "KEPT")
    unlawful = {
        "store": "import orrange_p2p.p2p.module",
        "cli": "import orrange_p2p.chains.module",
        "bench": "import orrange_p2p.sim.module",
        "rpc": "import orrange_p2p.crypto.module",
        "feeds": "import orrange_p2p.ports.module",
        "core": "import time",
        "client": "import libp2p",
    }
    assert import_contracts(tmp_path / "unlawful", unlawful) == dict.fromkeys(names, "BROKEN")
