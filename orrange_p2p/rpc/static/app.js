import { drawDepth, drawPrices } from "./charts.js";
import { call, Refused, Stream } from "./node.js";
import { Units } from "./units.js";
import { delegate, walletLogin } from "./wallet.js";

const $ = (id) => document.getElementById(id);
const LEVELS = 14;

let markets = [];
let market, units, stream, session;
let book = { bids: new Map(), asks: new Map() };
let tape = [];

// --- small things ---

function element(name, text, attributes = {}) {
  const one = document.createElement(name);
  if (text !== undefined && text !== null) one.textContent = text;
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  return one;
}

function row(cells, attributes = {}) {
  const one = element("tr", undefined, attributes);
  one.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
  return one;
}

function fill(body, rows, columns, nothing) {
  body.replaceChildren(...rows);
  if (!rows.length) body.append(row([element("td", nothing, { class: "empty", colspan: columns })]));
}

const short = (hex) => (hex ? `${hex.slice(0, 10)}…` : "–");
const clock = (ms) => new Date(ms).toLocaleTimeString();

// --- coming in ---

async function start() {
  const code = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  if (code) await logIn(() => call("POST", "/v1/sessions", { code }));
  try {
    session = await call("GET", "/v1/sessions");
  } catch (problem) {
    showLogin(problem instanceof Refused && problem.status === 401 ? "" : problem.message);
    return;
  }
  $("login").hidden = true;
  $("desk").hidden = false;
  $("logout").hidden = false;
  $("place").disabled = !session.scopes.includes("trade");
  markets = await call("GET", "/v1/markets");
  $("market").replaceChildren(...markets.map((one) =>
    element("option", one.name ?? short(one.market), { value: one.market })));
  choose(markets[0].market);
  refresh();
  setInterval(refresh, 5000);
}

async function logIn(open) {
  try {
    await open();
    return true;
  } catch (problem) {
    $("login-problem").textContent = problem.message;
    return false;
  }
}

function showLogin(problem) {
  stream?.close();
  $("desk").hidden = true;
  $("logout").hidden = true;
  $("login").hidden = false;
  $("state").textContent = "not logged in";
  if (problem) $("login-problem").textContent = problem;
  $("code").focus();
}

$("code-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("code").value.trim();
  const code = text.includes("#") ? text.slice(text.indexOf("#") + 1) : text;
  if (await logIn(() => call("POST", "/v1/sessions", { code }))) start();
});
$("wallet-login").addEventListener("click", async () => {
  if (await logIn(walletLogin)) start();
});
$("logout").addEventListener("click", async () => {
  await call("DELETE", "/v1/sessions").catch(() => null);
  location.reload();
});

// --- a market ---

function choose(id) {
  market = markets.find((one) => one.market === id);
  units = new Units(market);
  $("market").value = id;
  $("price-unit").textContent = `Price, ${units.quote}`;
  $("amount-unit").textContent = `Amount, ${units.base}`;
  for (const one of document.querySelectorAll(".unit.base")) one.textContent = units.base;
  for (const one of document.querySelectorAll(".unit.quote")) one.textContent = units.quote;
  $("spend-unit").textContent = units.isRaw ? "its smallest units" : units.quote;
  $("author").replaceChildren(...market.authors.map((author, n) =>
    element("option", `${n + 1}: ${short(author)}`, { value: author })));
  $("author-label").hidden = market.authors.length < 2;
  $("session").replaceChildren(...market.authors.map((author, n) =>
    element("option", `${n + 1}: ${short(author)}`, { value: author })));
  $("wallet-card").hidden = market.settlement !== "atomic" || !market.authors.length;
  $("swaps-card").hidden = market.settlement !== "htlc";
  stream?.close();
  const kinds = ["book", "tape", "orders", "trades", "swaps"];
  stream = new Stream(["status", ...kinds.map((kind) => `${kind}:${id}`)], hear, (isOpen) => {
    $("state").textContent = isOpen ? "connected" : "the node does not answer; trying again …";
  });
}
$("market").addEventListener("change", () => choose($("market").value));

