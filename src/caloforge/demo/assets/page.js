// ---- what is made -----------------------------------------------------------------------------
const signed = (v, unit) => `${v < 0 ? "−" : ""}${Math.abs(v)}${unit}`;
const degrees = (rad) => Math.round(rad * 1800 / Math.PI) / 10;
const SLIDERS = {
  energy: { label: "Energy", log: true, round: (v) => Number(v.toPrecision(2)), text: (v) => energy(v, plain) },
  theta: { label: "Polar angle θ", round: (v) => degrees(v) * Math.PI / 180, text: (v) => signed(degrees(v), "°") },
  phi: { label: "Azimuth φ", round: (v) => degrees(v) * Math.PI / 180, text: (v) => signed(degrees(v), "°") },
  x: { label: "Impact x", round: (v) => Math.trunc(v * 100) / 100, text: (v) => signed(v, " mm") },
  y: { label: "Impact y", round: (v) => Math.trunc(v * 100) / 100, text: (v) => signed(v, " mm") },
};
const STEPS = 400, FIXED = 2e-3, HOW = "Drag or arrow keys turn, wheel or + and − zoom, Home goes back.";
const MOST = { seed: 2n ** 64n - 1n, number: 2n ** 62n - 1n };
const fill = (element, rows) => element.replaceChildren(...rows);
const pairs = (rows, key, value) => rows.flatMap(([name, text]) => [make(...key(name)), make(...value(text))]);

