// What a trader does at the page, in a real browser: node page.mjs CHROMIUM ADDRESS SCREENSHOTS.
// Prints one line of JSON for each step that was seen to work.

import { chromium } from "playwright-core";

const [executablePath, address, folder] = process.argv.slice(2);
const PATIENCE = 45_000;

function tell(step, facts = {}) {
  console.log(JSON.stringify({ step, ...facts }));
}

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1400, height: 1300 } });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);
const complaints = [];
page.on("console", (message) => {
  // That nobody is logged in yet is an answer, which the browser reports as an error.
  const isRefusal = message.text().includes("status of 401");
  if (message.type() === "error" && !isRefusal) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(`${error}`));

// Without a session there is nothing to see; a wrong code opens nothing.
await page.goto(address.split("#")[0]);
await page.waitForSelector("#login:not([hidden])");
await page.fill("#code", "0123456789abcdef");
await page.press("#code", "Enter");
await page.waitForFunction(() => document.querySelector("#login-problem").textContent.includes("code"));
tell("a wrong code opens nothing");

// The address opens it; a code pasted as the whole address does, too.
await page.fill("#code", address);
await page.press("#code", "Enter");
await page.waitForSelector("#desk:not([hidden])");
await page.waitForFunction(() => document.querySelectorAll("#bids tbody tr").length > 2);
tell("logged in", { levels: await page.locator("#bids tbody tr").count() });

const first = (side) => page.locator(`#${side} tbody tr`).nth(side === "bids" ? 0 : -1);
const bid = await first("bids").locator("td").first().textContent();

async function place({ side, amount, price, kind, author }) {
  await page.check(`input[name=side][value=${side}]`);
  await page.selectOption("#kind", kind ?? "limit");
  if (author !== undefined) await page.selectOption("#author", { index: author });
  await page.fill("#amount", amount);
  await page.fill("#price", price);
  await page.press("#price", "Enter");
  await page.waitForFunction(() => document.querySelector("#order-said").textContent !== "");
  return page.textContent("#order-said");
}

// A typo is told before anything is sent.
await page.fill("#amount", "half");
await page.fill("#price", bid);
await page.waitForFunction(() => document.querySelector("#order-total").textContent.includes("no amount"));
tell("a typo is told");

// How much the book shows at the best bid, in smallest units.
const atBid = () => page.evaluate((price) => {
  const found = [...document.querySelectorAll("#bids tbody tr")]
    .find((row) => row.cells[0].textContent === price);
  if (!found) return 0;
  const [whole, part = ""] = found.cells[1].textContent.split(".");
  return Number(whole + part.padEnd(8, "0"));
}, bid);
const before = await atBid();

// Place an order with the keyboard, and see it in the book and among one's own.
const said = await place({ side: "buy", amount: "0.12345678", price: bid });
if (!said.startsWith("placed")) throw new Error(said);
const own = page.locator('#orders tr[data-state="open"]', { hasText: "0.12345678" }).first();
await own.waitFor();
for (let tries = 0; (await atBid()) !== before + 12_345_678; tries += 1) {
  if (tries === 100) throw new Error(`the book shows ${await atBid()}, not ${before} and the order`);
  await page.waitForTimeout(100);
}
tell("an order is in the book");

// Take it back.
const name = await own.getAttribute("data-order");
await own.locator("button").click();
await page.waitForSelector(`#orders tr[data-order="${name}"][data-state="ended"]`);
tell("an order is taken back");

// Buy what others offer; an own order in the way is no match, so the other trader tries, too.
let matched = false;
for (const author of [0, 1]) {
  const trades = await page.locator("#trades li[data-state]").count();
  const ask = await first("asks").locator("td").first().textContent();
  const worst = (Number(ask) * 1.01).toFixed(2);
  await place({ side: "buy", amount: "0.05", price: worst, kind: "market", author });
  try {
    await page.waitForFunction(
      (count) => document.querySelectorAll("#trades li[data-state]").length > count, trades,
      { timeout: 15_000 });
    matched = true;
    break;
  } catch {
    continue;
  }
}
if (!matched) throw new Error("no match");
tell("a trade is bound");
await page.waitForFunction(
  () => document.querySelector("#trades li[data-state]").dataset.state === "settled");
const line = await page.locator("#trades li[data-state]").first().textContent();
if (!/tx 0x[0-9a-f]+/.test(line)) throw new Error(line);
tell("a trade is settled", { line });

await page.waitForFunction(() => document.querySelectorAll("#node dd").length > 5);
await page.screenshot({ path: `${folder}/page.png`, fullPage: true });
await page.emulateMedia({ colorScheme: "dark" });
await page.screenshot({ path: `${folder}/page-dark.png`, fullPage: true });
await page.setViewportSize({ width: 390, height: 844 });
const sideways = await page.evaluate(
  () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
await page.screenshot({ path: `${folder}/page-phone.png`, fullPage: true });
if (sideways > 0) throw new Error(`a phone has to scroll ${sideways} pixels sideways`);
tell("fits a phone");

// Everything can be reached by the keyboard, and has a name.
const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select")]
  .filter((one) => one.offsetParent && !one.labels?.length && !one.ariaLabel && !one.textContent.trim())
  .map((one) => one.outerHTML));
if (nameless.length) throw new Error(`without a name: ${nameless}`);
tell("everything has a name");

await page.click("#logout");
await page.waitForSelector("#login:not([hidden])");
tell("logged out", { complaints });
await browser.close();
