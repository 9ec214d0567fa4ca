// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {EIP712Upgradeable} from "@openzeppelin/contracts-upgradeable/utils/cryptography/EIP712Upgradeable.sol";
import {NoncesUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/NoncesUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Network} from "./Network.sol";

/// @title Bonds, and the keys that answer with them
/// @notice What reputation reads of a network (protocol/07-evm-contracts.md, Registry). The governor
/// can stop new bonds and propose another version of this contract. It can touch no bond: a
/// proposal ends every lock at once, and takes longer to come into force than leaving does.
contract Registry is Ownable2StepUpgradeable, EIP712Upgradeable, NoncesUpgradeable, UUPSUpgradeable {
    using SafeERC20 for IERC20;

    struct Bond {
        uint128 amount;
        uint64 lockedUntil;
        /// On its way out, and slashable until it is.
        uint128 unbonding;
        uint64 unbondedAt;
    }

    /// What an entry's author signs (protocol/01-records.md).
    struct EntryHeader {
        bytes32 market;
        address author;
        uint64 seq;
        bytes32 prev;
        bytes32 opsRoot;
    }

    /// What a witness signs.
    struct TickHeader {
        bytes32 market;
        uint64 era;
        uint64 round;
        address witness;
        bytes32 bodyHash;
    }

    event Bonded(address indexed owner, uint256 amount, uint64 lockedUntil);
    event Unbonding(address indexed owner, uint256 amount, uint64 unbondedAt);
    event Withdrawn(address indexed owner, uint256 amount);
    /// @notice The peer id is a claim: its owner proves it by being found under it.
    event Bound(address indexed owner, address indexed key, bytes peerId, bytes bitcoinKey);
    /// @notice So much of the owner's bond backs the key in this market. What all of an owner's
    /// allocations together exceed the bond by backs nothing: readers count the earlier ones first.
    event Allocated(address indexed owner, bytes32 indexed market, address indexed key, uint256 amount);
    /// @notice The key is a candidate for witness of the market, its reveals hash to the anchor, and
    /// the first of them is for round 0 of the era `since`. A zero anchor: it is none any more.
    event Stood(address indexed owner, bytes32 indexed market, address indexed key, bytes32 anchor, uint64 since);
    event Slashed(
        address indexed owner,
        address indexed key,
        address indexed reporter,
        bytes32 first,
        bytes32 second,
        uint256 amount,
        uint256 share
    );
    event PausedBonds(bool paused);
    event UpgradeProposed(address implementation, uint64 from);

    error BondsPaused();
    error BadBond();
    error StillLocked(uint64 until);
    error NothingThere();
    error TokenTakesFee();
    error NotSigned(address key);
    error BadKey();
    error Taken(address key);
    error NotYours(address key);
    error Convicted(address key);
    error ProvesNothing();
    error NotProposed();

    bytes32 private constant _ENTRY =
        keccak256("Entry(bytes32 market,address author,uint64 seq,bytes32 prev,bytes32 opsRoot)");
    bytes32 private constant _TICK =
        keccak256("Tick(bytes32 market,uint64 era,uint64 round,address witness,bytes32 bodyHash)");
    bytes32 private constant _BINDING =
        keccak256("Binding(address owner,address key,bytes peerId,bytes bitcoinKey,uint256 nonce)");
    address private constant _BURN = 0x000000000000000000000000000000000000dEaD;

    uint256 public constant UNBONDING_SECONDS = 14 days;
    uint256 public constant MAX_LOCK_SECONDS = 366 days;
    /// Longer than to notice a proposal and leave.
    uint256 public constant UPGRADE_SECONDS = 30 days;
    /// Little enough that nobody gains by convicting themselves; the rest is burned.
    uint256 public constant REPORTER_PERCENT = 10;

    IERC20 public token;
    mapping(address owner => Bond) public bonds;
    /// Who answers for a key: for ever, also after another was bound.
    mapping(address key => address) public ownerOf;
    mapping(address key => bool) public convicted;
    bool public paused;
    address public proposed;
    uint64 public proposedFrom;

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor() {
        _disableInitializers();
    }

    function initialize(IERC20 token_, address governor) external initializer {
        __Ownable_init(governor);
        __EIP712_init("Orrange Registry", "1");
        token = token_;
    }

    // --- bonds --------------------------------------------------------------------------------

    /// @notice Add to the caller's bond, and lock all of it at least until then. A lock never gets shorter.
    function bond(uint128 amount, uint64 lockedUntil) external {
        // None while an upgrade is proposed: whoever has a bond had all that time to leave.
        if (paused || proposed != address(0)) revert BondsPaused();
        Bond storage mine = bonds[msg.sender];
        bool tooLong = lockedUntil > block.timestamp + MAX_LOCK_SECONDS;
        if (amount == 0 || tooLong || lockedUntil < mine.lockedUntil) revert BadBond();
        mine.amount += amount;
        mine.lockedUntil = lockedUntil;
        emit Bonded(msg.sender, amount, lockedUntil);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        if (token.balanceOf(address(this)) - before != amount) revert TokenTakesFee();
    }

    /// @notice Start to take out some of the caller's bond. What was on its way starts again with it.
    function unbond(uint128 amount) external {
        Bond storage mine = bonds[msg.sender];
        if (amount == 0 || amount > mine.amount) revert BadBond();
        if (block.timestamp < mine.lockedUntil && proposed == address(0)) revert StillLocked(mine.lockedUntil);
        mine.amount -= amount;
        mine.unbonding += amount;
        mine.unbondedAt = uint64(block.timestamp + UNBONDING_SECONDS);
        emit Unbonding(msg.sender, amount, mine.unbondedAt);
    }

    /// @notice Take out what was on its way long enough.
    function withdraw() external {
        Bond storage mine = bonds[msg.sender];
        uint256 amount = mine.unbonding;
        if (amount == 0) revert NothingThere();
        if (block.timestamp < mine.unbondedAt) revert StillLocked(mine.unbondedAt);
        mine.unbonding = 0;
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    // --- keys ---------------------------------------------------------------------------------

    /// @notice Let a key act for the caller, who answers for it with the bond, for ever.
    /// @param bitcoinKey Empty, or a secp256k1 public key, x and y in 64 bytes, without a prefix.
    /// @param consent The key's signature over the `Binding`.
    /// @param bitcoinConsent The Bitcoin key's over the same, if there is one.
    function bind(
        address key,
        bytes calldata peerId,
        bytes calldata bitcoinKey,
        bytes calldata consent,
        bytes calldata bitcoinConsent
    ) external {
        if (convicted[key]) revert Convicted(key);
        if (ownerOf[key] != address(0) && ownerOf[key] != msg.sender) revert Taken(key);
        if (peerId.length > 64 || (bitcoinKey.length != 0 && bitcoinKey.length != 64)) revert BadKey();
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(_BINDING, msg.sender, key, keccak256(peerId), keccak256(bitcoinKey), _useNonce(msg.sender))
            )
        );
        _requireSigned(key, digest, consent);
        if (bitcoinKey.length != 0) {
            _requireSigned(address(uint160(uint256(keccak256(bitcoinKey)))), digest, bitcoinConsent);
        }
        ownerOf[key] = msg.sender;
        emit Bound(msg.sender, key, peerId, bitcoinKey);
    }

    /// @notice Say how much of the caller's bond backs a key in a market, from the next era on: its
    /// limits there, and its weight if it is a witness. Replaces what was said of the two before.
    /// @param key Bound to the caller, who answers for it; so is the caller itself only if it bound itself.
    function allocate(bytes32 market, address key, uint128 amount) external {
        if (ownerOf[key] != msg.sender) revert NotYours(key);
        emit Allocated(msg.sender, market, key, amount);
    }

    /// @notice Let a bound key stand for witness of a market, or, with a zero anchor, no more.
    function stand(bytes32 market, address key, bytes32 anchor, uint64 since) external {
        if (ownerOf[key] != msg.sender) revert NotYours(key);
        if (convicted[key]) revert Convicted(key);
        emit Stood(msg.sender, market, key, anchor, since);
    }

    // --- slashing -----------------------------------------------------------------------------

    /// @notice Two entries of one author for one number. All of its owner's bond is lost.
    /// @param networkId Of a network whose registry this is: under which both were signed.
    function slashFork(
        bytes32 networkId,
        EntryHeader calldata first,
        EntryHeader calldata second,
        bytes calldata firstSignature,
        bytes calldata secondSignature
    ) external {
        bool sameName = first.market == second.market && first.author == second.author && first.seq == second.seq;
        if (!sameName) revert ProvesNothing();
        bytes32 firstDigest = entryDigest(networkId, first);
        bytes32 secondDigest = entryDigest(networkId, second);
        _slash(first.author, firstDigest, secondDigest, firstSignature, secondSignature);
    }

    /// @notice Two ticks of one witness for one round.
    function slashEquivocation(
        bytes32 networkId,
        TickHeader calldata first,
        TickHeader calldata second,
        bytes calldata firstSignature,
        bytes calldata secondSignature
    ) external {
        bool sameName = first.market == second.market && first.era == second.era && first.round == second.round
            && first.witness == second.witness;
        if (!sameName) revert ProvesNothing();
        bytes32 firstDigest = tickDigest(networkId, first);
        bytes32 secondDigest = tickDigest(networkId, second);
        _slash(first.witness, firstDigest, secondDigest, firstSignature, secondSignature);
    }

    /// @notice What the author of an entry signs, in a network whose home is this chain and whose
    /// registry is this contract.
    function entryDigest(bytes32 networkId, EntryHeader calldata header) public view returns (bytes32) {
        return _digest(networkId, keccak256(abi.encode(_ENTRY, header)));
    }

    /// @notice What a witness signs, likewise.
    function tickDigest(bytes32 networkId, TickHeader calldata header) public view returns (bytes32) {
        return _digest(networkId, keccak256(abi.encode(_TICK, header)));
    }

    function _digest(bytes32 networkId, bytes32 structHash) private view returns (bytes32) {
        return Network.digest(Network.separator(block.chainid, address(this), networkId), structHash);
    }

    function _slash(
        address key,
        bytes32 first,
        bytes32 second,
        bytes calldata firstSignature,
        bytes calldata secondSignature
    ) private {
        if (first == second) revert ProvesNothing();
        if (convicted[key]) revert Convicted(key);
        address owner = ownerOf[key];
        if (owner == address(0)) revert NothingThere();
        _requireSigned(key, first, firstSignature);
        _requireSigned(key, second, secondSignature);
        convicted[key] = true;
        Bond storage lost = bonds[owner];
        uint256 amount = uint256(lost.amount) + lost.unbonding;
        (lost.amount, lost.unbonding) = (0, 0);
        uint256 share = amount * REPORTER_PERCENT / 100;
        emit Slashed(owner, key, msg.sender, first, second, amount, share);
        token.safeTransfer(_BURN, amount - share);
        token.safeTransfer(msg.sender, share);
    }

    // --- the governor -------------------------------------------------------------------------

    /// @notice Stop new bonds, or allow them again. Nothing else ever stops.
    function pauseBonds(bool paused_) external onlyOwner {
        paused = paused_;
        emit PausedBonds(paused_);
    }

    /// @notice Announce another version of this contract, or, with zero, take that back. From now on
    /// every bond may be taken out, locked or not.
    function proposeUpgrade(address implementation) external onlyOwner {
        proposed = implementation;
        proposedFrom = uint64(block.timestamp + UPGRADE_SECONDS);
        emit UpgradeProposed(implementation, proposedFrom);
    }

    function _authorizeUpgrade(address implementation) internal override onlyOwner {
        if (implementation == address(0) || implementation != proposed || block.timestamp < proposedFrom) {
            revert NotProposed();
        }
        proposed = address(0);
    }

    // --- inside -------------------------------------------------------------------------------

    function _requireSigned(address key, bytes32 digest, bytes calldata signature) private pure {
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != key) revert NotSigned(key);
    }
}
