// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {MarketRecord} from "./MarketRecord.sol";
import {Network} from "./Network.sol";

/// @title Both sides of a trade change hands, or neither does
/// @notice Settles the trades of one network on this chain, each by the two signatures that the
/// parties' accepts carry (protocol/07-evm-contracts.md, Settlement). Nobody owns this contract,
/// nothing in it can be changed or paused, and it never holds anything.
contract Settlement is EIP712, Nonces, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Trade {
        bytes32 market;
        bytes32 fill;
        address buyer;
        address seller;
        uint256 baseAmount;
        uint256 quoteAmount;
        uint64 epoch;
        /// In milliseconds since 1970, by the block's time.
        uint64 expiryMs;
    }

    /// How one side of a trade signed, and who pays for it.
    struct Side {
        /// Zero: the author itself; else the owner who delegated to it here.
        address owner;
        /// From the trade's id to the root that was signed; empty if the trade itself was.
        bytes32[] path;
        bytes signature;
    }

    struct Settling {
        Trade trade;
        Side buyer;
        Side seller;
    }

    /// An ERC-2612 permit for this contract, to be used before the trades are settled.
    struct Permit {
        address token;
        address owner;
        uint256 value;
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    struct Delegation {
        bytes32 market;
        address owner;
        address session;
        /// Lots that may still be settled under it.
        uint64 cap;
        uint64 expiryMs;
    }

    struct Grant {
        uint64 lots;
        uint64 expiryMs;
    }

    enum State {
        Open,
        Settled,
        Refused
    }

    event Listed(bytes32 indexed market, address base, address quote, uint256 lotSize);
    /// @notice `buyer` and `seller` are the owners. Half of `burned` counts for each (reputation).
    event Settled(
        bytes32 indexed id,
        bytes32 indexed market,
        address buyer,
        address seller,
        uint256 baseAmount,
        uint256 quoteAmount,
        uint256 burned
    );
    /// @notice Both signed, and at this moment `owner` had less than `amount` of `token`, or had
    /// allowed less.
    event Defaulted(bytes32 indexed id, address indexed owner, address token, uint256 amount);
    /// @notice A party took its signature back before the trade was settled.
    event Refused(bytes32 indexed id, address indexed party);
    /// @notice A trade of a batch did not settle, for which nobody is to blame by this alone.
    event Failed(bytes32 indexed id, bytes4 reason);
    event Delegated(
        bytes32 indexed market, address indexed owner, address indexed session, uint64 cap, uint64 expiryMs
    );

    error NotAtomicMarket();
    error NotListed(bytes32 market);
    error WrongChain();
    error Ended(bytes32 id);
    error Expired(bytes32 id);
    error NotSigned(address author);
    error SameOwner();
    error NotDelegated(address session);
    error Unfunded(address owner, address token, uint256 amount);
    error TransferFailed(address token);
    error TokenTakesFee(address token);
    error NotAParty();
    error OnlyInside();
    error BadFee();

    bytes32 private constant _TRADE = keccak256(
        "Trade(bytes32 market,bytes32 fill,address buyer,address seller,uint256 baseAmount,uint256 quoteAmount,uint64 epoch,uint64 expiryMs)"
    );
    bytes32 private constant _TRADES = keccak256("Trades(bytes32 root)");
    bytes32 private constant _DELEGATION =
        keccak256("Delegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs)");
    bytes32 private constant _OWNER_DELEGATION = keccak256(
        "OwnerDelegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs,uint256 nonce)"
    );
    address private constant _BURN = 0x000000000000000000000000000000000000dEaD;
    uint256 private constant _PPM = 1_000_000;
    uint256 public constant MAX_FEE_PPM = 10_000;
    /// An accept names at most 256 matches.
    uint256 private constant _MAX_PATH = 8;

    /// Under which the network signs: its home chain and registry, wherever this contract is.
    bytes32 public immutable NETWORK_SEPARATOR;
    uint256 public immutable CHAIN_ID = block.chainid;
    /// Of the quote amount, taken from what the seller gets; rounded down, in the seller's favour.
    uint256 public immutable FEE_PPM;
    /// Of the fee.
    uint256 public immutable BURN_PPM;
    address public immutable FEE_RECIPIENT;

    mapping(bytes32 market => MarketRecord.Market) public markets;
    mapping(bytes32 id => State) public states;
    mapping(address owner => mapping(address session => mapping(bytes32 market => Grant))) public grants;

    constructor(
        uint256 homeChainId,
        address registry,
        bytes32 networkId,
        uint256 feePpm,
        uint256 burnPpm,
        address feeRecipient
    ) EIP712("Orrange Settlement", "1") {
        bool paysSomebody = feePpm != 0 && burnPpm != _PPM;
        if (feePpm > MAX_FEE_PPM || burnPpm > _PPM || (paysSomebody && feeRecipient == address(0))) revert BadFee();
        NETWORK_SEPARATOR = Network.separator(homeChainId, registry, networkId);
        (FEE_PPM, BURN_PPM, FEE_RECIPIENT) = (feePpm, burnPpm, feeRecipient);
    }

    // --- markets ------------------------------------------------------------------------------

    /// @notice Make a market known, by its encoded record; anyone may. Its id is the record's hash, so
    /// nobody can say anything else about it.
    function list(bytes calldata record) external returns (bytes32 market) {
        MarketRecord.Market memory parsed = MarketRecord.parse(record);
        if (parsed.base == parsed.quote) revert NotAtomicMarket();
        market = sha256(record);
        markets[market] = parsed;
        emit Listed(market, parsed.base, parsed.quote, parsed.lotSize);
    }

    // --- settling -----------------------------------------------------------------------------

    /// @notice Settle trades, each for itself: one that cannot be settled leaves the others alone.
    /// @return settled How many were.
    function settle(Settling[] calldata settlings) public nonReentrant returns (uint256 settled) {
        for (uint256 i = 0; i < settlings.length; ++i) {
            try this.settleOne(settlings[i]) {
                ++settled;
            } catch (bytes memory reason) {
                _tell(idOf(settlings[i].trade), reason);
            }
        }
    }

    /// @notice `settle`, after using the permits. One that does not work stops nothing: somebody
    /// may have used it before, and the allowance is there.
    function settleWithPermits(Permit[] calldata permits, Settling[] calldata settlings)
        external
        returns (uint256 settled)
    {
        for (uint256 i = 0; i < permits.length; ++i) {
            Permit calldata one = permits[i];
            try IERC20Permit(one.token)
                .permit(one.owner, address(this), one.value, one.deadline, one.v, one.r, one.s) {}
                catch {}
        }
        return settle(settlings);
    }

    /// @dev Called by `settle` only; a call of its own, so that a failure undoes both legs.
    function settleOne(Settling calldata settling) external {
        if (msg.sender != address(this)) revert OnlyInside();
        if (block.chainid != CHAIN_ID) revert WrongChain();
        Trade calldata trade = settling.trade;
        bytes32 id = idOf(trade);
        if (states[id] != State.Open) revert Ended(id);
        if (block.timestamp * 1000 >= trade.expiryMs) revert Expired(id);
        MarketRecord.Market memory market = markets[trade.market];
        if (market.lotSize == 0) revert NotListed(trade.market);
        _requireSigned(trade.buyer, id, settling.buyer);
        _requireSigned(trade.seller, id, settling.seller);
        address buyer = _owner(trade.buyer, trade, settling.buyer.owner, market.lotSize);
        address seller = _owner(trade.seller, trade, settling.seller.owner, market.lotSize);
        if (buyer == seller) revert SameOwner();
        states[id] = State.Settled;

        _move(market.base, seller, buyer, trade.baseAmount);
        uint256 fee = trade.quoteAmount * FEE_PPM / _PPM;
        uint256 burned = fee * BURN_PPM / _PPM;
        _move(market.quote, buyer, seller, trade.quoteAmount - fee);
        if (burned != 0) _move(market.quote, buyer, _BURN, burned);
        if (fee != burned) _move(market.quote, buyer, FEE_RECIPIENT, fee - burned);
        emit Settled(id, trade.market, buyer, seller, trade.baseAmount, trade.quoteAmount, burned);
    }

    /// @notice Take one's signature back, as author or as its owner: for matches that lapsed, of which
    /// the other side still has it. Of a trade that bound, this is a default.
    function refuse(Trade calldata trade, address owner) external {
        bytes32 id = idOf(trade);
        if (states[id] != State.Open) revert Ended(id);
        bool own = msg.sender == trade.buyer || msg.sender == trade.seller;
        bool owns = msg.sender == owner
            && (grants[owner][trade.buyer][trade.market].expiryMs != 0
                || grants[owner][trade.seller][trade.market].expiryMs != 0);
        if (!own && !owns) revert NotAParty();
        states[id] = State.Refused;
        emit Refused(id, msg.sender);
    }

    /// @notice A trade's id: its EIP-712 struct hash.
    function idOf(Trade calldata trade) public pure returns (bytes32) {
        return keccak256(abi.encode(_TRADE, trade));
    }

    // --- delegations --------------------------------------------------------------------------

    /// @notice Let a session key's trades be paid by the caller: any account, so also a contract.
    /// @param consent The session key's signature over the network's `Delegation`, the same that
    /// the log carries: nobody's key can be made to trade for a stranger.
    function delegate(Delegation calldata delegation, bytes calldata consent) external {
        if (msg.sender != delegation.owner) revert NotSigned(delegation.owner);
        _useNonce(delegation.owner);
        _delegate(delegation, consent);
    }

    /// @notice The same by the owner's signature, of a key or by ERC-1271, over `OwnerDelegation` in
    /// this contract's own domain.
    function delegateBySignature(Delegation calldata delegation, bytes calldata consent, bytes calldata signature)
        external
    {
        address owner = delegation.owner;
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(_OWNER_DELEGATION, delegation, _useNonce(owner))));
        if (!SignatureChecker.isValidSignatureNowCalldata(owner, digest, signature)) revert NotSigned(owner);
        _delegate(delegation, consent);
    }

    /// @notice End a delegation at once, and make every signature of the caller for one void.
    function revoke(bytes32 market, address session) external {
        _useNonce(msg.sender);
        delete grants[msg.sender][session][market];
        emit Delegated(market, msg.sender, session, 0, 0);
    }

    function _delegate(Delegation calldata delegation, bytes calldata consent) private {
        bytes32 digest = Network.digest(NETWORK_SEPARATOR, keccak256(abi.encode(_DELEGATION, delegation)));
        if (!_signed(delegation.session, digest, consent)) revert NotSigned(delegation.session);
        grants[delegation.owner][delegation.session][delegation.market] = Grant(delegation.cap, delegation.expiryMs);
        emit Delegated(delegation.market, delegation.owner, delegation.session, delegation.cap, delegation.expiryMs);
    }

    /// @dev Who pays for an author and is paid; counts the trade's lots against its delegation.
    function _owner(address author, Trade calldata trade, address owner, uint256 lotSize) private returns (address) {
        if (owner == address(0)) return author;
        Grant storage grant = grants[owner][author][trade.market];
        uint256 lots = trade.baseAmount / lotSize;
        if (block.timestamp * 1000 >= grant.expiryMs || lots > grant.lots || lots * lotSize != trade.baseAmount) {
            revert NotDelegated(author);
        }
        grant.lots -= uint64(lots);
        return owner;
    }

    // --- inside -------------------------------------------------------------------------------

    function _requireSigned(address author, bytes32 id, Side calldata side) private view {
        bytes32 what = id;
        if (side.path.length != 0) {
            if (side.path.length > _MAX_PATH) revert NotSigned(author);
            what = keccak256(abi.encode(_TRADES, MerkleProof.processProofCalldata(side.path, id)));
        }
        if (!_signed(author, Network.digest(NETWORK_SEPARATOR, what), side.signature)) revert NotSigned(author);
    }

    function _signed(address key, bytes32 digest, bytes calldata signature) private pure returns (bool) {
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        return failure == ECDSA.RecoverError.NoError && signer == key;
    }

    /// @dev What a token says when it reverts goes no further: it could accuse somebody.
    function _move(address token, address from, address to, uint256 amount) private {
        (bool known, uint256 before) = _ask(token, abi.encodeCall(IERC20.balanceOf, (to)));
        if (!known || !IERC20(token).trySafeTransferFrom(from, to, amount)) {
            (bool told, uint256 balance) = _ask(token, abi.encodeCall(IERC20.balanceOf, (from)));
            (bool toldToo, uint256 allowed) = _ask(token, abi.encodeCall(IERC20.allowance, (from, address(this))));
            if (told && toldToo && (balance < amount || allowed < amount)) revert Unfunded(from, token, amount);
            revert TransferFailed(token);
        }
        (, uint256 afterwards) = _ask(token, abi.encodeCall(IERC20.balanceOf, (to)));
        if (afterwards < before || afterwards - before != amount) revert TokenTakesFee(token);
    }

    /// @dev An answer only if there was one: out of gas is nobody's empty balance.
    function _ask(address token, bytes memory question) private view returns (bool answered, uint256 answer) {
        assembly ("memory-safe") {
            answered := staticcall(gas(), token, add(question, 32), mload(question), 0, 32)
            answered := and(answered, gt(returndatasize(), 31))
            answer := mload(0)
        }
    }

    function _tell(bytes32 id, bytes memory reason) private {
        bytes4 selector = bytes4(reason);
        if (selector != Unfunded.selector) {
            emit Failed(id, selector);
            return;
        }
        (address owner, address token, uint256 amount) = (address(0), address(0), 0);
        assembly ("memory-safe") {
            owner := mload(add(reason, 36))
            token := mload(add(reason, 68))
            amount := mload(add(reason, 100))
        }
        emit Defaulted(id, owner, token, amount);
    }
}
