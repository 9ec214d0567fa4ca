// What a trader with a browser wallet does at the page: node wallet.mjs CHROMIUM ADDRESS SCREENSHOTS KEY
// Prints one line of JSON for each step that was seen to work.

import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const require = createRequire(new URL("../../../contracts/evm/package.json", import.meta.url));
const { Wallet, getBytes } = require("ethers");
const [executablePath, address, folder, key] = process.argv.slice(2);
const wallet = new Wallet(key);

function tell(step, facts = {}) {
  console.log(JSON.stringify({ step, ...facts }));
}

// A wallet as its extension would put it into the page, but that it agrees to everything.
const signed = [];
async function answer(method, params) {
  if (method === "eth_requestAccounts") return [wallet.address];
  if (method === "eth_chainId") return "0x7a69";
  if (method === "personal_sign") return wallet.signMessage(getBytes(params[0]));
  if (method === "eth_signTypedData_v4") {
    const { domain, types, message, primaryType } = JSON.parse(params[1]);
    signed.push(primaryType);
    const { EIP712Domain, ...rest } = types;
    return wallet.signTypedData(domain, rest, message);
  }
  throw new Error(`the wallet knows no ${method}`);
}

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1400, height: 1300 } });
await context.exposeFunction("askWallet", answer);
await context.addInitScript(() => {
  const provider = { request: ({ method, params }) => globalThis.askWallet(method, params) };
  addEventListener("eip6963:requestProvider", () => dispatchEvent(new CustomEvent(
    "eip6963:announceProvider", { detail: { info: { name: "Test wallet" }, provider } })));
});
const page = await context.newPage();
page.setDefaultTimeout(45_000);
const complaints = [];
page.on("console", (message) => {
  const isRefusal = message.text().includes("status of 401");
  if (message.type() === "error" && !isRefusal) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(`${error}`));

await page.goto(address);
await page.click("#wallet-login");
await page.waitForSelector("#desk:not([hidden])");
tell("logged in by the wallet");

await page.waitForSelector("#wallet-card:not([hidden])");
await page.fill("#cap", "half");
await page.fill("#spend", "1000");
await page.click("#delegate");
await page.waitForFunction(() => document.querySelector("#wallet-said").className === "problem");
tell("a typo is told", { said: await page.textContent("#wallet-said") });

await page.fill("#cap", "50");
await page.click("#delegate");
await page.waitForSelector('#delegations tr[data-active="true"]');
const row = await page.textContent('#delegations tr[data-active="true"]');
if (signed.join() !== "Entry") throw new Error(`signed ${signed}`);
tell("the key is the account's", { row });
await page.screenshot({ path: `${folder}/page-wallet.png`, fullPage: true });
await page.setViewportSize({ width: 390, height: 844 });
const sideways = await page.evaluate(
  () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
if (sideways > 0) throw new Error(`a phone has to scroll ${sideways} pixels sideways`);
tell("fits a phone");

await page.click('#delegations tr[data-active="true"] button');
await page.waitForSelector('#delegations tr[data-active="false"]');
tell("taken back", { complaints });
await browser.close();