const heard = { book: hearBook, tape: hearTape, orders: showOrders, trades: showTrades,
  swaps: showSwaps, status: showStatus };

function hear({ channel, type, data }) {
  if (data !== null && data?.problem === undefined) heard[channel.split(":")[0]](data, type);
}

function hearBook(data, type) {
  if (type === "snapshot") book = { bids: new Map(), asks: new Map() };
  for (const side of ["bids", "asks"]) {
    for (const [price, lots] of data[side]) {
      if (lots === "0") book[side].delete(price);
      else book[side].set(price, BigInt(lots));
    }
  }
  $("epoch").textContent = `epoch ${data.epoch}`;
  showBook();
}

function sorted(side) {
  const sign = side === "bids" ? -1 : 1;
  return [...book[side]].sort(([a], [b]) => sign * (BigInt(a) < BigInt(b) ? -1 : 1));
}

function showBook() {
  const [bids, asks] = [sorted("bids"), sorted("asks")];
  for (const [side, levels] of [["bids", bids], ["asks", asks]]) {
    let sum = 0n;
    const most = levels.slice(0, LEVELS).reduce((a, [, lots]) => a + lots, 0n) || 1n;
    const rows = levels.slice(0, LEVELS).map(([price, lots]) => {
      sum += lots;
      const share = Number((sum * 100n) / most);
      const colour = side === "bids" ? "var(--buy-ground)" : "var(--sell-ground)";
      const one = row([units.showPrice(price), units.showLots(lots), units.showLots(sum)]);
      one.style.backgroundImage = `linear-gradient(${colour}, ${colour})`;
      one.style.backgroundSize = `${share}% 100%`;
      one.addEventListener("click", () => { $("price").value = units.showPrice(price); total(); });
      return one;
    });
    fill($(side).tBodies[0], side === "asks" ? rows.reverse() : rows, 3,
      side === "bids" ? "nobody buys" : "nobody sells");
  }
  $("spread").textContent = bids.length && asks.length
    ? `spread ${units.showPrice(BigInt(asks[0][0]) - BigInt(bids[0][0]))} ${units.quote}` : "";
  const numbers = (levels) => levels.map(([price, lots]) => [Number(price), Number(lots)]);
  drawDepth($("depth-chart"), numbers(bids), numbers(asks), (price) => units.showPrice(price));
}

function hearTape(data, type) {
  tape = (type === "snapshot" ? data : [...tape, ...data]).slice(-300);
  const rows = tape.slice(-60).reverse().map((one) => row([
    element("td", units.showPrice(one.price), { class: one.side }), units.showLots(one.lots),
    clock(one.time_ms)]));
  fill($("tape").tBodies[0], rows, 3, "no matches yet");
  drawPrices($("price-chart"), tape, (price) => units.showPrice(price));
}

// --- what is ours ---

function showOrders(orders) {
  const rows = orders.slice(0, 200).map((one) => {
    const isLive = one.state === "open" || one.state === "pending";
    const cancel = element("button", "Cancel", { type: "button", "aria-label": `Cancel ${one.order}` });
    cancel.addEventListener("click", () => take(cancel, one.order));
    const [author, seq, position] = one.order.split("/");
    const number = market.authors.indexOf(author) + 1;
    const state = one.reason ? `${one.state}: ${one.reason}` : one.state;
    return row([state, element("td", one.side, { class: one.side }), units.showPrice(one.price),
      units.showLots(one.quantity), units.showLots(one.open), units.showLots(one.filled),
      element("td", `${number}/${seq}/${position}`, { class: "mono", title: one.order }),
      isLive ? cell(cancel) : ""], { "data-order": one.order, "data-state": one.state });
  });
  fill($("orders").tBodies[0], rows, 8, "no orders");
}

function cell(child) {
  const one = element("td");
  one.append(child);
  return one;
}

