// Small pictures of a book and its matches, as SVG; only for the eye, so floating point will do.

const NS = "http://www.w3.org/2000/svg";
const LABEL = { fill: "var(--faint)", "font-size": 12 };
const FOOT = 18;

function draw(svg, shapes) {
  svg.replaceChildren(...shapes.map(([name, attributes, text]) => {
    const shape = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    if (text !== undefined) shape.textContent = text;
    return shape;
  }));
}

function size(svg) {
  const { width, height } = svg.getBoundingClientRect();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return [width, height - FOOT];
}

// Matches, oldest first.
export function drawPrices(svg, tape, show) {
  const [width, height] = size(svg);
  if (tape.length < 2) {
    draw(svg, [["text", { x: 0, y: 24, ...LABEL }, "no matches yet"]]);
    return;
  }
  const prices = tape.map((row) => Number(row.price));
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  const x = (n) => (n / (prices.length - 1)) * width;
  const y = (price) => height - ((price - low) / (high - low || 1)) * (height - FOOT);
  const points = prices.map((price, n) => `${x(n).toFixed(1)},${y(price).toFixed(1)}`);
  const at = (price) => show(tape[prices.indexOf(price)].price);
  draw(svg, [
    ["polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}`,
      fill: "var(--accent)", opacity: 0.12 }],
    ["polyline", { points: points.join(" "), fill: "none", stroke: "var(--accent)",
      "stroke-width": 2, "stroke-linejoin": "round" }],
    ["text", { x: 0, y: 12, ...LABEL }, at(high)],
    ["text", { x: 0, y: height + FOOT - 4, ...LABEL }, at(low)],
    ["text", { x: width, y: height + FOOT - 4, "text-anchor": "end", ...LABEL },
      `last ${show(tape.at(-1).price)}`],
  ]);
}

// Levels best first, as [price, lots] of numbers.
export function drawDepth(svg, bids, asks, show) {
  const [width, height] = size(svg);
  if (!bids.length && !asks.length) {
    draw(svg, [["text", { x: 0, y: 24, ...LABEL }, "the book is empty"]]);
    return;
  }
  const summed = (levels) => {
    let sum = 0;
    return levels.map(([price, lots]) => [price, (sum += lots)]);
  };
  const [buys, sells] = [summed(bids), summed(asks)];
  const all = [...buys, ...sells];
  const low = Math.min(...all.map(([price]) => price));
  const high = Math.max(...all.map(([price]) => price));
  const most = Math.max(...all.map(([, sum]) => sum));
  const x = (price) => ((price - low) / (high - low || 1)) * width;
  const y = (sum) => height - (sum / most) * (height - 6);
  const area = (levels, colour, end) => {
    if (!levels.length) return [];
    let path = `M${x(levels[0][0])},${height}`;
    levels.forEach(([price, sum], n) => {
      path += `L${x(price)},${y(sum)}L${x(levels[n + 1]?.[0] ?? end)},${y(sum)}`;
    });
    path += `L${x(end)},${height}Z`;
    return [["path", { d: path, fill: colour, opacity: 0.22 }],
      ["path", { d: path, fill: "none", stroke: colour }]];
  };
  draw(svg, [
    ...area(buys, "var(--buy)", low), ...area(sells, "var(--sell)", high),
    ["text", { x: 0, y: height + FOOT - 4, ...LABEL }, show(BigInt(low))],
    ["text", { x: width, y: height + FOOT - 4, "text-anchor": "end", ...LABEL }, show(BigInt(high))],
  ]);
}
