"""The encrypted seed: the keys it gives, and who gets them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.signers.keystore import Seed, open_seed, write_seed

WORDS = "abandon " * 23 + "art"
PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orrange_p2p.signers.keystore.SCRYPT_N", 1 << 4)


def test_a_wallet_finds_the_traders_under_the_same_words() -> None:
    seed = Seed.of_mnemonic(WORDS)
    # BIP-39's vector for 32 zero bytes, at the path that Ethereum wallets use.
    assert seed.mnemonic == WORDS
    assert seed.trader(1).address.hex() == "f278cf59f82edcf871d630f28ecc8056f25c1cdb"


def test_each_key_is_another_one() -> None:
    seed = Seed.new()
    signers = [seed.trader(1), seed.trader(2), seed.witness()]
    assert len({signer.address for signer in signers}) == 3
    assert seed.peer_secret() != seed.reveal_secret()
    assert seed.mnemonic not in repr(seed)
    again = Seed.of_mnemonic(seed.mnemonic.upper())
    assert again.witness().address == seed.witness().address


def test_words_that_are_none_are_told_and_not_quoted() -> None:
    for words in (WORDS.replace("art", "able"), WORDS.replace("art", "xyzzy"), "abandon " * 12, ""):
        with pytest.raises(ConfigError) as caught:
            Seed.of_mnemonic(words)
        assert "abandon" not in str(caught.value) and "xyzzy" not in str(caught.value)


def test_only_the_passphrase_opens_the_file(tmp_path: Path) -> None:
    path, seed = tmp_path / "seed.json", Seed.new()
    write_seed(path, seed, PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_seed(path, PASSPHRASE).mnemonic == seed.mnemonic
    with pytest.raises(ConfigError, match="wrong passphrase"):
        open_seed(path, PASSPHRASE + " ")
    with pytest.raises(ConfigError, match="not overwritten"):
        write_seed(path, Seed.new(), PASSPHRASE)
    write_seed(path, seed, "another one", replace=True)
    assert open_seed(path, "another one").mnemonic == seed.mnemonic
    with pytest.raises(ConfigError, match="wrong passphrase"):
        open_seed(path, PASSPHRASE)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_seed(path, "another one")


@pytest.mark.parametrize("name", ["format", "scrypt", "nonce", "sealed"])
def test_nothing_in_the_file_can_be_changed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "seed.json"
    write_seed(path, Seed.new(), PASSPHRASE)
    document = json.loads(path.read_text())
    for value in (None, "", "00" * 12, {}, 7, {**document["scrypt"], "n": 1 << 30}):
        path.write_text(json.dumps({**document, name: value}))
        with pytest.raises(ConfigError):
            open_seed(path, PASSPHRASE)
    del document[name]
    for text in (json.dumps(document), "", "[]", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            open_seed(path, PASSPHRASE)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        write_seed(tmp_path / "none" / "seed.json", Seed.new(), PASSPHRASE)
    with pytest.raises(ConfigError, match="cannot be read"):
        open_seed(tmp_path / "seed.json", PASSPHRASE)