async function take(button, order) {
  button.disabled = true;
  await say(() => call("DELETE", `/v1/orders/${order}?market=${market.market}`), "cancel sent");
}

$("cancel-all").addEventListener("click", async () => {
  for (const author of market.authors) {
    await say(() => call("DELETE", `/v1/orders?market=${market.market}&author=${author}`),
      "cancelling all");
  }
});

const STEPS = ["due", "sent", "mined", "settled"];

function showTrades(trades) {
  fill2($("trades"), trades.slice(-100).reverse().map((one) => {
    const line = element("li", undefined, { "data-state": one.state });
    const isBuy = market.authors.includes(one.buyer);
    line.append(
      element("span", isBuy ? "bought" : "sold", { class: isBuy ? "buy" : "sell" }),
      element("span", `${units.showLots(one.lots)} ${units.base} at ${units.showPrice(one.price)}`),
      element("span", `${units.showTotal(one.lots, one.price)} ${units.quote}`),
      steps(one.state), element("span", clock(one.bound_ms)));
    if (one.tx_hash) line.append(element("span", `tx ${short(one.tx_hash)} in block ${one.block}`, { class: "mono", title: one.tx_hash }));
    if (one.blamed) line.append(element("span", `${short(one.blamed)} did not pay`, { class: "problem" }));
    return line;
  }), "no trades yet");
}

function steps(state) {
  const box = element("span", undefined, { class: "steps" });
  const names = STEPS.includes(state) ? STEPS : [state];
  for (const name of names) box.append(element(name === state ? "b" : "span", name, { class: "tag" }));
  return box;
}

function fill2(list, items, nothing) {
  list.replaceChildren(...(items.length ? items : [element("li", nothing, { class: "empty" })]));
}

function showSwaps(swaps) {
  fill2($("swaps"), swaps.slice(-100).reverse().map((one) => {
    const line = element("li", undefined, { "data-state": one.state });
    line.append(element("span", one.side, { class: one.side }), steps(one.state),
      element("span", clock(one.bound_ms)));
    for (const [word, leg] of [["gives", one.gives], ["gets", one.gets]]) {
      if (!leg) continue;
      line.append(element("span", `${word} ${leg.amount} on ${leg.chain.split(":")[0]}: ` +
        `locked ${short(leg.lock)}, ended ${short(leg.end)}`, { class: "mono", title: `${leg.lock ?? ""} ${leg.end ?? ""}` }));
    }
    if (one.problem) line.append(element("span", one.problem, { class: "problem" }));
    return line;
  }), "no swaps yet");
}

// --- the node ---

function showStatus(status) {
  const here = status.markets.find((one) => one.market === market.market) ?? {};
  const totals = here.totals ?? {};
  const facts = {
    Network: status.network,
    Roles: status.roles.join(", ") || "follows",
    Peers: status.peers.length,
    Round: here.round,
    Epoch: here.epoch,
    "Open orders": here.open_orders,
    Matches: totals.matches ?? 0,
    Refusals: totals.refusals ?? 0,
    Lapses: totals.lapses ?? 0,
    Root: short(here.root),
  };
  $("node").replaceChildren(...Object.entries(facts).flatMap(([name, value]) =>
    [element("dt", name), element("dd", `${value ?? "–"}`)]));
  fill($("peers").tBodies[0], status.peers.map((peer) => row([
    element("td", `${peer.peer_id.slice(0, 14)}…`, { class: "mono", title: peer.peer_id }),
    peer.address ?? ""])), 2, "no peers");
  const warning = here.halted ? `this market is halted: ${here.halted}`
    : status.signs_nothing ?? here.no_settlement;
  $("warning").hidden = !warning;
  $("warning").textContent = warning ?? "";
}

