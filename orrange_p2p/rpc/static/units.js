// Amounts as people write them, and the whole numbers of smallest units that the node speaks.
// BigInt all the way: nothing here is ever a floating-point number.

const DECIMAL = /^(?:([0-9]{1,78})(?:\.([0-9]{1,78}))?|\.([0-9]{1,78}))$/;

function parse(text) {
  const found = DECIMAL.exec(text.trim());
  if (!found) throw new Error(`“${text}” is no amount such as 12 or 0.5`);
  const part = found[2] ?? found[3] ?? "";
  return [BigInt((found[1] ?? "") + part), 10n ** BigInt(part.length)];
}

export function showAmount(amount, decimals) {
  const one = 10n ** BigInt(decimals);
  const rest = amount % one;
  const digits = rest.toString().padStart(decimals, "0").replace(/0+$/, "");
  return rest ? `${amount / one}.${digits}` : `${amount / one}`;
}

export class Units {
  constructor(market) {
    this.isRaw = market.base_decimals === null || market.quote_decimals === null;
    const [base, quote] = (market.name ?? "lots/ticks").split("/");
    this.base = this.isRaw ? "lots" : base;
    this.quote = this.isRaw ? "ticks" : quote;
    if (this.isRaw) return;
    this.lotSize = BigInt(market.lot_size);
    this.tickSize = BigInt(market.tick_size);
    this.baseDecimals = market.base_decimals;
    this.quoteDecimals = market.quote_decimals;
    // One tick in quote coins for one base coin, as a fraction.
    this.ticks = this.tickSize * 10n ** BigInt(this.baseDecimals);
    this.coins = this.lotSize * 10n ** BigInt(this.quoteDecimals);
  }

  lots(text) {
    if (this.isRaw) return whole(text);
    const [numerator, scale] = parse(text);
    return exact(text, numerator * 10n ** BigInt(this.baseDecimals), this.lotSize * scale,
      (lots) => this.showLots(lots), "lot");
  }

  price(text) {
    if (this.isRaw) return whole(text);
    const [numerator, scale] = parse(text);
    return exact(text, numerator * this.coins, scale * this.ticks,
      (price) => this.showPrice(price), "price tick");
  }

  // An amount of quote, in its smallest units.
  quoteUnits(text) {
    if (this.isRaw) return whole(text);
    const [numerator, scale] = parse(text);
    const units = numerator * 10n ** BigInt(this.quoteDecimals);
    if (units % scale) throw new Error(`${text}: ${this.quote} has ${this.quoteDecimals} decimals`);
    return units / scale;
  }

  showLots(lots) {
    return this.isRaw ? `${lots}` : showAmount(BigInt(lots) * this.lotSize, this.baseDecimals);
  }

  showPrice(price) {
    if (this.isRaw) return `${price}`;
    const numerator = BigInt(price) * this.ticks;
    for (let decimals = 0; decimals < 40; decimals += 1) {
      const scaled = numerator * 10n ** BigInt(decimals);
      if (scaled % this.coins === 0n) return showAmount(scaled / this.coins, decimals);
    }
    return `${numerator}/${this.coins}`;
  }

  showTotal(lots, price) {
    const product = BigInt(lots) * BigInt(price);
    return this.isRaw ? `${product}` : showAmount(product * this.tickSize, this.quoteDecimals);
  }
}

function whole(text) {
  if (!/^[1-9][0-9]{0,18}$/.test(text.trim())) throw new Error(`“${text}” is no whole number`);
  return BigInt(text.trim());
}

function exact(text, numerator, denominator, show, what) {
  const count = numerator / denominator;
  if (count > 0n && numerator % denominator === 0n) return count;
  const nearest = [count, count + 1n].filter((one) => one > 0n).map(show);
  throw new Error(`${text} is no multiple of this market's ${what}: ` +
    `nearest ${nearest.join(" and ")}`);
}
