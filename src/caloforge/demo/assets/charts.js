// ---- profiles ---------------------------------------------------------------------------------
const draw = (figure, { edges, limit, lines, log, labels, unit }) => {
  const svg = figure.querySelector("svg"), [w, h] = [svg.clientWidth || 300, svg.clientHeight || 240];
  const [left, right, top, bottom] = [54, 8, 26, 38];
  const node = (tag, more, text) => {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(more)) e.setAttribute(key, value);
    if (text !== undefined) e.textContent = text;
    svg.append(e);
  };
  const most = Math.max(1e-9, ...lines.flatMap(({ values }) => [...values])) * (log ? 2 : 1.08), least = log ? most * 1e-4 : 0;
  const [scale, of] = most >= 1000 ? [1000, "GeV"] : most >= 1 ? [1, "MeV"] : [1e-3, "keV"];
  const x = (v) => left + (w - left - right) * clamp((v - edges[0]) / (limit - edges[0]), 0, 1);
  const y = (v) => h - bottom - (h - top - bottom) * (log ? clamp(Math.log(v / least) / Math.log(most / least), 0, 1) : v / most);
  const steps = (low, high, n) => { // round numbers between
    const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw)), step = power * [1, 2, 5, 10].find((s) => s * power >= raw);
    return Array.from({ length: Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1 }, (_, i) => (Math.ceil(low / step - 1e-9) + i) * step);
  };
  const rows = log ? [0, 1, 2, 3].map((i) => 10 ** (Math.floor(Math.log10(most)) - i)) : steps(0, most, 5);
  svg.replaceChildren();
  for (const v of rows.filter((v) => v >= least)) {
    node("path", { class: "grid", d: `M${left} ${y(v)}H${w - right}` });
    node("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, plain(v / scale));
  }
  for (const v of labels ? steps(0, labels.length - 1, Math.min(8, labels.length)).filter((i) => Number.isInteger(i)) : steps(edges[0], limit, 6)) {
    node("text", { x: x(labels ? v + 0.5 : v), y: h - bottom + 16, "text-anchor": "middle" }, labels ? labels[v] : plain(v));
  }
  node("text", { x: w - right, y: h - 6, "text-anchor": "end" }, unit);
  node("text", { x: left - 6, y: 12, "text-anchor": "end" }, of);
  for (const { kind, values } of lines) {
    const filled = kind === "one", seen = (i) => filled || !log || values[i] > least; // a log scale has no place for nothing
    let path = filled ? `M${left} ${h - bottom}` : "";
    for (let i = 0; i < values.length && edges[i] < limit; i++) {
      if (seen(i)) path += `${filled || (i && seen(i - 1)) ? "L" : "M"}${x(edges[i])} ${y(values[i])}H${x(edges[i + 1])}`;
    }
    node("path", { class: kind, d: filled ? `${path}V${h - bottom}Z` : path });
  }
};
