// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {HashTimelock} from "../src/HashTimelock.sol";
import {TestToken} from "../src/TestToken.sol";

/// What `make audit` proves with halmos: for all inputs, not only for those that a fuzzer met.
contract HashTimelockProofs is Test {
    HashTimelock locks = new HashTimelock();
    TestToken token = new TestToken("Token", "T", 8);
    address constant RECIPIENT = address(0xb0b);

    function check_coin_claim_xor_refund(
        bytes32 preimage,
        uint96 amount,
        uint64 timelock,
        uint64 moment,
        bool claimFirst
    ) public {
        vm.assume(amount != 0 && timelock > block.timestamp);
        vm.deal(address(this), amount);
        // What others have locked is there to be taken, if one lock could be paid twice.
        vm.deal(address(locks), type(uint128).max);
        bytes32 hashlock = sha256(bytes.concat(preimage));
        locks.lock{value: amount}(hashlock, 0, RECIPIENT, timelock);
        vm.warp(moment);
        _endsOnce(address(0), preimage, hashlock, timelock, moment, claimFirst);
    }

    function check_token_claim_xor_refund(
        bytes32 preimage,
        uint96 amount,
        uint64 timelock,
        uint64 moment,
        bool claimFirst
    ) public {
        vm.assume(amount != 0 && timelock > block.timestamp);
        bytes32 hashlock = _lockToken(preimage, amount, timelock);
        token.mint(address(locks), type(uint96).max);
        vm.warp(moment);
        _endsOnce(address(token), preimage, hashlock, timelock, moment, claimFirst);
    }

    function check_coin_no_claim_without_preimage(bytes32 preimage, bytes32 other, uint96 amount, uint64 timelock)
        public
    {
        bytes32 hashlock = sha256(bytes.concat(preimage));
        vm.assume(amount != 0 && timelock > block.timestamp && hashlock != sha256(bytes.concat(other)));
        vm.deal(address(this), amount);
        locks.lock{value: amount}(hashlock, 0, RECIPIENT, timelock);
        assert(!_claims(address(0), other, timelock));
        assert(RECIPIENT.balance == 0);
    }

    function check_token_no_claim_without_preimage(bytes32 preimage, bytes32 other, uint96 amount, uint64 timelock)
        public
    {
        vm.assume(amount != 0 && timelock > block.timestamp);
        bytes32 hashlock = _lockToken(preimage, amount, timelock);
        vm.assume(hashlock != sha256(bytes.concat(other)));
        assert(!_claims(address(token), other, timelock));
        assert(token.balanceOf(RECIPIENT) == 0);
    }

    function _endsOnce(
        address what,
        bytes32 preimage,
        bytes32 hashlock,
        uint64 timelock,
        uint64 moment,
        bool claimFirst
    ) private {
        bool claimed;
        bool refunded;
        if (claimFirst) {
            claimed = _claims(what, preimage, timelock);
            refunded = _refunds(what, hashlock, timelock);
            assert(claimed); // whoever has the preimage can always claim what is locked
        } else {
            refunded = _refunds(what, hashlock, timelock);
            claimed = _claims(what, preimage, timelock);
            assert(refunded == (moment >= timelock));
        }
        assert(claimed != refunded);
    }

    function _lockToken(bytes32 preimage, uint96 amount, uint64 timelock) private returns (bytes32 hashlock) {
        hashlock = sha256(bytes.concat(preimage));
        token.mint(address(this), amount);
        token.approve(address(locks), amount);
        bytes32 what = bytes32(bytes20(address(token))) | bytes32(uint256(timelock));
        locks.lockToken(what, hashlock, 0, bytes32(bytes20(RECIPIENT)) | bytes32(uint256(amount)));
    }

    function _claims(address what, bytes32 preimage, uint64 timelock) private returns (bool done) {
        (done,) = address(locks)
            .call(
                what == address(0)
                    ? abi.encodeCall(HashTimelock.claim, (preimage, _from(timelock)))
                    : abi.encodeCall(HashTimelock.claimToken, (what, preimage, _from(timelock)))
            );
    }

    function _refunds(address what, bytes32 hashlock, uint64 timelock) private returns (bool done) {
        (done,) = address(locks)
            .call(
                what == address(0)
                    ? abi.encodeCall(HashTimelock.refund, (hashlock, _from(timelock)))
                    : abi.encodeCall(HashTimelock.refundToken, (what, hashlock, _from(timelock)))
            );
    }

    function _from(uint64 timelock) private view returns (bytes32) {
        return bytes32(bytes20(address(this))) | bytes32(uint256(timelock));
    }

    receive() external payable {}
}
