// The node, over HTTP and its stream. Errors carry the node's own words.

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function call(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "unreachable", "the node does not answer");
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({ code: "unreadable", message: answer.statusText }));
  if (!answer.ok) throw new Refused(answer.status, said.code, said.message);
  return said;
}

// Hears channels for ever: after a break it comes back, and begins with a snapshot.
export class Stream {
  constructor(channels, hear, tell) {
    this.channels = channels;
    this.hear = hear;
    this.tell = tell;
    this.wait = 250;
    this.open();
  }

  open() {
    const origin = location.origin.replace(/^http/, "ws");
    this.socket = new WebSocket(`${origin}/v1/stream?channels=${this.channels.join(",")}`);
    this.socket.onopen = () => { this.wait = 250; this.tell(true); };
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = () => {
      if (this.isClosed) return;
      this.tell(false);
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(8000, this.wait * 2);
    };
  }

  close() {
    this.isClosed = true;
    this.socket.close();
  }
}

// Sign-In with Ethereum (EIP-4361), by whatever wallet the browser has (EIP-6963, else EIP-1193).
export async function walletLogin() {
  const provider = await findWallet();
  if (!provider) throw new Error("this browser has no wallet");
  const [account] = await provider.request({ method: "eth_requestAccounts" });
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

function findWallet() {
  return new Promise((resolve) => {
    const done = (event) => resolve(event.detail.provider);
    addEventListener("eip6963:announceProvider", done, { once: true });
    dispatchEvent(new Event("eip6963:requestProvider"));
    setTimeout(() => resolve(globalThis.ethereum ?? null), 300);
  });
}
