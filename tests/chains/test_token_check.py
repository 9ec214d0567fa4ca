"""Tokens that markets may list, and those of which amounts would not be exact."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from evm_chains import ALICE, anvil, chain_on, mine, receipt, rpc

from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.chains.evm.deployment import test_token_code as token_code
from orrange_p2p.chains.evm.erc20 import selector
from orrange_p2p.chains.evm.token_check import Verdict, check_token, is_listable
from orrange_p2p.core.ids import Address
from orrange_p2p.ports.chain import Intent

EVM = Path(__file__).parents[2] / "contracts" / "evm"
Built = Callable[[str], bytes]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The code of one of the tokens that the contracts' own tests use, by its name."""
    forge = next(EVM.glob("node_modules/@foundry-rs/forge-*/bin/forge"), None)
    if forge is None:
        pytest.skip("the packages of contracts/evm are not installed: run `make setup`")
    folder = tmp_path_factory.mktemp("tokens")
    places = ("--out", folder / "out", "--cache-path", folder / "cache")
    command = [forge, "build", "test/Tokens.sol", "--offline", *places]
    subprocess.run(command, cwd=EVM, capture_output=True, check=True)

    def code(name: str) -> bytes:
        made = json.loads((folder / "out" / "Tokens.sol" / f"{name}.json").read_text())
        return bytes.fromhex(made["bytecode"]["object"].removeprefix("0x"))

    return code


async def deployed(chain: EvmChain, port: int, code: bytes, *, mints: bool = True) -> Address:
    name = f"deploy {len(code)}"
    await chain.submit(Intent(name, ALICE.address, None, code))
    await mine(port)
    status = await chain.wait(name, confirmations=1, timeout_s=10)
    created = await receipt(port, "0x" + status.tx_hash.hex())
    token = Address(bytes.fromhex(created["contractAddress"][2:]))
    if mints:
        call = selector("mint(address,uint256)") + encode(ALICE.address, 1000)
        await chain.submit(Intent(f"mint {len(code)}", ALICE.address, token, call))
        await mine(port)
    return token


async def test_a_plain_token_may_be_listed() -> None:
    async with anvil() as port, chain_on(port) as chain:
        token = await deployed(chain, port, token_code("Gold", "GLD", 6))
        findings = await check_token(chain, token, ALICE.address)
        assert [(one.what, one.verdict) for one in findings] == [
            ("ERC-20", Verdict.GOOD),
            ("transfer", Verdict.GOOD),
            ("rebasing", Verdict.GOOD),
            ("stopping", Verdict.GOOD),
            ("upgrades", Verdict.GOOD),
        ]
        assert findings[0].why == "GLD, 6 decimals"
        assert is_listable(findings)
        # Without a holder nothing can be tried, and then it is not said to be good.
        untried = await check_token(chain, token, Address(bytes(20)))
        assert untried[1].verdict is Verdict.UNKNOWN and not is_listable(untried)
        assert (
            await rpc(port, "eth_getCode", "0x" + b"orrange token check ".hex(), "latest") == "0x"
        )


async def test_a_token_that_keeps_a_fee_is_not_to_be_listed(built: Built) -> None:
    async with anvil() as port, chain_on(port) as chain:
        token = await deployed(chain, port, built("FeeToken"))
        findings = await check_token(chain, token, ALICE.address)
        assert findings[1].verdict is Verdict.BAD
        assert findings[1].why == "of 500 units 495 arrive and 500 are gone: it keeps a fee"
        assert not is_listable(findings)


async def test_what_is_no_token_is_told(built: Built) -> None:
    async with anvil() as port, chain_on(port) as chain:
        findings = await check_token(chain, ALICE.address, ALICE.address)
        assert findings[0].why == "there is no contract at this address"
        silent = await deployed(chain, port, built("SilentToken"))
        findings = await check_token(chain, silent, ALICE.address)
        assert findings[0].verdict is Verdict.BAD  # it has no decimals
        assert "it says nothing of it" in findings[1].why


async def test_functions_that_give_a_token_away_are_seen() -> None:
    async with anvil() as port, chain_on(port) as chain:
        # The code of a token with selectors behind its end, where nothing runs into them.
        plain = await deployed(chain, port, token_code("Gold", "GLD", 6))
        code = await chain.code(plain)
        for signature, what, verdict in (
            ("sharesOf(address)", "rebasing", Verdict.BAD),
            ("paused()", "stopping", Verdict.WARNING),
            ("upgradeToAndCall(address,bytes)", "upgrades", Verdict.WARNING),
        ):
            changed = code + b"\x63" + selector(signature)
            await rpc(port, "anvil_setCode", "0x" + plain.hex(), "0x" + changed.hex())
            findings = await check_token(chain, plain, ALICE.address)
            (one,) = [one for one in findings if one.what == what]
            assert one.verdict is verdict and signature in one.why
            assert is_listable(findings) is (verdict is Verdict.WARNING)