async function refresh() {
  if ($("desk").hidden) return;
  try {
    const epochs = await call("GET", `/v1/epochs?market=${market.market}`);
    fill($("epochs").tBodies[0], epochs.slice(-40).reverse().map((one) => row([
      one.epoch, element("td", short(one.root), { class: "mono", title: one.root }), one.orders,
      one.trades])), 4, "no epochs yet");
    showDelegations(await call("GET", `/v1/delegations?market=${market.market}`));
  } catch (problem) {
    if (problem.status === 401) showLogin("the session has ended");
  }
}

// --- a wallet ---

function showDelegations(delegations) {
  fill($("delegations").tBodies[0], delegations.map((one) => {
    const isOver = one.expiry_ms < Date.now();
    const number = market.authors.indexOf(one.session) + 1;
    const revoke = element("button", "Take back", { type: "button", "aria-label": `Take back trader ${number}` });
    revoke.addEventListener("click", () => ask(revoke, { session: one.session, expiry_ms: 0 },
      "taken back: its orders end with the next epoch"));
    return row([`${number}: ${short(one.session)}`, element("td", short(one.owner), { title: one.owner }),
      units.showLots(one.cap), new Date(one.expiry_ms).toLocaleString(),
      one.active ? cell(revoke) : isOver ? "over" : "not in force"],
    { "data-session": one.session, "data-active": one.active });
  }), 5, "no wallet owns a trader key");
}

async function ask(button, wish, done) {
  const said = $("wallet-said");
  button.disabled = true;
  said.className = "";
  try {
    await delegate({ market: market.market, ...wish }, (text) => { said.textContent = text; });
    said.textContent = done;
  } catch (problem) {
    said.className = "problem";
    said.textContent = problem.message;
  }
  button.disabled = false;
}

$("wallet-form").addEventListener("submit", (event) => {
  event.preventDefault();
  let wish;
  try {
    wish = {
      session: $("session").value,
      cap: units.lots($("cap").value).toString(),
      spend: units.quoteUnits($("spend").value).toString(),
      expiry_ms: Date.now() + Number($("days").value) * 86_400_000,
    };
  } catch (problem) {
    $("wallet-said").className = "problem";
    $("wallet-said").textContent = problem.message;
    return;
  }
  ask($("delegate"), wish, "done: the trader key trades for your account, two epochs from now");
});

// --- an order ---

function wish() {
  const isMarket = $("kind").value === "market";
  return {
    market: market.market,
    author: $("author").value,
    side: document.querySelector("input[name=side]:checked").value,
    quantity: units.lots($("amount").value).toString(),
    price: units.price($("price").value).toString(),
    time_in_force: isMarket ? "ioc" : $("tif").value,
    post_only: !isMarket && $("post-only").checked,
  };
}

function total() {
  try {
    const { quantity, price, side } = wish();
    $("order-total").textContent =
      `${side === "buy" ? "costs at most" : "brings at least"} ${units.showTotal(quantity, price)} ${units.quote}`;
    $("order-total").className = "";
  } catch (problem) {
    const isEmpty = !$("amount").value || !$("price").value;
    $("order-total").textContent = isEmpty ? "" : problem.message;
    $("order-total").className = "problem";
  }
}

async function say(act, done) {
  const said = $("order-said");
  said.className = "";
  try {
    const answer = await act();
    said.textContent = done;
    return answer;
  } catch (problem) {
    said.className = "problem";
    said.textContent = problem.message;
    if (problem.status === 401) showLogin("the session has ended");
    return null;
  }
}

$("kind").addEventListener("change", () => {
  const isMarket = $("kind").value === "market";
  $("price-label").textContent = isMarket ? "Worst price" : "Price";
  $("tif").disabled = isMarket;
  $("post-only").disabled = isMarket;
});
$("order-form").addEventListener("input", total);
$("order-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("place").disabled = true;
  // The key makes a second click, or a lost answer, the same order.
  const key = crypto.randomUUID();
  const answer = await say(async () => call("POST", "/v1/orders", wish(), { "idempotency-key": key }),
    "placed: it is in the book with the next epoch");
  $("place").disabled = false;
  if (answer) { $("amount").value = ""; total(); $("amount").focus(); }
});

start();
