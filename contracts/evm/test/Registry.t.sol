// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {Test, Vm} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";
import {Network} from "../src/Network.sol";
import {Registry} from "../src/Registry.sol";
import {FeeToken, Token} from "./Tokens.sol";

contract NextRegistry is Registry {
    function version() external pure returns (uint256) {
        return 2;
    }
}

abstract contract RegistrySetUp is Test {
    bytes32 constant NETWORK = keccak256("network");
    bytes32 constant MARKET = keccak256("market");
    address constant BURN = 0x000000000000000000000000000000000000dEaD;
    address governor = makeAddr("governor");
    address owner = makeAddr("owner");
    address reporter = makeAddr("reporter");
    uint256 secret = uint256(keccak256("key"));
    address key = vm.addr(secret);
    Token token = new Token("BOND");
    Registry registry = deploy(token);

    function deploy(Token which) internal returns (Registry) {
        bytes memory call = abi.encodeCall(Registry.initialize, (which, governor));
        return Registry(address(new ERC1967Proxy(address(new Registry()), call)));
    }

    function bond(uint128 amount, uint64 lockedUntil) internal {
        token.mint(owner, amount);
        vm.startPrank(owner);
        token.approve(address(registry), amount);
        registry.bond(amount, lockedUntil);
        vm.stopPrank();
    }

    function sign(uint256 with, bytes32 separator, bytes32 structHash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(with, Network.digest(separator, structHash));
        return abi.encodePacked(r, s, v);
    }

    function binding(address who, address of_, bytes memory peer, bytes memory bitcoin)
        internal
        view
        returns (bytes32 separator, bytes32 structHash)
    {
        (, string memory name, string memory version, uint256 chain, address self,,) = registry.eip712Domain();
        separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chain,
                self
            )
        );
        structHash = keccak256(
            abi.encode(
                keccak256("Binding(address owner,address key,bytes peerId,bytes bitcoinKey,uint256 nonce)"),
                who,
                of_,
                keccak256(peer),
                keccak256(bitcoin),
                registry.nonces(who)
            )
        );
    }

    function bindKey() internal {
        (bytes32 separator, bytes32 structHash) = binding(owner, key, "peer", "");
        bytes memory consent = sign(secret, separator, structHash);
        vm.prank(owner);
        registry.bind(key, "peer", "", consent, "");
    }

    function entry(bytes32 opsRoot) internal view returns (Registry.EntryHeader memory header, bytes memory signature) {
        header = Registry.EntryHeader(MARKET, key, 3, keccak256("prev"), opsRoot);
        signature = sign(
            secret,
            Network.separator(block.chainid, address(registry), NETWORK),
            keccak256(
                abi.encode(
                    keccak256("Entry(bytes32 market,address author,uint64 seq,bytes32 prev,bytes32 opsRoot)"), header
                )
            )
        );
    }

    function slashFork() internal {
        (Registry.EntryHeader memory a, bytes memory aSigned) = entry(bytes32(uint256(1)));
        (Registry.EntryHeader memory b, bytes memory bSigned) = entry(bytes32(uint256(2)));
        vm.prank(reporter);
        registry.slashFork(NETWORK, a, b, aSigned, bSigned);
    }
}

