// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Test, Vm} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";
import {MarketRecord} from "../src/MarketRecord.sol";
import {Network} from "../src/Network.sol";
import {Settlement} from "../src/Settlement.sol";
import {FeeToken, SilentToken, Token} from "./Tokens.sol";

/// A wallet that is a contract: its owner's signature is its own.
contract Wallet is IERC1271 {
    address immutable OWNER;

    constructor(address owner) {
        OWNER = owner;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        return ECDSA.recoverCalldata(digest, signature) == OWNER ? IERC1271.isValidSignature.selector : bytes4(0);
    }

    function call(address to, bytes calldata data) external {
        (bool done,) = to.call(data);
        require(done, "failed");
    }
}

/// Reverts with words that would accuse somebody, did anybody listen.
contract SlanderingToken is Token {
    address immutable VICTIM;

    constructor(address victim) Token("SLANDER") {
        VICTIM = victim;
    }

    function transferFrom(address, address, uint256) public view override returns (bool) {
        revert Settlement.Unfunded(VICTIM, address(this), 1);
    }
}

/// Settles the same trade again while it is being settled.
contract ReenteringToken is Token {
    Settlement settlement;
    Settlement.Settling[] again;

    constructor() Token("REENTER") {}

    function aim(Settlement settlement_, Settlement.Settling calldata one) external {
        settlement = settlement_;
        again.push(one);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        if (address(settlement) != address(0)) settlement.settle(again);
        return super.transferFrom(from, to, amount);
    }
}

abstract contract SettlementSetUp is Test {
    bytes32 constant NETWORK = keccak256("network");
    address constant REGISTRY = address(0x1234);
    address constant BURN = 0x000000000000000000000000000000000000dEaD;
    address treasury = makeAddr("treasury");
    Settlement settlement = new Settlement(1, REGISTRY, NETWORK, 1000, 500_000, treasury);
    Token base = new Token("BASE");
    Token quote = new Token("QUOTE");
    uint256 constant LOT = 1000;
    uint64 constant EXPIRY_MS = 2_000_000_000_000;
    bytes32 market;
    uint256 aliceKey = uint256(keccak256("alice"));
    uint256 bobKey = uint256(keccak256("bob"));
    address alice = vm.addr(aliceKey);
    address bob = vm.addr(bobKey);

    function setUp() public virtual {
        market = settlement.list(record(address(base), address(quote), LOT));
        fund(base, bob, 1_000_000);
        fund(quote, alice, 1_000_000);
    }

    function fund(Token token, address owner, uint256 amount) internal {
        token.mint(owner, amount);
        vm.prank(owner);
        token.approve(address(settlement), type(uint256).max);
    }

    function record(address one, address other, uint256 lot) internal view returns (bytes memory) {
        return
            abi.encodePacked(
                hex"89", asset(one), asset(other), hex"05", hex"1b", uint64(lot), hex"6661746f6d6963", "rest"
            );
    }

    function asset(address token) internal view returns (bytes memory) {
        bytes memory text = bytes(string.concat("eip155:", vm.toString(block.chainid), "/erc20:", vm.toString(token)));
        return abi.encodePacked(hex"78", uint8(text.length), text);
    }

    /// Alice buys from Bob.
    function trade(uint256 number) internal view returns (Settlement.Trade memory) {
        return Settlement.Trade(market, bytes32(number), alice, bob, 3 * LOT, 60_000, 7, EXPIRY_MS);
    }

    function sign(uint256 key, bytes32 structHash) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, Network.digest(settlement.NETWORK_SEPARATOR(), structHash));
        return abi.encodePacked(r, s, v);
    }

    function side(uint256 key, bytes32 id) internal view returns (Settlement.Side memory) {
        return Settlement.Side(address(0), new bytes32[](0), sign(key, id));
    }

    function signed(Settlement.Trade memory one) internal view returns (Settlement.Settling memory) {
        bytes32 id = settlement.idOf(one);
        return Settlement.Settling(one, side(aliceKey, id), side(bobKey, id));
    }

    function settle(Settlement.Settling memory one) internal returns (uint256) {
        Settlement.Settling[] memory batch = new Settlement.Settling[](1);
        batch[0] = one;
        return settlement.settle(batch);
    }

    function expectFailed(Settlement.Settling memory one, bytes4 reason) internal {
        vm.expectEmit(address(settlement));
        emit Settlement.Failed(settlement.idOf(one.trade), reason);
        assertEq(settle(one), 0);
    }
}

