// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {HashTimelock} from "../src/HashTimelock.sol";
import {FeeToken, RefusingToken, SilentToken, Token} from "./Tokens.sol";

/// Takes the coin, and tries to take it again while at it.
contract Greedy {
    HashTimelock immutable LOCKS;
    bytes32 preimage;
    bytes32 from;

    constructor(HashTimelock locks) {
        LOCKS = locks;
    }

    function aim(bytes32 preimage_, bytes32 from_) external {
        (preimage, from) = (preimage_, from_);
    }

    receive() external payable {
        try LOCKS.claim(preimage, from) {
            revert("claimed twice");
        } catch {}
        try LOCKS.refund(sha256(bytes.concat(preimage)), from) {
            revert("claimed and refunded");
        } catch {}
    }
}

contract HashTimelockTest is Test {
    HashTimelock locks = new HashTimelock();
    Token token = new Token("TOK");
    address alice = makeAddr("alice");
    address bob = makeAddr("bob");
    bytes32 constant PREIMAGE = keccak256("preimage");
    bytes32 constant TRADE = keccak256("trade");
    bytes32 hashlock = sha256(bytes.concat(PREIMAGE));
    uint256 timelock = block.timestamp + 1 hours;

    function setUp() public {
        vm.deal(alice, 100 ether);
        token.mint(alice, 100 ether);
        vm.prank(alice);
        token.approve(address(locks), type(uint256).max);
    }

    function pack(address party, uint256 number) internal pure returns (bytes32) {
        return bytes32(bytes20(party)) | bytes32(number);
    }

    function from() internal view returns (bytes32) {
        return pack(alice, timelock);
    }

    function lockCoin(uint256 amount) internal {
        vm.prank(alice);
        locks.lock{value: amount}(hashlock, TRADE, bob, timelock);
    }

    function lockToken(address which, uint256 amount) internal {
        vm.prank(alice);
        locks.lockToken(pack(which, timelock), hashlock, TRADE, pack(bob, amount));
    }

    // --- the shortest example: what is locked goes to its recipient by the secret --------------

    function test_coin_goes_to_the_recipient_whoever_claims() public {
        vm.expectEmit();
        emit HashTimelock.Locked(hashlock, TRADE, from(), pack(bob, 1 ether));
        lockCoin(1 ether);
        assertEq(locks.locked(address(0), hashlock, from()), pack(bob, 1 ether));
        vm.expectEmit();
        emit HashTimelock.Claimed(hashlock, PREIMAGE);
        vm.prank(makeAddr("watchtower"));
        locks.claim(PREIMAGE, from());
        assertEq(bob.balance, 1 ether);
        assertEq(locks.locked(address(0), hashlock, from()), 0);
    }

    function test_tokens_go_to_the_recipient_whoever_claims() public {
        vm.expectEmit(address(locks));
        emit HashTimelock.TokenLocked(hashlock, TRADE, address(token), from(), pack(bob, 5));
        lockToken(address(token), 5);
        locks.claimToken(address(token), PREIMAGE, from());
        assertEq(token.balanceOf(bob), 5);
    }

    function test_coin_and_tokens_go_back_when_the_time_is_over() public {
        lockCoin(1 ether);
        lockToken(address(token), 5);
        vm.warp(timelock);
        vm.expectEmit();
        emit HashTimelock.Refunded(hashlock);
        locks.refund(hashlock, from());
        locks.refundToken(address(token), hashlock, from());
        assertEq(alice.balance, 100 ether);
        assertEq(token.balanceOf(alice), 100 ether);
    }

    function test_a_claim_still_counts_after_the_time_until_the_refund() public {
        lockCoin(1 ether);
        vm.warp(timelock + 1 days);
        locks.claim(PREIMAGE, from());
        assertEq(bob.balance, 1 ether);
    }

    function test_many_claims_in_one_and_those_that_ended_are_passed_over() public {
        lockCoin(1 ether);
        lockToken(address(token), 5);
        locks.claim(PREIMAGE, from());
        HashTimelock.Claim[] memory claims = new HashTimelock.Claim[](2);
        claims[0] = HashTimelock.Claim(address(0), PREIMAGE, from());
        claims[1] = HashTimelock.Claim(address(token), PREIMAGE, from());
        assertEq(locks.claimMany(claims), 1);
        assertEq(token.balanceOf(bob), 5);
        assertEq(locks.claimMany(claims), 0);
    }

    function test_a_claim_of_coins_in_a_batch() public {
        lockCoin(1 ether);
        HashTimelock.Claim[] memory claims = new HashTimelock.Claim[](1);
        claims[0] = HashTimelock.Claim(address(0), PREIMAGE, from());
        assertEq(locks.claimMany(claims), 1);
        assertEq(bob.balance, 1 ether);
    }

    // --- what is refused ----------------------------------------------------------------------

    function test_no_claim_without_the_preimage() public {
        lockCoin(1 ether);
        vm.expectRevert(HashTimelock.NotLocked.selector);
        locks.claim(keccak256("other"), from());
    }

    function test_no_refund_before_the_time() public {
        lockCoin(1 ether);
        lockToken(address(token), 5);
        vm.warp(timelock - 1);
        vm.expectRevert(HashTimelock.TooEarly.selector);
        locks.refund(hashlock, from());
        vm.expectRevert(HashTimelock.TooEarly.selector);
        locks.refundToken(address(token), hashlock, from());
    }

    function test_a_shorter_timelock_names_another_lock() public {
        lockCoin(1 ether);
        vm.expectRevert(HashTimelock.NotLocked.selector);
        locks.refund(hashlock, pack(alice, block.timestamp));
    }

    function test_a_lock_ends_once() public {
        lockCoin(1 ether);
        vm.deal(address(locks), 10 ether);
        locks.claim(PREIMAGE, from());
        vm.expectRevert(HashTimelock.NotLocked.selector);
        locks.claim(PREIMAGE, from());
        vm.warp(timelock);
        vm.expectRevert(HashTimelock.NotLocked.selector);
        locks.refund(hashlock, from());
    }

    function test_no_second_lock_of_one_name() public {
        lockCoin(1 ether);
        vm.expectRevert(HashTimelock.AlreadyLocked.selector);
        lockCoin(2 ether);
    }

    function test_a_stranger_cannot_block_a_lock_by_its_hashlock() public {
        vm.deal(bob, 1);
        vm.prank(bob);
        locks.lock{value: 1}(hashlock, TRADE, bob, timelock);
        lockCoin(1 ether);
        locks.claim(PREIMAGE, from());
        assertEq(bob.balance, 1 ether);
    }

    function test_bad_terms() public {
        vm.startPrank(alice);
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lock{value: 0}(hashlock, TRADE, bob, timelock);
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lock{value: 1}(hashlock, TRADE, address(0), timelock);
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lock{value: 1}(hashlock, TRADE, bob, block.timestamp);
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lock{value: 1}(hashlock, TRADE, bob, 1 << 96);
        vm.deal(alice, 1 << 97);
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lock{value: 1 << 96}(hashlock, TRADE, bob, timelock);
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lockToken(pack(address(token), timelock), hashlock, TRADE, pack(bob, 0));
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lockToken(pack(address(token), timelock), hashlock, TRADE, pack(address(0), 1));
        vm.expectRevert(HashTimelock.BadTerms.selector);
        locks.lockToken(pack(address(token), 0), hashlock, TRADE, pack(bob, 1));
    }

    // --- strange tokens and recipients --------------------------------------------------------

    function test_a_token_that_keeps_a_fee_is_refused() public {
        FeeToken fee = new FeeToken();
        fee.mint(alice, 100 ether);
        vm.prank(alice);
        fee.approve(address(locks), 100 ether);
        vm.expectRevert(abi.encodeWithSelector(HashTimelock.TokenTakesFee.selector, fee));
        lockToken(address(fee), 1 ether);
    }

    function test_a_token_that_returns_nothing_works() public {
        SilentToken silent = new SilentToken();
        silent.mint(alice, 5);
        vm.prank(alice);
        silent.approve(address(locks), 5);
        lockToken(address(silent), 5);
        locks.claimToken(address(silent), PREIMAGE, from());
        assertEq(silent.balanceOf(bob), 5);
    }

    function test_what_does_not_pay_is_not_locked() public {
        address[3] memory which = [address(new RefusingToken()), makeAddr("no code"), address(token)];
        vm.prank(alice);
        token.approve(address(locks), 0);
        for (uint256 i = 0; i < which.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(HashTimelock.TokenRefused.selector, which[i]));
            lockToken(which[i], 1);
            assertEq(locks.locked(which[i], hashlock, from()), 0);
        }
    }

    function test_a_recipient_that_calls_back_gets_nothing_more() public {
        Greedy greedy = new Greedy(locks);
        greedy.aim(PREIMAGE, from());
        vm.deal(address(locks), 10 ether);
        vm.prank(alice);
        locks.lock{value: 1 ether}(hashlock, TRADE, address(greedy), timelock);
        locks.claim(PREIMAGE, from());
        assertEq(address(greedy).balance, 1 ether);
    }

    function test_a_recipient_that_refuses_leaves_the_lock() public {
        vm.prank(alice);
        locks.lock{value: 1}(hashlock, TRADE, address(token), timelock);
        vm.expectRevert(abi.encodeWithSelector(HashTimelock.CoinRefused.selector, token));
        locks.claim(PREIMAGE, from());
        vm.warp(timelock);
        locks.refund(hashlock, from());
        assertEq(alice.balance, 100 ether);
    }

    // --- properties ---------------------------------------------------------------------------

    function testFuzz_whole_amount_one_way_once(uint96 amount, bytes32 preimage, uint32 wait, uint32 moment) public {
        vm.assume(amount > 0 && wait > 0);
        vm.deal(alice, amount);
        bytes32 lock_ = sha256(bytes.concat(preimage));
        bytes32 name = pack(alice, block.timestamp + wait);
        vm.prank(alice);
        locks.lock{value: amount}(lock_, TRADE, bob, block.timestamp + wait);
        vm.warp(block.timestamp + moment);
        if (moment >= wait) locks.refund(lock_, name);
        else locks.claim(preimage, name);
        assertEq(alice.balance, moment >= wait ? amount : 0);
        assertEq(bob.balance, moment >= wait ? 0 : amount);
        vm.expectRevert(HashTimelock.NotLocked.selector);
        locks.claim(preimage, name);
    }
}