contract RegistryTest is RegistrySetUp {
    using stdJson for string;

    uint64 year = uint64(block.timestamp + 365 days);

    // --- the shortest example: a bond comes back --------------------------------------------------

    function test_a_bond_comes_back_after_its_lock_and_the_way_out() public {
        token.mint(owner, 100);
        vm.startPrank(owner);
        token.approve(address(registry), 100);
        vm.expectEmit(address(registry));
        emit Registry.Bonded(owner, 100, year);
        registry.bond(100, year);
        vm.expectRevert(abi.encodeWithSelector(Registry.StillLocked.selector, year));
        registry.unbond(100);
        vm.warp(year);
        registry.unbond(100);
        vm.expectRevert(abi.encodeWithSelector(Registry.StillLocked.selector, year + 14 days));
        registry.withdraw();
        vm.warp(year + 14 days);
        registry.withdraw();
        assertEq(token.balanceOf(owner), 100);
        vm.expectRevert(Registry.NothingThere.selector);
        registry.withdraw();
    }

    function test_bad_bonds() public {
        vm.startPrank(owner);
        vm.expectRevert(Registry.BadBond.selector);
        registry.bond(0, year);
        vm.expectRevert(Registry.BadBond.selector);
        registry.bond(1, uint64(block.timestamp + 367 days));
        vm.stopPrank();
        bond(1, year);
        token.mint(owner, 1);
        vm.startPrank(owner);
        token.approve(address(registry), 1);
        vm.expectRevert(Registry.BadBond.selector);
        registry.bond(1, year - 1);
        vm.warp(year);
        vm.expectRevert(Registry.BadBond.selector);
        registry.unbond(2);
    }

    function test_no_bond_in_a_token_that_keeps_a_fee() public {
        token = new FeeToken();
        registry = deploy(token);
        token.mint(owner, 100);
        vm.startPrank(owner);
        token.approve(address(registry), 100);
        vm.expectRevert(Registry.TokenTakesFee.selector);
        registry.bond(100, year);
    }

    // --- keys -----------------------------------------------------------------------------------

    function test_a_key_has_to_consent_and_has_one_owner() public {
        (bytes32 separator, bytes32 structHash) = binding(owner, key, "peer", "");
        bytes memory consent = sign(secret, separator, structHash);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotSigned.selector, key));
        registry.bind(key, "peer", "", consent, "");
        vm.expectEmit(address(registry));
        emit Registry.Bound(owner, key, "peer", "");
        bindKey();
        assertEq(registry.ownerOf(key), owner);
        vm.expectRevert(abi.encodeWithSelector(Registry.Taken.selector, key));
        registry.bind(key, "peer", "", consent, "");
        vm.expectRevert(Registry.BadKey.selector);
        vm.prank(owner);
        registry.bind(key, "peer", "short", consent, "");
    }

    function test_a_bitcoin_key_proves_itself() public {
        BitcoinKey memory wallet = bitcoinWallet();
        (bytes32 separator, bytes32 structHash) = binding(owner, key, "", wallet.key);
        bytes memory consent = sign(secret, separator, structHash);
        bytes memory bitcoinConsent = sign(wallet.secret, separator, structHash);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotSigned.selector, vm.addr(wallet.secret)));
        vm.prank(owner);
        registry.bind(key, "", wallet.key, consent, consent);
        vm.prank(owner);
        registry.bind(key, "", wallet.key, consent, bitcoinConsent);
    }

    struct BitcoinKey {
        uint256 secret;
        bytes key;
    }

    function bitcoinWallet() internal returns (BitcoinKey memory) {
        uint256 secret_ = uint256(keccak256("bitcoin"));
        Vm.Wallet memory wallet = vm.createWallet(secret_);
        return BitcoinKey(secret_, abi.encode(wallet.publicKeyX, wallet.publicKeyY));
    }

    // --- what backs a key, and candidates -----------------------------------------------------------

    function test_an_owner_says_what_backs_its_keys() public {
        bindKey();
        vm.startPrank(owner);
        vm.expectEmit(address(registry));
        emit Registry.Allocated(owner, MARKET, key, 70);
        registry.allocate(MARKET, key, 70);
        registry.allocate(MARKET, key, 0);
        vm.stopPrank();
    }

    function test_nobody_allocates_to_a_stranger(address stranger, address other) public {
        vm.assume(stranger != key && other != owner);
        bindKey();
        vm.expectRevert(abi.encodeWithSelector(Registry.NotYours.selector, stranger));
        vm.prank(owner);
        registry.allocate(MARKET, stranger, 1);
        vm.prank(other);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotYours.selector, key));
        registry.allocate(MARKET, key, 1);
    }

    function test_a_bound_key_stands_and_steps_back() public {
        bindKey();
        vm.startPrank(owner);
        for (uint256 anchor = 2; anchor > 0; anchor--) {
            vm.expectEmit(address(registry));
            emit Registry.Stood(owner, MARKET, key, bytes32(anchor - 1), 7);
            registry.stand(MARKET, key, bytes32(anchor - 1), 7);
        }
        vm.stopPrank();
    }

    function test_only_its_owner_lets_a_key_stand_and_none_that_was_convicted() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotYours.selector, owner));
        registry.stand(MARKET, owner, keccak256("anchor"), 0);
        bindKey();
        vm.prank(reporter);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotYours.selector, key));
        registry.stand(MARKET, key, keccak256("anchor"), 0);
        bond(10, year);
        slashFork();
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(Registry.Convicted.selector, key));
        registry.stand(MARKET, key, keccak256("anchor"), 0);
    }

    // --- slashing ---------------------------------------------------------------------------------

    function test_a_fork_costs_the_bond_also_what_is_on_its_way_out() public {
        bond(100, uint64(block.timestamp));
        bindKey();
        vm.prank(owner);
        registry.unbond(40);
        slashFork();
        assertEq(token.balanceOf(reporter), 10);
        assertEq(token.balanceOf(BURN), 90);
        vm.warp(block.timestamp + 14 days);
        vm.expectRevert(Registry.NothingThere.selector);
        vm.prank(owner);
        registry.withdraw();
        assertTrue(registry.convicted(key));
        (Registry.EntryHeader memory a, bytes memory aSigned) = entry(bytes32(uint256(1)));
        (Registry.EntryHeader memory b, bytes memory bSigned) = entry(bytes32(uint256(2)));
        vm.expectRevert(abi.encodeWithSelector(Registry.Convicted.selector, key));
        registry.slashFork(NETWORK, a, b, aSigned, bSigned);
    }

    function test_equivocation_costs_the_bond() public {
        bond(100, year);
        bindKey();
        Registry.TickHeader[2] memory ticks;
        bytes[2] memory signatures;
        bytes32 separator = Network.separator(block.chainid, address(registry), NETWORK);
        for (uint256 i = 0; i < 2; ++i) {
            ticks[i] = Registry.TickHeader(MARKET, 1, 2, key, bytes32(i));
            signatures[i] = sign(
                secret,
                separator,
                keccak256(
                    abi.encode(
                        keccak256("Tick(bytes32 market,uint64 era,uint64 round,address witness,bytes32 bodyHash)"),
                        ticks[i]
                    )
                )
            );
        }
        Registry.TickHeader memory other = Registry.TickHeader(MARKET, 1, 3, key, 0);
        vm.expectRevert(Registry.ProvesNothing.selector);
        registry.slashEquivocation(NETWORK, ticks[0], other, signatures[0], signatures[1]);
        registry.slashEquivocation(NETWORK, ticks[0], ticks[1], signatures[0], signatures[1]);
        assertEq(token.balanceOf(BURN), 90);
    }

    function test_what_convicts_nobody() public {
        bond(100, year);
        bindKey();
        (Registry.EntryHeader memory a, bytes memory aSigned) = entry(bytes32(uint256(1)));
        (Registry.EntryHeader memory b, bytes memory bSigned) = entry(bytes32(uint256(2)));
        vm.expectRevert(Registry.ProvesNothing.selector);
        registry.slashFork(NETWORK, a, a, aSigned, aSigned);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotSigned.selector, key));
        registry.slashFork(NETWORK, a, b, aSigned, aSigned);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotSigned.selector, key));
        registry.slashFork(keccak256("another network"), a, b, aSigned, bSigned);
        b.seq = 4;
        vm.expectRevert(Registry.ProvesNothing.selector);
        registry.slashFork(NETWORK, a, b, aSigned, bSigned);
        (b.seq, b.author, a.author) = (3, owner, owner);
        vm.expectRevert(Registry.NothingThere.selector);
        registry.slashFork(NETWORK, a, b, aSigned, bSigned);
    }

    function test_the_bytes_that_nodes_sign() public {
        string memory file = vm.readFile("../../protocol/vectors/eip712.json");
        address there = file.readAddress(".domain.verifying_contract");
        vm.etch(there, address(new Registry()).code);
        vm.chainId(file.readUint(".domain.chain_id"));
        bytes32 network = file.readBytes32(".domain.salt");
        Registry.EntryHeader memory entry_ = Registry.EntryHeader(
            file.readBytes32(".valid[0].values[0]"),
            file.readAddress(".valid[0].values[1]"),
            uint64(file.readUint(".valid[0].values[2]")),
            file.readBytes32(".valid[0].values[3]"),
            file.readBytes32(".valid[0].values[4]")
        );
        assertEq(Registry(there).entryDigest(network, entry_), file.readBytes32(".valid[0].digest"));
        Registry.TickHeader memory tick = Registry.TickHeader(
            file.readBytes32(".valid[1].values[0]"),
            uint64(file.readUint(".valid[1].values[1]")),
            uint64(file.readUint(".valid[1].values[2]")),
            file.readAddress(".valid[1].values[3]"),
            file.readBytes32(".valid[1].values[4]")
        );
        assertEq(Registry(there).tickDigest(network, tick), file.readBytes32(".valid[1].digest"));
    }

    // --- the governor -----------------------------------------------------------------------------

    function test_pausing_stops_new_bonds_and_nothing_else() public {
        bond(100, uint64(block.timestamp));
        vm.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, this));
        registry.pauseBonds(true);
        vm.prank(governor);
        registry.pauseBonds(true);
        vm.startPrank(owner);
        vm.expectRevert(Registry.BondsPaused.selector);
        registry.bond(1, year);
        registry.unbond(100);
        vm.warp(block.timestamp + 14 days);
        registry.withdraw();
        assertEq(token.balanceOf(owner), 100);
    }

    function test_everybody_can_leave_before_an_upgrade() public {
        bond(100, year);
        address next = address(new NextRegistry());
        vm.startPrank(governor);
        vm.expectRevert(Registry.NotProposed.selector);
        registry.upgradeToAndCall(next, "");
        registry.proposeUpgrade(next);
        uint256 start = block.timestamp;
        vm.warp(start + 30 days - 1);
        vm.expectRevert(Registry.NotProposed.selector);
        registry.upgradeToAndCall(next, "");
        vm.warp(start + 15 days);
        vm.stopPrank();
        vm.startPrank(owner);
        vm.expectRevert(Registry.BondsPaused.selector);
        registry.bond(1, year);
        vm.stopPrank();
        vm.prank(owner);
        registry.unbond(100);
        vm.warp(start + 29 days);
        vm.prank(owner);
        registry.withdraw();
        assertEq(token.balanceOf(owner), 100);
        vm.warp(start + 30 days);
        vm.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, this));
        registry.upgradeToAndCall(next, "");
        vm.prank(governor);
        registry.upgradeToAndCall(next, "");
        assertEq(NextRegistry(address(registry)).version(), 2);
    }
}

