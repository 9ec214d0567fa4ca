// The browser's own wallet: whichever announces itself (EIP-6963), else the one in the window (EIP-1193).
import { call } from "./node.js";

function find() {
  return new Promise((resolve) => {
    const done = (event) => resolve(event.detail.provider);
    addEventListener("eip6963:announceProvider", done, { once: true });
    dispatchEvent(new Event("eip6963:requestProvider"));
    setTimeout(() => resolve(globalThis.ethereum ?? null), 300);
  });
}

async function open() {
  const provider = await find();
  if (!provider) throw new Error("this browser has no wallet");
  const [account] = await provider.request({ method: "eth_requestAccounts" });
  return { provider, account };
}

// Sign-In with Ethereum (EIP-4361).
export async function walletLogin() {
  const { provider, account } = await open();
  const chain = Number(BigInt(await provider.request({ method: "eth_chainId" })));
  const { nonce } = await call("GET", "/v1/sessions/nonce");
  const now = new Date();
  const message = [
    `${location.host} wants you to sign in with your Ethereum account:`, account, "",
    "Read and trade at this Orrange node.", "", `URI: ${location.origin}`, "Version: 1",
    `Chain ID: ${chain}`, `Nonce: ${nonce}`, `Issued At: ${now.toISOString()}`,
    `Expiration Time: ${new Date(now.getTime() + 300_000).toISOString()}`,
  ].join("\n");
  const octets = new TextEncoder().encode(message);
  const hex = "0x" + [...octets].map((octet) => octet.toString(16).padStart(2, "0")).join("");
  const signature = await provider.request({ method: "personal_sign", params: [hex, account] });
  return call("POST", "/v1/sessions/wallet", { message, signature });
}

// Let a trader key of the node trade for the wallet's account, within limits; or take that back.
// The wallet signs the entry that binds the key, then sends what lets the contract pay.
export async function delegate(wish, tell) {
  const { provider, account } = await open();
  const asked = { ...wish, owner: account };
  const plan = await call("POST", "/v1/delegations/plan", asked);
  tell("sign in your wallet …");
  const signature = await provider.request({
    method: "eth_signTypedData_v4", params: [account, JSON.stringify(plan.typed_data)],
  });
  await call("POST", "/v1/delegations", { ...asked, seq: plan.seq, signature });
  for (const [number, one] of plan.calls.entries()) {
    tell(`transaction ${number + 1} of ${plan.calls.length} in your wallet: ${one.what} …`);
    const chain = Number(BigInt(await provider.request({ method: "eth_chainId" })));
    if (chain !== one.chain_id) {
      await provider.request({ method: "wallet_switchEthereumChain",
        params: [{ chainId: `0x${one.chain_id.toString(16)}` }] });
    }
    await provider.request({ method: "eth_sendTransaction",
      params: [{ from: account, to: one.to, data: one.data }] });
  }
  return plan;
}
