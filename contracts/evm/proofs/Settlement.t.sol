// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {Test} from "forge-std/Test.sol";
import {Network} from "../src/Network.sol";
import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";

/// What `make audit` proves with halmos: for all inputs, not only for those that a fuzzer met.
contract SettlementProofs is Test {
    Settlement settlement = new Settlement(1, address(1), bytes32(uint256(1)), 0, 0, address(0));
    TestToken base = new TestToken("Base", "B", 8);
    TestToken quote = new TestToken("Quote", "Q", 6);
    bytes32 market;

    constructor() {
        market = settlement.list(_record());
    }

    /// With one side's signature, whatever it is, but not the other's, nothing settles and nothing
    /// moves, whoever calls: both have the tokens and have allowed everything.
    function check_signature_needed(
        Settlement.Trade memory trade,
        address caller,
        bytes32 r,
        bytes32 s,
        uint8 v,
        bool buyers
    ) public {
        trade.market = market;
        vm.assume(trade.buyer != address(0) && trade.seller != address(0) && trade.buyer != trade.seller);
        bytes32 id = settlement.idOf(trade);
        bytes32 digest = Network.digest(settlement.NETWORK_SEPARATOR(), id);
        vm.assume(ecrecover(digest, v, r, s) != (buyers ? trade.seller : trade.buyer));
        _fund(trade.buyer);
        _fund(trade.seller);

        Settlement.Side memory side = Settlement.Side(address(0), new bytes32[](0), abi.encodePacked(r, s, v));
        Settlement.Settling[] memory batch = new Settlement.Settling[](1);
        batch[0] = Settlement.Settling(trade, side, side);
        vm.prank(caller);
        assert(settlement.settle(batch) == 0);

        assert(settlement.states(id) == Settlement.State.Open);
        assert(base.balanceOf(trade.buyer) == 1 << 64 && base.balanceOf(trade.seller) == 1 << 64);
        assert(quote.balanceOf(trade.buyer) == 1 << 64 && quote.balanceOf(trade.seller) == 1 << 64);
    }

    function _fund(address owner) private {
        base.mint(owner, 1 << 64);
        quote.mint(owner, 1 << 64);
        vm.startPrank(owner);
        base.approve(address(settlement), type(uint256).max);
        quote.approve(address(settlement), type(uint256).max);
        vm.stopPrank();
    }

    function _record() private view returns (bytes memory) {
        return abi.encodePacked(
            hex"89",
            _text(_asset(address(base))),
            _text(_asset(address(quote))),
            hex"0101",
            _text("atomic"),
            hex"00000000"
        );
    }

    function _asset(address token) private view returns (string memory) {
        return string.concat("eip155:", Strings.toString(block.chainid), "/erc20:", Strings.toHexString(token));
    }

    function _text(string memory text) private pure returns (bytes memory) {
        uint256 length = bytes(text).length;
        return
            length < 24 ? abi.encodePacked(uint8(0x60 + length), text) : abi.encodePacked(hex"78", uint8(length), text);
    }
}
