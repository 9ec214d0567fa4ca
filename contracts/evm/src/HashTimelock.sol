// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Coins and tokens that move to a fixed recipient by a secret, or back after a time
/// @notice One leg of a swap (protocol/07-evm-contracts.md, HashTimelock). Nobody owns this
/// contract, nothing in it can be changed or paused.
/// @dev A lock is named by its hashlock, by `from` (the sender's 20 bytes, then the timelock in 12)
/// and, if it is of tokens, by the token. Under its name stands `to` (the recipient's 20 bytes,
/// then the amount in 12), and zero once it was claimed or refunded: a lock ends once, in one way.
/// Two words where there could be four: a fifth of the gas that is not the chain's own.
contract HashTimelock {
    using SafeERC20 for IERC20;

    struct Claim {
        /// Zero: native coin.
        address token;
        bytes32 preimage;
        bytes32 from;
    }

    /// @notice `trade` is the digest of the trade whose leg this is; nothing here depends on it.
    event Locked(bytes32 hashlock, bytes32 trade, bytes32 from, bytes32 to);
    event TokenLocked(bytes32 hashlock, bytes32 trade, address token, bytes32 from, bytes32 to);
    event Claimed(bytes32 indexed hashlock, bytes32 preimage);
    event Refunded(bytes32 indexed hashlock);

    /// @notice A lock needs an amount of 1 to 2^96 - 1, a recipient, and a timelock in the future
    /// and below 2^96.
    error BadTerms();
    /// @notice The sender has a lock of this name already.
    error AlreadyLocked();
    /// @notice No lock of this name, or not any more.
    error NotLocked();
    /// @notice The time to refund has not come.
    error TooEarly();
    /// @notice The recipient refused the coin.
    error CoinRefused(address recipient);
    /// @notice The token did not pay: no allowance, no balance, or no token.
    error TokenRefused(address token);
    /// @notice Another amount arrived than was sent: such a token cannot be locked here.
    error TokenTakesFee(address token);

    // --- lock ---------------------------------------------------------------------------------

    /// @notice Lock the native coin sent along.
    function lock(bytes32 hashlock, bytes32 trade, address recipient, uint256 timelock) external payable {
        if (msg.value > type(uint96).max || timelock > type(uint96).max) revert BadTerms();
        bytes32 to = bytes32(uint256(uint160(recipient)) << 96 | msg.value);
        bytes32 from = _from(timelock);
        _store(_coinName(hashlock, from), to);
        emit Locked(hashlock, trade, from, to);
    }

    /// @notice Lock tokens, out of the caller's allowance for this contract.
    /// @param what The token's 20 bytes, then the timelock in 12.
    function lockToken(bytes32 what, bytes32 hashlock, bytes32 trade, bytes32 to) external {
        address token = _party(what);
        bytes32 from = _from(_amount(what));
        _store(_tokenName(token, hashlock, from), to);
        emit TokenLocked(hashlock, trade, token, from, to);
        _take(token, _amount(to));
    }

    // --- claim and refund: anyone may, the money goes where the lock says ---------------------

    function claim(bytes32 preimage, bytes32 from) external {
        bytes32 hashlock = _hash(preimage);
        bytes32 to = _end(_coinName(hashlock, from));
        emit Claimed(hashlock, preimage);
        _pay(_party(to), _amount(to));
    }

    function claimToken(address token, bytes32 preimage, bytes32 from) external {
        bytes32 hashlock = _hash(preimage);
        bytes32 to = _end(_tokenName(token, hashlock, from));
        emit Claimed(hashlock, preimage);
        IERC20(token).safeTransfer(_party(to), _amount(to));
    }

    /// @notice Claim many locks. Those that have ended are passed over, so that nobody stops the
    /// others by claiming one; a payment that fails undoes all.
    /// @return claimed How many were claimed.
    function claimMany(Claim[] calldata claims) external returns (uint256 claimed) {
        for (uint256 i = 0; i < claims.length; ++i) {
            (address token, bytes32 preimage) = (claims[i].token, claims[i].preimage);
            bytes32 hashlock = _hash(preimage);
            bytes32 name =
                token == address(0) ? _coinName(hashlock, claims[i].from) : _tokenName(token, hashlock, claims[i].from);
            if (_load(name) == 0) continue;
            bytes32 to = _end(name);
            emit Claimed(hashlock, preimage);
            if (token == address(0)) _pay(_party(to), _amount(to));
            else IERC20(token).safeTransfer(_party(to), _amount(to));
            ++claimed;
        }
    }

    function refund(bytes32 hashlock, bytes32 from) external {
        _requirePassed(from);
        bytes32 to = _end(_coinName(hashlock, from));
        emit Refunded(hashlock);
        _pay(_party(from), _amount(to));
    }

    function refundToken(address token, bytes32 hashlock, bytes32 from) external {
        _requirePassed(from);
        bytes32 to = _end(_tokenName(token, hashlock, from));
        emit Refunded(hashlock);
        IERC20(token).safeTransfer(_party(from), _amount(to));
    }

    // --- reading ------------------------------------------------------------------------------

    /// @notice What `to` says of a lock; zero if there is none, or not any more. `token` zero: native coin.
    function locked(address token, bytes32 hashlock, bytes32 from) external view returns (bytes32 to) {
        return _load(token == address(0) ? _coinName(hashlock, from) : _tokenName(token, hashlock, from));
    }

    // --- inside -------------------------------------------------------------------------------

    function _store(bytes32 name, bytes32 to) private {
        if (_amount(to) == 0 || _party(to) == address(0)) revert BadTerms();
        if (_load(name) != 0) revert AlreadyLocked();
        assembly ("memory-safe") {
            sstore(name, to)
        }
    }

    /// @dev Before anything is paid: whoever is called then finds the lock ended.
    function _end(bytes32 name) private returns (bytes32 to) {
        to = _load(name);
        if (to == 0) revert NotLocked();
        assembly ("memory-safe") {
            sstore(name, 0)
        }
    }

    /// @dev The name is the slot: it is a hash already, and this contract stores nothing else.
    function _load(bytes32 name) private view returns (bytes32 to) {
        assembly ("memory-safe") {
            to := sload(name)
        }
    }

    /// @dev Refuses a token that keeps a fee: one lock of it would be paid out with another's. The
    /// two looks at the balance are why this is written by hand: they cost what that saves.
    function _take(address token, uint256 amount) private {
        bool taken;
        bool whole;
        assembly ("memory-safe") {
            let look := mload(64)
            mstore(look, shl(224, 0x70a08231)) // balanceOf(address)
            mstore(add(look, 4), address())
            let take := add(look, 36)
            mstore(take, shl(224, 0x23b872dd)) // transferFrom(address,address,uint256)
            mstore(add(take, 4), caller())
            mstore(add(take, 36), address())
            mstore(add(take, 68), amount)
            // An account without code answers nothing, and is no token.
            taken := and(gt(returndatasize(), 31), staticcall(gas(), token, look, 36, 0, 32))
            let due := add(mload(0), amount)
            mstore(0, 1) // stays, if the token returns nothing: some do not
            taken := and(taken, and(eq(mload(0), 1), call(gas(), token, 0, take, 100, 0, 32)))
            whole := staticcall(gas(), token, look, 36, 0, 32)
            whole := and(whole, and(gt(returndatasize(), 31), eq(mload(0), due)))
        }
        if (!taken) revert TokenRefused(token);
        if (!whole) revert TokenTakesFee(token);
    }

    function _pay(address recipient, uint256 amount) private {
        bool paid;
        // Without a copy of what the recipient returns, which could be made to cost anything.
        assembly ("memory-safe") {
            paid := call(gas(), recipient, amount, 0, 0, 0, 0)
        }
        if (!paid) revert CoinRefused(recipient);
    }

    function _requirePassed(bytes32 from) private view {
        if (block.timestamp < uint96(uint256(from))) revert TooEarly();
    }

    function _from(uint256 timelock) private view returns (bytes32) {
        if (timelock <= block.timestamp) revert BadTerms();
        return bytes32(uint256(uint160(msg.sender)) << 96 | timelock);
    }

    function _party(bytes32 word) private pure returns (address) {
        return address(bytes20(word));
    }

    function _amount(bytes32 word) private pure returns (uint256) {
        return uint96(uint256(word));
    }

    function _hash(bytes32 preimage) private view returns (bytes32 hashlock) {
        assembly ("memory-safe") {
            mstore(0, preimage)
            if iszero(staticcall(gas(), 2, 0, 32, 0, 32)) { revert(0, 0) }
            hashlock := mload(0)
        }
    }

    /// @dev Two words, three for tokens: no name of one kind is one of the other.
    function _coinName(bytes32 hashlock, bytes32 from) private pure returns (bytes32 name) {
        assembly ("memory-safe") {
            mstore(0, hashlock)
            mstore(32, from)
            name := keccak256(0, 64)
        }
    }

    function _tokenName(address token, bytes32 hashlock, bytes32 from) private pure returns (bytes32 name) {
        assembly ("memory-safe") {
            let free := mload(64)
            mstore(0, hashlock)
            mstore(32, from)
            mstore(64, token)
            name := keccak256(0, 96)
            mstore(64, free)
        }
    }
}