contract SettlementTest is SettlementSetUp {
    using stdJson for string;

    // --- the shortest example -----------------------------------------------------------------

    function test_both_sides_change_hands() public {
        Settlement.Trade memory one = trade(1);
        vm.expectEmit(address(settlement));
        emit Settlement.Settled(settlement.idOf(one), market, alice, bob, 3 * LOT, 60_000, 30);
        vm.prank(makeAddr("anybody"));
        assertEq(settle(signed(one)), 1);
        assertEq(base.balanceOf(alice), 3 * LOT);
        assertEq(quote.balanceOf(alice), 940_000);
        assertEq(base.balanceOf(bob), 1_000_000 - 3 * LOT);
        assertEq(quote.balanceOf(bob), 59_940);
        assertEq(quote.balanceOf(BURN), 30);
        assertEq(quote.balanceOf(treasury), 30);
    }

    function test_a_bad_trade_leaves_the_others_alone() public {
        Settlement.Settling[] memory batch = new Settlement.Settling[](3);
        for (uint256 i = 0; i < 3; ++i) {
            batch[i] = signed(trade(i));
        }
        batch[1].seller.signature = batch[1].buyer.signature;
        assertEq(settlement.settle(batch), 2);
        assertEq(base.balanceOf(alice), 6 * LOT);
    }

    function test_one_signature_over_many_trades() public {
        Settlement.Settling memory one = signed(trade(1));
        bytes32 id = settlement.idOf(one.trade);
        bytes32 other = settlement.idOf(trade(2));
        bytes32 root = id < other ? keccak256(abi.encode(id, other)) : keccak256(abi.encode(other, id));
        one.seller.path = new bytes32[](1);
        one.seller.path[0] = other;
        one.seller.signature = sign(bobKey, keccak256(abi.encode(keccak256("Trades(bytes32 root)"), root)));
        assertEq(settle(one), 1);
        one.trade = trade(3);
        one.buyer = side(aliceKey, settlement.idOf(one.trade));
        expectFailed(one, Settlement.NotSigned.selector);
    }

    // --- no settle twice, nothing unsigned ----------------------------------------------------

    function test_a_trade_settles_once() public {
        settle(signed(trade(1)));
        expectFailed(signed(trade(1)), Settlement.Ended.selector);
        Settlement.Settling[] memory twice = new Settlement.Settling[](2);
        twice[0] = twice[1] = signed(trade(2));
        assertEq(settlement.settle(twice), 1);
    }

    function test_both_have_to_sign() public {
        Settlement.Settling memory one = signed(trade(1));
        one.buyer.signature = one.seller.signature;
        expectFailed(one, Settlement.NotSigned.selector);
        one = signed(trade(1));
        one.seller.signature = "";
        expectFailed(one, Settlement.NotSigned.selector);
        one = signed(trade(1));
        one.seller.path = new bytes32[](9);
        expectFailed(one, Settlement.NotSigned.selector);
    }

    function test_the_other_form_of_a_signature_is_refused() public {
        Settlement.Settling memory one = signed(trade(1));
        bytes memory signature = one.seller.signature;
        (bytes32 r, bytes32 s) = (bytes32(0), bytes32(0));
        assembly {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
        }
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        one.seller.signature =
            abi.encodePacked(r, order - uint256(s), uint8(signature[64]) == 27 ? uint8(28) : uint8(27));
        expectFailed(one, Settlement.NotSigned.selector);
    }

    function testFuzz_whoever_did_not_sign_this_pays_nothing(uint256 word, uint8 field) public {
        Settlement.Settling memory one = signed(trade(1));
        field %= 5;
        if (field == 0) one.trade.fill = bytes32(word);
        if (field == 1) one.trade.baseAmount = word % 1_000_000;
        if (field == 2) one.trade.quoteAmount = word % 1_000_000;
        if (field == 3) one.trade.epoch = uint64(word);
        if (field == 4) (one.trade.buyer, one.trade.seller) = (bob, alice);
        vm.assume(settlement.idOf(one.trade) != settlement.idOf(trade(1)));
        assertEq(settle(one), 0);
        assertEq(base.balanceOf(bob) + quote.balanceOf(alice), 2_000_000);
    }

    function test_not_on_another_chain() public {
        Settlement.Settling memory one = signed(trade(1));
        vm.chainId(5);
        expectFailed(one, Settlement.WrongChain.selector);
    }

    function test_only_settle_settles() public {
        Settlement.Settling memory one = signed(trade(1));
        vm.expectRevert(Settlement.OnlyInside.selector);
        settlement.settleOne(one);
    }

    // --- who is to blame ----------------------------------------------------------------------

    function test_whoever_cannot_pay_defaults() public {
        Settlement.Settling memory one = signed(trade(1));
        vm.prank(bob);
        base.approve(address(settlement), 0);
        vm.expectEmit(address(settlement));
        emit Settlement.Defaulted(settlement.idOf(one.trade), bob, address(base), 3 * LOT);
        assertEq(settle(one), 0);
        vm.prank(bob);
        base.approve(address(settlement), 3 * LOT);
        vm.prank(alice);
        quote.transfer(treasury, 1_000_000);
        vm.expectEmit(address(settlement));
        emit Settlement.Defaulted(settlement.idOf(one.trade), alice, address(quote), 59_940);
        assertEq(settle(one), 0);
        assertEq(base.balanceOf(bob), 1_000_000, "the first leg was undone");
        quote.mint(alice, 60_000);
        assertEq(settle(one), 1, "and it may still settle");
    }

    function test_nobody_is_blamed_without_their_signature() public {
        Settlement.Settling memory one = signed(trade(1));
        vm.prank(bob);
        base.approve(address(settlement), 0);
        one.seller.signature = one.buyer.signature;
        expectFailed(one, Settlement.NotSigned.selector);
    }

    function test_a_token_accuses_nobody() public {
        base = new SlanderingToken(bob);
        setUp();
        expectFailed(signed(trade(1)), Settlement.TransferFailed.selector);
    }

    function testFuzz_nobody_is_blamed_for_want_of_gas(uint256 gas_) public {
        Settlement.Settling[] memory batch = new Settlement.Settling[](1);
        batch[0] = signed(trade(1));
        gas_ = bound(gas_, 30_000, 400_000);
        vm.recordLogs();
        try settlement.settle{gas: gas_}(batch) {} catch {}
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            assertNotEq(logs[i].topics[0], Settlement.Defaulted.selector);
        }
    }

    function test_a_trade_settles_until_it_expires() public {
        vm.warp(EXPIRY_MS / 1000 - 1);
        assertEq(settle(signed(trade(1))), 1);
        vm.warp(EXPIRY_MS / 1000);
        expectFailed(signed(trade(2)), Settlement.Expired.selector);
        Settlement.Settling memory longer = signed(trade(3));
        longer.trade.expiryMs += 1000;
        expectFailed(longer, Settlement.NotSigned.selector);
    }

    function test_a_party_may_refuse() public {
        vm.prank(alice);
        settlement.refuse(trade(1), address(0));
        expectFailed(signed(trade(1)), Settlement.Ended.selector);
        vm.expectRevert(Settlement.NotAParty.selector);
        settlement.refuse(trade(2), address(this));
        settle(signed(trade(3)));
        vm.expectRevert(abi.encodeWithSelector(Settlement.Ended.selector, settlement.idOf(trade(3))));
        vm.prank(bob);
        settlement.refuse(trade(3), address(0));
    }

    // --- tokens -------------------------------------------------------------------------------

    function test_a_token_that_keeps_a_fee_is_refused() public {
        base = new FeeToken();
        setUp();
        expectFailed(signed(trade(1)), Settlement.TokenTakesFee.selector);
        assertEq(base.balanceOf(bob), 1_000_000);
    }

    function test_a_token_that_returns_nothing_works() public {
        SilentToken silent = new SilentToken();
        market = settlement.list(record(address(silent), address(quote), LOT));
        silent.mint(bob, 3 * LOT);
        vm.prank(bob);
        silent.approve(address(settlement), 3 * LOT);
        assertEq(settle(signed(trade(1))), 1);
    }

    function test_a_token_that_calls_back_settles_nothing_twice() public {
        ReenteringToken token = new ReenteringToken();
        base = token;
        setUp();
        Settlement.Settling memory one = signed(trade(1));
        token.aim(settlement, one);
        expectFailed(one, Settlement.TransferFailed.selector);
        assertEq(token.balanceOf(bob), 1_000_000);
    }

    function test_permits_are_used_and_a_used_one_harms_nothing() public {
        Settlement.Settling[] memory batch = new Settlement.Settling[](1);
        batch[0] = signed(trade(1));
        vm.prank(bob);
        base.approve(address(settlement), 0);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                bob,
                address(settlement),
                3 * LOT,
                0,
                block.timestamp
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(bobKey, Network.digest(base.DOMAIN_SEPARATOR(), permit));
        Settlement.Permit[] memory permits = new Settlement.Permit[](2);
        permits[0] = permits[1] = Settlement.Permit(address(base), bob, 3 * LOT, block.timestamp, v, r, s);
        assertEq(settlement.settleWithPermits(permits, batch), 1);
    }

    // --- delegation ---------------------------------------------------------------------------

    function delegation(address owner, uint64 cap)
        internal
        view
        returns (Settlement.Delegation memory one, bytes memory consent)
    {
        one = Settlement.Delegation(market, owner, alice, cap, uint64(block.timestamp + 1 hours) * 1000);
        consent = sign(
            aliceKey,
            keccak256(
                abi.encode(
                    keccak256("Delegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs)"),
                    one
                )
            )
        );
    }

    function test_a_contract_lets_a_session_key_trade_up_to_its_cap() public {
        Wallet wallet = new Wallet(vm.addr(9));
        fund(quote, address(wallet), 1_000_000);
        (Settlement.Delegation memory one, bytes memory consent) = delegation(address(wallet), 5);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "OwnerDelegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs,uint256 nonce)"
                ),
                one,
                0
            )
        );
        (, string memory name, string memory version, uint256 chain, address self,,) = settlement.eip712Domain();
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chain,
                self
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(9, Network.digest(domain, structHash));
        bytes memory signature = abi.encodePacked(r, s, v);
        settlement.delegateBySignature(one, consent, signature);
        Settlement.Settling memory bought = signed(trade(1));
        bought.buyer.owner = address(wallet);
        assertEq(settle(bought), 1);
        assertEq(base.balanceOf(address(wallet)), 3 * LOT);
        bought = signed(trade(2));
        bought.buyer.owner = address(wallet);
        expectFailed(bought, Settlement.NotDelegated.selector);
        // Its number is used: it grants nothing more.
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotSigned.selector, address(wallet)));
        settlement.delegateBySignature(one, consent, signature);
        assertEq(quote.balanceOf(alice), 1_000_000, "the session key pays nothing");
    }

    function test_the_owner_may_call_instead_of_signing_and_revokes() public {
        fund(quote, address(this), 1_000_000);
        (Settlement.Delegation memory one, bytes memory consent) = delegation(address(this), 5);
        settlement.delegate(one, consent);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotSigned.selector, address(this)));
        settlement.delegate(one, consent);
        Settlement.Settling memory bought = signed(trade(1));
        bought.buyer.owner = address(this);
        vm.warp(block.timestamp + 1 hours);
        expectFailed(bought, Settlement.NotDelegated.selector);
        vm.warp(block.timestamp - 1);
        settlement.refuse(trade(2), address(this));
        assertEq(settle(bought), 1);
        settlement.revoke(market, alice);
        bought = signed(trade(3));
        bought.buyer.owner = address(this);
        expectFailed(bought, Settlement.NotDelegated.selector);
    }

    function test_no_delegation_without_the_session_keys_consent() public {
        (Settlement.Delegation memory one, bytes memory consent) = delegation(address(this), 5);
        one.cap = 6;
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotSigned.selector, alice));
        settlement.delegate(one, consent);
    }

    function test_nobody_trades_with_themselves() public {
        fund(quote, bob, 1_000_000);
        (Settlement.Delegation memory one, bytes memory consent) = delegation(bob, 5);
        vm.prank(bob);
        settlement.delegate(one, consent);
        Settlement.Settling memory both = signed(trade(1));
        both.buyer.owner = bob;
        expectFailed(both, Settlement.SameOwner.selector);
    }

    // --- markets and set-up -------------------------------------------------------------------

    function test_what_is_no_market_here_is_not_listed() public {
        bytes memory good = record(address(base), address(quote), LOT);
        for (uint256 cut = 0; cut < good.length - 4; ++cut) {
            bytes memory short = new bytes(cut);
            for (uint256 i = 0; i < cut; ++i) {
                short[i] = good[i];
            }
            vm.expectRevert(MarketRecord.BadMarket.selector);
            settlement.list(short);
        }
        vm.expectRevert(Settlement.NotAtomicMarket.selector);
        settlement.list(record(address(base), address(base), LOT));
        vm.expectRevert(MarketRecord.BadMarket.selector);
        settlement.list(record(address(base), address(quote), 0));
        vm.chainId(5);
        vm.expectRevert(MarketRecord.BadMarket.selector);
        settlement.list(good);
    }

    function test_a_trade_of_an_unknown_market() public {
        market = bytes32(uint256(1));
        expectFailed(signed(trade(1)), Settlement.NotListed.selector);
    }

    function test_no_fee_beyond_a_hundredth_and_none_for_nobody() public {
        vm.expectRevert(Settlement.BadFee.selector);
        new Settlement(1, REGISTRY, NETWORK, 10_001, 0, treasury);
        vm.expectRevert(Settlement.BadFee.selector);
        new Settlement(1, REGISTRY, NETWORK, 1, 1_000_001, treasury);
        vm.expectRevert(Settlement.BadFee.selector);
        new Settlement(1, REGISTRY, NETWORK, 1, 0, address(0));
        new Settlement(1, REGISTRY, NETWORK, 1, 1_000_000, address(0));
    }

    function test_the_bytes_that_nodes_sign() public view {
        string memory file = vm.readFile("../../protocol/vectors/eip712.json");
        assertEq(
            Network.separator(
                file.readUint(".domain.chain_id"),
                file.readAddress(".domain.verifying_contract"),
                file.readBytes32(".domain.salt")
            ),
            file.readBytes32(".domain.separator")
        );
        Settlement.Trade memory one = Settlement.Trade(
            file.readBytes32(".valid[3].values[0]"),
            file.readBytes32(".valid[3].values[1]"),
            file.readAddress(".valid[3].values[2]"),
            file.readAddress(".valid[3].values[3]"),
            file.readUint(".valid[3].values[4]"),
            file.readUint(".valid[3].values[5]"),
            uint64(file.readUint(".valid[3].values[6]")),
            uint64(file.readUint(".valid[3].values[7]"))
        );
        assertEq(
            Network.digest(file.readBytes32(".domain.separator"), settlement.idOf(one)),
            file.readBytes32(".valid[3].digest")
        );
    }
}

