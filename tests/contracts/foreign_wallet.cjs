// What a wallet of another library makes of our typed data (EIP-712). Reads one JSON per line from
// standard input: { domain, types, message, secret } asks for a signature, { ..., signature } for
// who made it. Answers each with one line. The first argument is where ethers is installed.
"use strict";

const { createInterface } = require("node:readline");
const { createRequire } = require("node:module");
const { ethers } = createRequire(process.argv[2] + "/")("ethers");

function answer({ domain, types, message, secret, signature }) {
  const digest = ethers.TypedDataEncoder.hash(domain, types, message);
  if (signature !== undefined) {
    const signer = ethers.verifyTypedData(domain, types, message, signature);
    return { digest, signer };
  }
  return new ethers.Wallet(secret)
    .signTypedData(domain, types, message)
    .then((made) => ({ digest, signature: made }));
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
}

main();
