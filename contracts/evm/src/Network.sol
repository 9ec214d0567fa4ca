// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

/// @title How a network signs (protocol/01-records.md, Names, digests, signatures)
library Network {
    /// @notice The EIP-712 domain separator of a network.
    function separator(uint256 homeChainId, address registry, bytes32 networkId) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
                ),
                keccak256("Orrange"),
                keccak256("1"),
                homeChainId,
                registry,
                networkId
            )
        );
    }

    /// @notice What is signed for a struct.
    function digest(bytes32 separator_, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator_, structHash));
    }
}