contract Bonders is RegistrySetUp {
    uint256 public bonded;
    uint256 public slashed;
    uint256 public withdrawn;

    constructor() {
        bindKey();
    }

    function add(uint64 amount, uint32 lock) external {
        if (amount == 0 || registry.proposed() != address(0)) return;
        (, uint64 until,,) = registry.bonds(owner);
        uint64 wanted = uint64(block.timestamp + lock % 366 days);
        if (wanted < until) wanted = until;
        bond(amount, wanted);
        bonded += amount;
    }

    function leave(uint64 amount) external {
        (uint128 there,,,) = registry.bonds(owner);
        if (there == 0) return;
        vm.prank(owner);
        try registry.unbond(uint128(1 + amount % there)) {} catch {}
    }

    function withdraw() external {
        (,, uint128 amount,) = registry.bonds(owner);
        vm.prank(owner);
        try registry.withdraw() {
            withdrawn += amount;
        } catch {}
    }

    function cheat(uint8 luck) external {
        if (luck > 20 || registry.convicted(key)) return;
        (uint128 amount,, uint128 unbonding,) = registry.bonds(owner);
        slashFork();
        slashed += amount + unbonding;
    }

    function govern(bool propose) external {
        vm.startPrank(governor);
        registry.proposeUpgrade(propose ? address(1) : address(0));
        vm.stopPrank();
    }

    function pass(uint24 seconds_) external {
        vm.warp(block.timestamp + seconds_);
    }

    function check() external view {
        (uint128 amount,, uint128 unbonding,) = registry.bonds(owner);
        assertGe(bonded, slashed + withdrawn);
        assertEq(bonded, slashed + withdrawn + amount + unbonding);
        assertEq(token.balanceOf(address(registry)), uint256(amount) + unbonding);
        assertEq(token.balanceOf(reporter) + token.balanceOf(BURN), slashed);
    }
}

contract RegistryInvariants is Test {
    Bonders bonders = new Bonders();

    function setUp() public {
        targetContract(address(bonders));
        bytes4[] memory selectors = new bytes4[](6);
        (selectors[0], selectors[1], selectors[2]) =
        (Bonders.add.selector, Bonders.leave.selector, Bonders.withdraw.selector);
        (selectors[3], selectors[4], selectors[5]) =
        (Bonders.cheat.selector, Bonders.govern.selector, Bonders.pass.selector);
        targetSelector(FuzzSelector(address(bonders), selectors));
    }

    /// Bonded is what was slashed, withdrawn, or is there.
    function invariant_every_bond_is_accounted_for() public view {
        bonders.check();
    }
}