const begin = async (data) => {
  const detectors = data.detectors.map(prepare), known = {}, history = new Map();
  let detector = detectors[0], particle = data.particles.find((p) => p.name === detector.usual.particle) || data.particles[0];
  let key = "", latest = null, busy = false, wanted = false, playing = false;
  const canvas = byId("scene"), scene = startScene(canvas);
  if (scene) steer(canvas, scene, byId("turn"));
  else for (const [id, hidden] of [["scene", true], ["keys", true], ["no-webgl", false]]) byId(id).hidden = hidden;

  const choice = (label, options, chosen, took) => {
    const box = make("label", label, { className: "slider" }), select = make("select", "");
    options.forEach((text, i) => select.append(make("option", text, { value: i, selected: i === chosen })));
    select.addEventListener("change", () => took(Number(select.value)));
    box.append(select);
    return box;
  };
  const slider = (name, [low, high]) => {
    const { label, log, round, text } = SLIDERS[name], box = make("label", label, { className: "slider", htmlFor: `slider-${name}` });
    const said = make("output", ""), input = make("input", "", { type: "range", min: 0, max: STEPS, step: 1, id: `slider-${name}` });
    const at = (t) => (log ? low * (high / low) ** t : low + (high - low) * t);
    const told = (value) => {
      known[name] = Math.abs(clamp(value, low, high) - value) <= 0.005 * Math.abs(value) ? value : clamp(value, low, high);
      said.textContent = text(known[name]);
      input.setAttribute("aria-valuetext", said.textContent);
    };
    const start = clamp(known[name] ?? (log ? 1e4 : detector.usual[name] ?? (low + high) / 2), low, high);
    input.value = STEPS * (log ? Math.log(start / low) / Math.log(high / low) : (start - low) / (high - low));
    input.addEventListener("input", () => { told(round(at(input.value / STEPS))); run(); });
    told(round(start));
    box.append(said, input);
    return box;
  };
  const controls = () => {
    const boxes = [];
    if (detectors.length > 1) boxes.push(choice("Detector", detectors.map((d) => d.name), detectors.indexOf(detector), (i) => { detector = detectors[i]; controls(); run(); }));
    if (data.particles.length > 1) boxes.push(choice("Particle", data.particles.map((p) => particleName(p.name)), data.particles.indexOf(particle), (i) => { particle = data.particles[i]; run(); }));
    for (const [name, span] of Object.entries(detector.spans)) {
      if (span[1] - span[0] > FIXED) boxes.push(slider(name, span));
      else known[name] = detector.usual[name] ?? span[0];
    }
    fill(byId("sliders"), boxes);
    byId("how").textContent = HOW + (detector.single ? " Cells are as long as the logarithm of their energy." : "");
    const shape = detector.shape.length > 1 ? detector.shape.join(" × ") : detector.voxels;
    byId("what").textContent = `${data.particles.map((p) => particleName(p.name)).join(", ")} in ${detector.name || "its calorimeter"}, ${shape} cells. Made in this browser: nothing is sent anywhere.`;
  };
  const whole = (id) => {
    const text = byId(id).value.trim(), good = /^\d{1,20}$/.test(text) && BigInt(text) <= MOST[id];
    byId(id).setCustomValidity(good ? "" : `a whole number from 0 to ${MOST[id]}`);
    if (!good) byId(id).reportValidity();
    return good ? BigInt(text) : null;
  };

  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = true; // the page stays alive while it computes
  ort.env.wasm.wasmPaths = new URL("onnxruntime/", location.href).href;
  const session = await ort.InferenceSession.create("model.onnx");
  const tensor = (values, shape) => new ort.Tensor(values instanceof BigInt64Array ? "int64" : "float32", values, shape);
  const single = (v) => tensor(Float32Array.of(v), [1]), code = (v) => tensor(BigInt64Array.of(BigInt(v)), [1]);
  const shower = async (seed, number, of) => {
    const start = performance.now();
    const given = {
      energy: single(of.energy), theta: single(of.theta), phi: single(of.phi), particle: code(of.particle), detector: code(of.detector),
      impact: tensor(Float32Array.of(of.x || 0, of.y || 0), [1, 2]),
    };
    for (const { input, stream, size, shape } of data.noise) given[input] = tensor(normals(seed, number, stream, size), [1, ...shape]);
    const drawn = performance.now();
    const made = await session.run(Object.fromEntries(data.inputs.map((name) => [name, given[name]])));
    return { energies: made[data.output].data, noise: drawn - start, ms: performance.now() - start };
  };

  const run = async () => {
    wanted = true;
    if (busy) return;
    busy = true;
    const slow = setTimeout(() => { byId("facts").textContent = "making the shower …"; }, 400);
    try {
      while (wanted) {
        wanted = false;
        const [seed, number] = [whole("seed"), whole("number")];
        if (seed === null || number === null) { play(false); break; }
        const of = { ...known, particle: particle.code, detector: detector.number }, place = detector;
        const made = await shower(seed, number, of);
        const now = JSON.stringify(of);
        if (now !== key) history.clear();
        key = now;
        latest = { ...made, ...profiles(place, made.energies), of, seed, number, detector: place, particle: particle.name };
        history.delete(`${seed}/${number}`);
        history.set(`${seed}/${number}`, { ...latest, energies: null });
        while (history.size > 200) history.delete(history.keys().next().value);
        clearTimeout(slow);
        show();
        if (playing && !wanted) {
          await new Promise(requestAnimationFrame);
          if (playing) { byId("number").value = String(number + 1n); wanted = true; }
        }
      }
    } catch (error) {
      play(false);
      tell(`The shower could not be made: ${error.message || error}`);
    }
    clearTimeout(slow);
    busy = false;
  };
  const play = (on) => {
    playing = on;
    byId("play").setAttribute("aria-pressed", String(on));
    byId("facts").setAttribute("aria-live", on ? "off" : "polite");
  };

  // ---- what is shown --------------------------------------------------------------------------
  const mean = (rows) => rows[0].map((_, i) => sum(rows.map((row) => row[i])) / rows.length);
  const truthOf = ({ of, detector: place }) => place.means.find((row) => row.particle === of.particle &&
    of.energy >= row.energy[0] * 0.99 && of.energy <= row.energy[1] * 1.01 && of.theta >= row.theta[0] - FIXED && of.theta <= row.theta[1] + FIXED);
  const said = (one) => `${energy(one.total)} in ${one.lit} cells from ${energy(one.of.energy, plain)}`;
  const show = () => {
    const { detector: place, of } = latest, last = [...history.values()].slice(-Number(byId("last").value)), truth = truthOf(latest);
    const most = [1, 2, 5, 10].map((s) => s * 10 ** Math.floor(Math.log10(Math.max(...last.map((one) => one.top), 1e-6)))).find((v) => v >= Math.max(...last.map((one) => one.top)));
    const range = [Math.max(data.threshold || 0, most * 1e-3), most];
    if (scene) scene.show(place, latest.energies, range, of);
    canvas.setAttribute("aria-label", `Shower ${latest.number} of seed ${latest.seed} in three dimensions: ${said(latest)}`);
    const ticks = [];
    for (let d = Math.ceil(Math.log10(range[0])); d <= Math.log10(range[1]); d++) ticks.push([(d - Math.log10(range[0])) / Math.log10(range[1] / range[0]), energy(10 ** d, plain)]);
    fill(byId("ticks"), ticks.map(([t, text]) => { const tick = make("span", text, { className: t < 0.04 ? "first" : t > 0.94 ? "last" : "" }); tick.style.left = `${100 * t}%`; return tick; }));

    const rows = [["Deposited", `${energy(latest.total)}, ${digits(100 * latest.total / of.energy)} %`], ["Cells lit", `${latest.lit} of ${place.voxels}`], ["Time", time(latest.ms)], ["of it noise", time(latest.noise)]];
    fill(byId("facts"), pairs(rows, (name) => ["span", name, { className: "key" }], (text) => ["span", text, { className: "value" }]));
    const totals = last.map((one) => one.total), middle = sum(totals) / totals.length;
    const spread = Math.sqrt(sum(totals.map((t) => (t - middle) ** 2)) / Math.max(1, totals.length - 1));
    const means = [["Showers", String(last.length)], ["Deposited", energy(middle)], ["Spread σ/E", last.length > 1 ? `${digits(100 * spread / middle, 2)} %` : "–"], ["Time", time(sum(last.map((one) => one.ms)) / last.length)]];
    fill(byId("mean-facts"), pairs(means, (name) => ["dt", name], (text) => ["dd", text]));
    byId("code").textContent = [
      "from caloforge import Conditions, generate", "",
      `conditions = Conditions(${of.energy}, theta=${of.theta}, phi=${of.phi}, particle=${JSON.stringify(latest.particle)}, ` +
        `detector=${JSON.stringify(place.name)}${"x" in place.spans ? `, impact=[${of.x}, ${of.y}]` : ""})`,
      `generate(${JSON.stringify(data.name)}, conditions=conditions, seed=${latest.seed}, first=${latest.number})`,
    ].join("\n");

    const legend = byId("legend").children;
    legend[1].textContent = `mean of ${last.length === 1 ? "this one" : `the last ${last.length}`}`;
    legend[2].hidden = !truth;
    if (truth) {
      const slice = truth.theta[1] - truth.theta[0] > FIXED ? ` and θ ${degrees(truth.theta[0])}° to ${degrees(truth.theta[1])}°` : "";
      const which = `mean of ${truth.n} showers of ${energy(truth.energy[0])} to ${energy(truth.energy[1])}${slice}`;
      legend[2].textContent = data.source === "Geant4" ? `Geant4, ${which}` : `${which} that the model made beforehand; no Geant4 was given`;
    }
    const lines = (name) => [{ kind: "one", values: latest[name] }, { kind: "mean", values: mean(last.map((one) => [...one[name]])) }, ...(truth ? [{ kind: "truth", values: truth[name].map((v) => v * of.energy) }] : [])];
    const peak = (values) => values.indexOf(Math.max(...values));
    const edges = Array.from({ length: place.layers.length + 1 }, (_, i) => i);
    byId("along").hidden = place.single;
    if (!place.single) draw(byId("along"), { edges, limit: edges.at(-1), lines: lines("layers"), log: false, labels: place.numbers, unit: "layer" });
    const limit = place.edges.find((edge) => edge >= place.reach) ?? place.edges.at(-1);
    draw(byId("across"), { edges: place.edges, limit, lines: lines("rings"), log: true, unit: "mm" });
    byId("along").querySelector("svg").setAttribute("aria-label", `Energy in each layer: this shower is largest in layer ${place.numbers[peak([...latest.layers])]}${truth ? `, ${data.source}’s mean in layer ${place.numbers[peak(truth.layers)]}` : ""}`);
    byId("across").querySelector("svg").setAttribute("aria-label", `Energy in each ring: ${digits(100 * latest.rings[0] / latest.total)} % within ${plain(place.edges[1])} mm of the axis`);
    document.body.dataset.made = String(Number(document.body.dataset.made || 0) + 1);
  };

  byId("name").textContent = document.title = data.name;
  byId("bar").style.background = `linear-gradient(to right, ${COLOURS.join(",")})`;
  const licence = make("a", "MIT licence", { href: "onnxruntime/LICENSE" });
  byId("made").append(`${data.model}, ${data.fingerprint}, exported by caloforge ${data.caloforge}. Run by ONNX Runtime${data.runtime && ` ${data.runtime}`}, © Microsoft, `, licence, ".");
  byId("panel").addEventListener("submit", (event) => event.preventDefault());
  byId("next").addEventListener("click", () => { const number = whole("number"); if (number !== null) { byId("number").value = String(number + 1n); run(); } });
  byId("play").addEventListener("click", () => { play(!playing); if (playing) run(); });
  byId("last").addEventListener("change", () => latest && show());
  for (const id of ["seed", "number"]) byId(id).addEventListener("change", run);
  new ResizeObserver(() => latest && show()).observe(byId("across"));
  controls();
  await shower(0n, 0n, { ...known, particle: particle.code, detector: detector.number }); // the first is slower
  await run();
  return { normals, shower, data, detectors };
};
const tell = (text) => { byId("trouble").textContent = text; byId("trouble").hidden = false; };

const load = async () => {
  if (location.protocol === "file:") throw new Error("open this folder through a file server: python -m http.server --bind 127.0.0.1 --directory FOLDER");
  if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly");
  if (typeof ort === "undefined") throw new Error("onnxruntime/ort.wasm.min.js is missing beside the page");
  byId("facts").textContent = "loading the model and 14 MB of ONNX Runtime …";
  const answer = await fetch("demo.json");
  if (!answer.ok) throw new Error(`demo.json: ${answer.status} ${answer.statusText}`);
  return begin(await answer.json());
};
globalThis.demo = load().catch((error) => { byId("facts").textContent = ""; tell(`This page cannot start: ${error.message || error}`); });