/// Calls the contract with few names, so that they meet, and keeps its own account of it.
contract Swappers is Test {
    HashTimelock public immutable LOCKS;
    Token public immutable TOKEN;
    address[3] parties = [address(0xa11ce), address(0xb0b), address(0xca401)];
    /// What is locked by this account: coin at [0], tokens at [1].
    uint256[2] public open;
    /// What each party owns, locked for nobody else.
    mapping(address => uint256[2]) public owned;

    constructor(HashTimelock locks, Token token) {
        (LOCKS, TOKEN) = (locks, token);
        for (uint256 i = 0; i < parties.length; ++i) {
            vm.deal(parties[i], 1000);
            token.mint(parties[i], 1000);
            owned[parties[i]] = [uint256(1000), 1000];
            vm.prank(parties[i]);
            token.approve(address(locks), type(uint256).max);
        }
    }

    function party(uint256 at) public view returns (address) {
        return parties[at % parties.length];
    }

    function lock(uint8 who, uint8 toWhom, uint8 secret, uint8 amount, uint8 wait, bool coin) external {
        address sender = party(who);
        bytes32 hashlock = sha256(bytes.concat(bytes32(uint256(secret % 4))));
        uint256 timelock = (block.timestamp / 100 + 1 + wait % 4) * 100;
        uint256 kind = coin ? 0 : 1;
        if (amount == 0 || owned[sender][kind] < amount) return;
        bytes32 from = bytes32(bytes20(sender)) | bytes32(timelock);
        if (LOCKS.locked(coin ? address(0) : address(TOKEN), hashlock, from) != 0) return;
        vm.prank(sender);
        if (coin) {
            LOCKS.lock{value: amount}(hashlock, 0, party(toWhom), timelock);
        } else {
            LOCKS.lockToken(
                bytes32(bytes20(address(TOKEN))) | bytes32(timelock),
                hashlock,
                0,
                bytes32(bytes20(party(toWhom))) | bytes32(uint256(amount))
            );
        }
        owned[sender][kind] -= amount;
        open[kind] += amount;
    }

    function end(uint8 who, uint8 secret, uint8 wait, bool coin, bool claim) external {
        bytes32 preimage = bytes32(uint256(secret % 4));
        bytes32 hashlock = sha256(bytes.concat(preimage));
        uint256 timelock = (block.timestamp / 100 + wait % 4) * 100;
        bytes32 from = bytes32(bytes20(party(who))) | bytes32(timelock);
        address token = coin ? address(0) : address(TOKEN);
        bytes32 to = LOCKS.locked(token, hashlock, from);
        uint256 kind = coin ? 0 : 1;
        bool over = block.timestamp >= timelock;
        bool done;
        if (claim && coin) {
            try LOCKS.claim(preimage, from) {
                done = true;
            } catch {}
        }
        if (claim && !coin) {
            try LOCKS.claimToken(token, preimage, from) {
                done = true;
            } catch {}
        }
        if (!claim && coin) {
            try LOCKS.refund(hashlock, from) {
                done = true;
            } catch {}
        }
        if (!claim && !coin) {
            try LOCKS.refundToken(token, hashlock, from) {
                done = true;
            } catch {}
        }
        require(done == (to != 0 && (claim || over)), "ends exactly if it may");
        if (!done) return;
        uint256 amount = uint96(uint256(to));
        owned[claim ? address(bytes20(to)) : party(who)][kind] += amount;
        open[kind] -= amount;
    }

    function pass(uint8 seconds_) external {
        vm.warp(block.timestamp + seconds_);
    }
}

contract HashTimelockInvariants is Test {
    HashTimelock locks = new HashTimelock();
    Token token = new Token("TOK");
    Swappers swappers = new Swappers(locks, token);

    function setUp() public {
        targetContract(address(swappers));
    }

    /// Value is conserved: the contract holds what is locked, everybody else what is theirs.
    function invariant_everybody_has_their_own() public view {
        assertEq(address(locks).balance, swappers.open(0));
        assertEq(token.balanceOf(address(locks)), swappers.open(1));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(swappers.party(i).balance, swappers.owned(swappers.party(i), 0));
            assertEq(token.balanceOf(swappers.party(i)), swappers.owned(swappers.party(i), 1));
        }
    }
}
