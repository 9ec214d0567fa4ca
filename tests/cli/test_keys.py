"""Keys under a passphrase, from ``init`` to ``run``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from eth_account import Account

from orrange_p2p.cli import main as cli
from orrange_p2p.daemon.config import DataDir, load_config
from orrange_p2p.daemon.keys import PlainKeys, open_keys

WORDS = "abandon " * 23 + "art"
TRADER = "0xf278cf59f82edcf871d630f28ecc8056f25c1cdb"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orrange_p2p.core.reveals.RevealChain.__init__.__defaults__", (2048,))
    monkeypatch.setattr("orrange_p2p.signers.keystore.SCRYPT_N", 1 << 4)


def orrange(*args: str | Path, text: str = "") -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], input=text)


def made(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    made(orrange("init", "--dev", "--data-dir", tmp_path / "dev"))
    return tmp_path / "dev" / "network.toml"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "node"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return private(tmp_path / "passphrase", "correct horse\nnot this\n")


def init(home: Path, network: Path, secret: Path, *more: str, text: str = "") -> Result:
    args = ["--data-dir", home, "--network", network, "--passphrase-file", secret]
    return orrange("init", *args, *more, text=text)


def test_words_make_the_same_keys_again(
    home: Path, network: Path, secret: Path, tmp_path: Path
) -> None:
    args = ["--role", "witness", "--role", "trader", "--traders", "2"]
    first = made(init(home, network, secret, *args))
    assert [path.name for path in (home / "keys").iterdir()] == ["seed.json"]
    assert DataDir(home).never_signed.exists()
    assert made(init(home, network, secret, *args)) == {**first, "made": []}
    show = ["--data-dir", home, "--passphrase-file", secret]
    words = made(orrange("keys", "mnemonic", *show))["mnemonic"]
    assert len(words.split()) == 24
    again = tmp_path / "again"
    second = made(init(again, network, secret, "--restore-mnemonic", *args, text=words + "\n"))
    assert (second["witness"], second["traders"]) == (first["witness"], first["traders"])
    assert not DataDir(again).never_signed.exists()  # they may have signed
    listed = made(orrange("keys", "list", *show))
    assert [row["key"] for row in listed] == ["witness", "trader 1", "trader 2"]
    assert [row["address"] for row in listed[1:]] == first["traders"]


def test_words_of_a_wallet(home: Path, network: Path, secret: Path) -> None:
    report = made(init(home, network, secret, "--restore-mnemonic", text=WORDS))
    assert report["traders"] == [TRADER]
    wrong = init(home, network, secret, "--restore-mnemonic", text=WORDS)
    assert wrong.exit_code == 2 and "holds keys already" in wrong.stderr


def test_wrong_words_make_nothing(home: Path, network: Path, secret: Path) -> None:
    result = init(home, network, secret, "--restore-mnemonic", text=WORDS.replace("art", "able"))
    assert result.exit_code == 2 and "misspelt" in result.stderr
    assert not home.exists()


def test_a_passphrase_is_changed(home: Path, network: Path, secret: Path, tmp_path: Path) -> None:
    made(init(home, network, secret))
    other = private(tmp_path / "other", "battery staple")
    change = ["keys", "passphrase", "--data-dir", home, "--new-passphrase-file", other]
    made(orrange(*change, "--passphrase-file", secret))
    result = orrange(*change, "--passphrase-file", secret)
    assert result.exit_code == 2 and "wrong passphrase" in result.stderr
    made(orrange("keys", "list", "--data-dir", home, "--passphrase-file", other))


def test_a_passphrase_comes_from_a_private_file_or_a_terminal_alone(
    home: Path, network: Path, secret: Path
) -> None:
    for text, complaint in (
        ("short", "8 characters"),
        ("", "no passphrase"),
        ("\nx", "first line"),
    ):
        secret.write_text(text)
        result = init(home, network, secret)
        assert result.exit_code == 2 and complaint in result.stderr, text
        assert not home.exists()
    secret.write_text("correct horse")
    secret.chmod(0o644)
    assert "chmod 600" in init(home, network, secret).stderr
    secret.chmod(0o600)
    made(init(home, network, secret))
    for command in (["run"], ["keys", "list"], ["keys", "mnemonic"]):
        result = orrange(*command, "--data-dir", home)
        assert result.exit_code == 2 and "--passphrase-file" in result.stderr


def test_plain_files_go_on_working(network: Path) -> None:
    home = network.parent
    config = load_config(home)
    keys = open_keys(config, lambda: pytest.fail("they have no passphrase"))
    assert isinstance(keys, PlainKeys)
    listed = made(orrange("keys", "list", "--data-dir", home))
    assert [row["key"] for row in listed] == ["witness", "trader 1"]
    result = orrange("keys", "mnemonic", "--data-dir", home, "--passphrase-file", network)
    assert result.exit_code == 2


def keystore(tmp_path: Path) -> Path:
    document = Account.encrypt("0x" + "7a28" * 16, "their passphrase", kdf="pbkdf2", iterations=9)
    path = tmp_path / "UTC--key.json"
    path.write_text(json.dumps(document))
    return path


def import_key(home: Path, tmp_path: Path, *more: str | Path) -> Result:
    opening = private(tmp_path / "opening", "their passphrase\n")
    args = [keystore(tmp_path), "--keystore-passphrase-file", opening, "--data-dir", home]
    return orrange("wallet", "import", *args, *more)


def test_a_trader_of_the_seed_is_added(home: Path, network: Path, secret: Path) -> None:
    made(init(home, network, secret))
    text = (home / "node.toml").read_text()
    args = ["--data-dir", home, "--passphrase-file", secret]
    added = made(orrange("wallet", "new", *args))
    listed = made(orrange("keys", "list", *args))
    assert [row["key"] for row in listed] == ["trader 1", "trader 2"]
    assert (added["trader"], added["address"].lower()) == (2, listed[1]["address"])
    assert (home / "node.toml").read_text() == text.replace("traders = 1", "traders = 2")


def test_a_key_of_another_wallet_trades_too_and_signs_nothing_at_first(
    home: Path, network: Path, secret: Path, tmp_path: Path
) -> None:
    made(init(home, network, secret))
    assert DataDir(home).never_signed.exists()
    args = ["--data-dir", home, "--passphrase-file", secret]
    report = made(import_key(home, tmp_path, "--passphrase-file", secret))
    listed = made(orrange("keys", "list", *args))
    assert report["trader"] == 2
    assert report["address"].lower() == listed[1]["address"]
    assert not DataDir(home).never_signed.exists()  # it may have signed elsewhere
    sealed = (home / "keys" / "imported-1.json").read_text()
    assert "7a28" not in sealed
    again = import_key(home, tmp_path, "--passphrase-file", secret)
    assert again.exit_code == 2 and "is a trader of this node already" in again.stderr
    more = orrange("wallet", "new", *args)
    assert more.exit_code == 2 and "would change their numbers" in more.stderr
    # A new passphrase is one for all.
    other = private(tmp_path / "other", "battery staple")
    made(orrange("keys", "passphrase", *args, "--new-passphrase-file", other))
    args[-1] = other
    assert made(orrange("keys", "list", *args)) == listed


def test_plain_files_take_new_keys_and_those_of_other_wallets(
    network: Path, tmp_path: Path
) -> None:
    home = network.parent
    added = made(orrange("wallet", "new", "--data-dir", home))
    report = made(import_key(home, tmp_path))
    listed = made(orrange("keys", "list", "--data-dir", home))
    addresses = [added["address"].lower(), report["address"].lower()]
    assert [row["address"] for row in listed[2:]] == addresses
    wrong = private(tmp_path / "opening2", "another passphrase\n")
    path = keystore(tmp_path)
    result = orrange(
        *("wallet", "import", path, "--keystore-passphrase-file", wrong, "--data-dir", home)
    )
    assert result.exit_code == 2 and "wrong passphrase" in result.stderr