/// Settles, cheats and moves funds in any order.
contract Traders is SettlementSetUp {
    uint256 public settled;
    mapping(bytes32 => bool) done;

    constructor() {
        setUp();
    }

    function attempt(uint8 number, uint8 forged, bool twice) external {
        Settlement.Settling memory one = signed(trade(number % 32));
        if (forged % 4 == 1) one.seller.signature = one.buyer.signature;
        if (forged % 4 == 2) one.trade.quoteAmount += 1;
        bytes32 id = settlement.idOf(one.trade);
        bool may = base.balanceOf(bob) >= 3 * LOT && base.allowance(bob, address(settlement)) >= 3 * LOT
            && quote.balanceOf(alice) >= 60_000 && forged % 4 != 1 && forged % 4 != 2;
        Settlement.Settling[] memory batch = new Settlement.Settling[](twice ? 2 : 1);
        batch[0] = one;
        if (twice) batch[1] = one;
        uint256 count = settlement.settle(batch);
        require(count == (may && !done[id] ? 1 : 0), "settles once, if signed and funded");
        if (count == 1) done[id] = true;
        settled += count;
    }

    function allow(bool yes) external {
        vm.prank(bob);
        base.approve(address(settlement), yes ? type(uint256).max : 0);
    }

    function check() external view {
        assertEq(base.balanceOf(alice), settled * 3 * LOT);
        assertEq(base.balanceOf(alice) + base.balanceOf(bob), 1_000_000);
        assertEq(quote.balanceOf(alice), 1_000_000 - settled * 60_000);
        assertEq(quote.balanceOf(bob), settled * 59_940);
        assertEq(quote.balanceOf(BURN) + quote.balanceOf(treasury), settled * 60);
        assertEq(base.balanceOf(address(settlement)) + quote.balanceOf(address(settlement)), 0);
    }
}

contract SettlementInvariants is Test {
    Traders traders = new Traders();

    function setUp() public {
        targetContract(address(traders));
        bytes4[] memory selectors = new bytes4[](2);
        (selectors[0], selectors[1]) = (Traders.attempt.selector, Traders.allow.selector);
        targetSelector(FuzzSelector(address(traders), selectors));
    }

    /// Value is conserved, and nobody pays but for trades they signed, each once.
    function invariant_everybody_has_their_own() public view {
        traders.check();
    }
}
