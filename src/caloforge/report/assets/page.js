"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = (id) => { const e = byId(id); return e ? JSON.parse(e.textContent) : null; };
  const unpack = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  };
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
  const digits = (v, n = 3) => {
    const size = Math.abs(v);
    if (size === 0) return "0";
    if (size < 1e-3 || size >= 1e6) return v.toExponential(n - 1);
    return size >= 10 ** (n - 1) ? String(Math.round(v)) : v.toPrecision(n);
  };
  const energy = (mev) => (mev >= 1000 ? `${digits(mev / 1000)} GeV` : mev >= 1 ? `${digits(mev)} MeV` : `${digits(mev * 1000)} keV`);

  // ---- folding and navigation -------------------------------------------------------------------
  const folds = () => document.querySelectorAll("main details");
  byId("open-all").addEventListener("click", () => folds().forEach((d) => { d.open = true; }));
  byId("close-all").addEventListener("click", () => folds().forEach((d) => { d.open = false; }));
  let before = [];
  addEventListener("beforeprint", () => {
    before = [...folds()].map((d) => [d, d.open]);
    before.forEach(([d]) => { d.open = true; });
  });
  addEventListener("afterprint", () => { before.forEach(([d, open]) => { d.open = open; }); before = []; });
  // what is drawn to fit its place must be drawn again when its fold opens
  document.addEventListener("toggle", (event) => { if (event.target.open) dispatchEvent(new Event("resize")); }, true);
  const reveal = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    if (target.tagName === "SECTION") target.querySelector("details").open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  const strip = document.querySelector("nav ul");
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const sections = [...document.querySelectorAll("main > section")].filter((s) => links.has(s.id));
  let current = null;
  const highlight = () => {
    const line = Math.min(innerHeight / 3, 240);
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    let here = sections[0];
    for (const s of sections) if (s.getBoundingClientRect().top <= line) here = s;
    if (atEnd && scrollY > 0) here = sections[sections.length - 1];
    const link = here && links.get(here.id);
    if (!link || link === current) return;
    if (current) current.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    current = link;
    const [a, b] = [link.getBoundingClientRect(), strip.getBoundingClientRect()];
    if (a.left < b.left || a.right > b.right) strip.scrollLeft += a.left - b.left - 16;
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; highlight(); });
  };
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);
  highlight();

  // ---- colour scales ----------------------------------------------------------------------------
  const paintScale = (box, colours, ticks) => {
    box.querySelector(".bar").style.background = `linear-gradient(to right, ${colours.join(",")})`;
    const line = box.querySelector(".ticks");
    line.replaceChildren(...ticks.map(([at, text]) => {
      const tick = document.createElement("span");
      tick.textContent = text;
      tick.style.left = `${100 * at}%`;
      if (at < 0.04) tick.className = "first";
      if (at > 0.96) tick.className = "last";
      return tick;
    }));
  };
  const decade = (d) => {
    const [unit, shift] = d >= 3 ? ["GeV", 3] : d >= 0 ? ["MeV", 0] : d >= -3 ? ["keV", -3] : ["eV", -6];
    return `${Number((10 ** (d - shift)).toPrecision(1))} ${unit}`;
  };
  const decadeTicks = ([low, high]) => {
    const [a, b] = [Math.log10(low), Math.log10(high)];
    const step = Math.max(1, Math.ceil((b - a) / 5));
    const ticks = [];
    for (let d = Math.ceil(a); d <= b; d += step) ticks.push([(d - a) / (b - a || 1), decade(d)]);
    return ticks.length > 1 ? ticks : [[0, energy(low)], [1, energy(high)]];
  };

  // ---- mean shower, layer by layer --------------------------------------------------------------
  const layers = data("data-layers");
  const startLayers = () => {
    const arrays = ["reference", "generated", "difference"].map((k) => unpack(layers[k]));
    const raw = unpack(layers.raw);
    const canvases = ["reference", "generated", "difference"].map((k) => byId(`layer-${k}`));
    const slider = byId("layer-slider"), text = byId("layer-text"), pointer = byId("cell-text");
    const [low, high] = layers.range.map(Math.log);
    const energyColour = (v) => (v > 0 ? layers.colours[Math.round(clamp((Math.log(v) - low) / (high - low || 1), 0, 1) * (layers.colours.length - 1))] : null);
    const differenceColour = (v) => layers.differences[Math.round(clamp((v / layers.limit + 1) / 2, 0, 1) * (layers.differences.length - 1))];
    const half = layers.half;

    const paint = (canvas, values, colour, i) => {
      const size = Math.round(canvas.clientWidth * (devicePixelRatio || 1)) || 300;
      canvas.width = canvas.height = size;
      const g = canvas.getContext("2d");
      g.setTransform(size / (2 * half), 0, 0, -size / (2 * half), size / 2, size / 2);
      g.lineWidth = (2 * half) / size;
      const { a, b } = layers.shapes[layers.shape[i]];
      let k = layers.offsets[i];
      for (let p = 0; p + 1 < a.length; p++) {
        for (let q = 0; q + 1 < b.length; q++, k++) {
          const fill = colour(values[k]);
          if (!fill) continue;
          g.fillStyle = g.strokeStyle = fill;
          g.beginPath();
          if (layers.polar) {
            g.arc(0, 0, b[q + 1], a[p], a[p + 1]);
            g.arc(0, 0, b[q], a[p + 1], a[p], true);
            g.closePath();
          } else {
            g.rect(b[q], a[p], b[q + 1] - b[q], a[p + 1] - a[p]);
          }
          g.fill();
          g.stroke();
        }
      }
    };
    const sum = (values, i) => { let s = 0; for (let k = layers.offsets[i]; k < layers.offsets[i + 1]; k++) s += values[k]; return s; };
    const show = () => {
      const i = Number(slider.value);
      canvases.forEach((canvas, n) => paint(canvas, arrays[n], n === 2 ? differenceColour : energyColour, i));
      const [g4, made] = [sum(arrays[0], i), sum(arrays[1], i)];
      const depth = layers.depths[i] ? `, ${digits(layers.depths[i][0], 4)} to ${digits(layers.depths[i][1], 4)} mm deep` : "";
      const change = g4 > 0 ? ` (${made >= g4 ? "+" : "−"}${digits(Math.abs(100 * (made / g4 - 1)), 2)} %)` : "";
      const message = `Layer ${layers.numbers[i]}${depth}: mean energy ${energy(g4)} Geant4, ${energy(made)} generated${change}`;
      text.textContent = message;
      slider.setAttribute("aria-valuetext", `layer ${layers.numbers[i]}`);
      canvases.forEach((canvas, n) => canvas.setAttribute("aria-label", `${["Geant4", "Generated", "Relative difference"][n]}, layer ${layers.numbers[i]}`));
      pointer.textContent = "";
    };
    const cellAt = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width * 2 - 1) * half;
      const y = -((event.clientY - box.top) / box.height * 2 - 1) * half;
      const i = Number(slider.value);
      const { a, b } = layers.shapes[layers.shape[i]];
      const [u, v] = layers.polar ? [Math.atan2(y, x), Math.hypot(x, y)] : [y, x];
      const find = (edges, value) => edges.findIndex((e, n) => n + 1 < edges.length && value >= e && value < edges[n + 1]);
      const [p, q] = [find(a, u), find(b, v)];
      if (p < 0 || q < 0) { pointer.textContent = ""; return; }
      const k = layers.offsets[i] + p * (b.length - 1) + q;
      const change = arrays[0][k] > 0 ? `, ${raw[k] >= 0 ? "+" : "−"}${digits(Math.abs(100 * raw[k]), 2)} %` : "";
      pointer.textContent = `Cell under the pointer: ${energy(arrays[0][k])} Geant4, ${energy(arrays[1][k])} generated${change}`;
    };
    canvases.forEach((canvas) => {
      canvas.addEventListener("pointermove", cellAt);
      canvas.addEventListener("pointerleave", () => { pointer.textContent = ""; });
    });
    slider.addEventListener("input", show);
    new ResizeObserver(() => show()).observe(canvases[0]);
    paintScale(byId("scale-energy"), layers.colours, decadeTicks(layers.range));
    const percent = Math.round(100 * layers.limit);
    paintScale(byId("scale-difference"), layers.differences, [[0, `≤ −${percent} %`], [0.5, "0"], [1, `≥ +${percent} %`]]);
    show();
  };
  if (layers) startLayers();

  // ---- single showers in three dimensions ---------------------------------------------------------
  const events = data("data-events");
  const hasWebGL = () => {
    const canvas = document.createElement("canvas");
    try { return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl")); } catch { return false; }
  };
  const startEvents = () => {
    const section = byId("scenes"), threshold = byId("threshold"), choice = byId("event-choice");
    const boxes = [byId("scene-reference"), byId("scene-generated")];
    const notes = [byId("note-reference"), byId("note-generated")];
    const [low, high] = events.range.map(Math.log10);
    const span = high - low || 1;
    events.pairs.forEach((pair) => pair.events.forEach((e) => { e.b = unpack(e.bounds); e.e = unpack(e.energies); }));
    const scale = events.colours.map((c, i, all) => [i / (all.length - 1), c]);

    const build = (event, cut) => {
      const mesh = { x: [], y: [], z: [], i: [], j: [], k: [], intensity: [], text: [] };
      const corner = (depth, across, up, t, label) => {
        mesh.x.push(depth); mesh.y.push(across); mesh.z.push(up); mesh.intensity.push(t); mesh.text.push(label);
      };
      const quad = (p, q, r, s) => { mesh.i.push(p, p); mesh.j.push(q, r); mesh.k.push(r, s); };
      let shown = 0;
      for (let n = 0; n < event.e.length && event.e[n] >= cut; n++, shown++) {
        let [z0, z1, a0, a1, b0, b1] = event.b.subarray(6 * n, 6 * n + 6);
        const t = Math.log10(event.e[n]);
        const grow = clamp((t - low) / span, 0, 1);
        const shrink = 0.5 * (1 - (0.28 + 0.64 * grow));
        const ring = events.polar && a1 - a0 > 6.2;
        const label = energy(event.e[n]);
        if (events.single) { z0 = 0; z1 = Math.max(t - low, 0.02 * span); } else { const d = (z1 - z0) * shrink; z0 += d; z1 -= d; }
        if (!ring) { const d = (a1 - a0) * (events.single ? 0.03 : shrink); a0 += d; a1 -= d; }
        const db = (b1 - b0) * (events.single ? 0.03 : shrink);
        b0 += db; b1 -= db;
        const steps = events.polar ? Math.max(1, Math.ceil((a1 - a0) / 0.45)) : 1;
        const first = mesh.x.length;
        for (let s = 0; s <= steps; s++) {
          const a = a0 + (a1 - a0) * s / steps;
          const at = (b) => (events.polar ? [b * Math.cos(a), b * Math.sin(a)] : [b, a]);
          for (const [b, z] of [[b0, z0], [b1, z0], [b1, z1], [b0, z1]]) corner(z, ...at(b), t, label);
        }
        for (let s = 0; s < steps; s++) {
          const u = first + 4 * s, v = u + 4;
          for (let c = 0; c < 4; c++) quad(u + c, u + (c + 1) % 4, v + (c + 1) % 4, v + c);
        }
        quad(first, first + 1, first + 2, first + 3);
        const end = first + 4 * steps;
        quad(end, end + 3, end + 2, end + 1);
      }
      return [mesh, shown];
    };

    const ranges = (pair) => {
      const r = [[Infinity, -Infinity], [Infinity, -Infinity]];
      const widen = (n, ...values) => values.forEach((v) => { r[n][0] = Math.min(r[n][0], v); r[n][1] = Math.max(r[n][1], v); });
      for (const event of pair.events) {
        for (let n = 0; n < event.e.length; n++) {
          const [z0, z1, a0, a1, b0, b1] = event.b.subarray(6 * n, 6 * n + 6);
          widen(0, z0, z1);
          if (events.polar) widen(1, b1, -b1); else widen(1, a0, a1, b0, b1);
        }
      }
      if (!isFinite(r[0][0])) return { depth: [0, 1], across: [-1, 1] };
      return { depth: events.single ? [0, span * 1.05] : r[0], across: r[1] };
    };

    let pair = null, limits = null;
    const layout = () => {
      const long = limits.depth[1] - limits.depth[0], wide = limits.across[1] - limits.across[0];
      const stretch = events.single ? 0.6 : events.depthKnown ? clamp(long / wide, 0.5, 2) : 1.4;
      const away = clamp(stretch / 1.45, 1, 1.3);
      const axis = (title, range, more) => Object.assign({
        title: { text: title }, range, color: "#c5ccd6", gridcolor: "#323a47", zeroline: false,
        showbackground: false, showspikes: false,
      }, more);
      const depthTitle = events.single ? "log₁₀ energy" : events.depthKnown ? "depth z (mm)" : "layer";
      const layerTicks = events.depthKnown || events.single ? {} : {
        tickvals: events.numbers.map((_, i) => i + 0.5), ticktext: events.numbers.map(String),
      };
      return {
        margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#10141b", font: { color: "#c5ccd6", size: 11 },
        scene: {
          xaxis: axis(depthTitle, limits.depth, layerTicks), yaxis: axis("x (mm)", limits.across),
          zaxis: axis("y (mm)", limits.across),
          aspectmode: "manual", aspectratio: { x: stretch * 1.1, y: 1.1, z: 1.1 },
          dragmode: "orbit",
          camera: {
            eye: events.single ? { x: 1.7, y: 1.1, z: 1.1 } : { x: -1.25 * away, y: -2.15 * away, z: 1.0 * away },
            center: { x: -0.05, y: 0, z: -0.15 },
          },
        },
      };
    };
    const trace = (event, cut) => {
      const [mesh, shown] = build(event, cut);
      return [Object.assign(mesh, {
        type: "mesh3d", hoverinfo: "text", showscale: false, colorscale: scale, cmin: low, cmax: high,
        flatshading: true, lighting: { ambient: 0.72, diffuse: 0.6, specular: 0.08, roughness: 0.8 },
        lightposition: { x: -2000, y: -3000, z: 5000 },
      }), shown];
    };
    const describe = (event, shown) => {
      let text = `${energy(event.total)} in ${event.hits} cells from ${energy(event.incident)}, shower ${event.number}; ${shown} cells shown`;
      if (event.dropped > 0) text += `, the ${event.dropped} weakest (${digits(100 * event.droppedShare, 2)} % of the energy) left out`;
      return text;
    };
    const draw = async (fresh) => {
      section.dataset.drawn = "false";
      const cut = 10 ** (low + span * Number(threshold.value) / 100 - 1e-6);
      byId("threshold-text").textContent = energy(10 ** (low + span * Number(threshold.value) / 100));
      for (let n = 0; n < 2; n++) {
        const [mesh, shown] = trace(pair.events[n], cut);
        notes[n].textContent = describe(pair.events[n], shown);
        const plan = fresh || !boxes[n].layout ? layout() : boxes[n].layout;
        await Plotly.react(boxes[n], [mesh], plan, {
          displaylogo: false, responsive: true, scrollZoom: false,
          modeBarButtons: [["zoom3d", "pan3d", "orbitRotation", "resetCameraDefault3d", "toImage"]],
        });
      }
      section.dataset.drawn = "true";
    };
    const choose = async () => {
      pair = events.pairs[Number(choice.value)];
      limits = ranges(pair);
      await draw(true);
    };
    let following = false;
    const follow = (from, to) => from.on("plotly_relayouting", (change) => mirror(change, from, to))
      .on("plotly_relayout", (change) => mirror(change, from, to));
    const mirror = async (change, from, to) => {
      const camera = change && change["scene.camera"];
      if (!camera || following) return;
      following = true;
      await Plotly.relayout(to, { "scene.camera": camera });
      following = false;
    };
    const begin = async () => {
      try {
        await choose();
        follow(boxes[0], boxes[1]);
        follow(boxes[1], boxes[0]);
        threshold.addEventListener("change", () => draw(false));
        threshold.addEventListener("input", () => {
          byId("threshold-text").textContent = energy(10 ** (low + span * Number(threshold.value) / 100));
        });
        choice.addEventListener("change", choose);
      } catch (error) {
        failed();
        console.warn(`the display in three dimensions could not be drawn: ${error}`);
      }
    };
    const failed = () => { section.hidden = true; byId("no-webgl").hidden = false; };
    paintScale(byId("scale-cells"), events.colours, decadeTicks(events.range));
    if (!hasWebGL() || typeof Plotly === "undefined") { failed(); return; }
    new IntersectionObserver((entries, observer) => {
      if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); begin(); }
    }, { rootMargin: "200px" }).observe(section);
  };
  if (events) startEvents();
})();
