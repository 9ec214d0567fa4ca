// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

/// @title As much of a market's record as settlement needs (protocol/01-records.md, Genesis and market)
/// @dev `[base, quote, tick_size, lot_size, settlement, ...]` in CBOR. The record is named by its
/// hash, so it needs no check beyond being read in one way only: a record that nodes would refuse
/// is a market that no node has.
library MarketRecord {
    struct Market {
        address base;
        address quote;
        uint256 lotSize;
    }

    /// @notice Not the record of an atomic market between two ERC-20 tokens of this chain.
    error BadMarket();

    uint256 private constant _ARRAY_OF_NINE = 0x89;
    uint256 private constant _INTEGER = 0;
    uint256 private constant _TEXT = 3;

    function parse(bytes calldata record) internal view returns (Market memory market) {
        if (record.length == 0 || uint8(record[0]) != _ARRAY_OF_NINE) revert BadMarket();
        uint256 next = 1;
        bytes calldata settlement;
        (market.base, next) = _token(record, next);
        (market.quote, next) = _token(record, next);
        (, next) = _head(record, next, _INTEGER);
        (market.lotSize, next) = _head(record, next, _INTEGER);
        (settlement, next) = _text(record, next);
        if (market.lotSize == 0 || keccak256(settlement) != keccak256("atomic")) revert BadMarket();
    }

    /// @dev A CAIP-19 text `eip155:<this chain>/erc20:0x<address>`.
    function _token(bytes calldata record, uint256 start) private view returns (address token, uint256 next) {
        bytes calldata text;
        (text, next) = _text(record, start);
        bytes memory prefix = abi.encodePacked("eip155:", Strings.toString(block.chainid), "/erc20:");
        if (text.length != prefix.length + 42 || keccak256(text[:prefix.length]) != keccak256(prefix)) {
            revert BadMarket();
        }
        bool valid;
        (valid, token) = Strings.tryParseAddress(string(text[prefix.length:]));
        if (!valid || token == address(0)) revert BadMarket();
    }

    function _text(bytes calldata record, uint256 start) private pure returns (bytes calldata text, uint256 next) {
        uint256 length;
        (length, start) = _head(record, start, _TEXT);
        next = start + length;
        if (next > record.length) revert BadMarket();
        text = record[start:next];
    }

    /// @dev A CBOR head: three bits of type, five of number or of how many bytes the number has.
    function _head(bytes calldata record, uint256 start, uint256 kind)
        private
        pure
        returns (uint256 number, uint256 next)
    {
        if (start >= record.length) revert BadMarket();
        uint256 first = uint8(record[start]);
        number = first & 31;
        next = start + 1;
        if (first >> 5 != kind || number > 27) revert BadMarket();
        if (number < 24) return (number, next);
        uint256 size = 1 << (number - 24);
        next += size;
        if (next > record.length) revert BadMarket();
        number = 0;
        for (uint256 i = next - size; i < next; ++i) {
            number = number << 8 | uint8(record[i]);
        }
    }
}
