const byId = (id) => document.getElementById(id);
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const sum = (values) => values.reduce((s, v) => s + v, 0);
const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text }, more);

// ---- text -------------------------------------------------------------------------------------
const digits = (v, n = 3) => {
  const size = Math.abs(v);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return v.toExponential(n - 1);
  return size >= 10 ** (n - 1) ? String(Math.round(v)) : v.toPrecision(n);
};
const plain = (v, n = 3) => String(Number(v.toPrecision(n)));
const energy = (mev, say = digits) =>
  (mev >= 1e6 ? `${say(mev / 1e6)} TeV` : mev >= 1000 ? `${say(mev / 1000)} GeV` : mev >= 1 || mev === 0 ? `${say(mev)} MeV` : `${say(mev * 1000)} keV`);
const time = (ms) => (ms >= 1000 ? `${digits(ms / 1000)} s` : ms < 0.1 ? "< 0.1 ms" : `${digits(ms, ms < 10 ? 2 : 3)} ms`);
const particleName = (name) => ({ "e-": "e⁻", "e+": "e⁺", gamma: "γ", "pi+": "π⁺", "pi-": "π⁻", "pi0": "π⁰" })[name] || name;

// ---- noise ------------------------------------------------------------------------------------
// Philox4x32-10 with key = seed and counter = (block, stream, number), as caloforge's runtime/streams.py
const high = (a, b) => { // upper word of the product of two words
  const t = (a >>> 16) * (b & 0xffff) + (((a & 0xffff) * (b & 0xffff)) >>> 16);
  return (a >>> 16) * (b >>> 16) + (t >>> 16) + (((a & 0xffff) * (b >>> 16) + (t & 0xffff)) >>> 16);
};
const low32 = (big) => Number(big & 0xffffffffn), high32 = (big) => Number((big >> 32n) & 0xffffffffn);
const words = (seed, number, stream, n) => {
  const out = new Uint32Array(4 * Math.ceil(n / 4));
  for (let block = 0; 4 * block < n; block++) {
    let [c0, c1, c2, c3] = [block, stream, low32(number), high32(number)];
    let [k0, k1] = [low32(seed), high32(seed)];
    for (let round = 0; round < 10; round++) {
      const [p0, p1] = [high(0xd2511f53, c0), high(0xcd9e8d57, c2)];
      [c0, c1, c2, c3] = [p1 ^ c1 ^ k0, Math.imul(0xcd9e8d57, c2), p0 ^ c3 ^ k1, Math.imul(0xd2511f53, c0)];
      k0 = (k0 + 0x9e3779b9) | 0;
      k1 = (k1 + 0xbb67ae85) | 0;
    }
    out.set([c0, c1, c2, c3], 4 * block);
  }
  return out;
};
const f = Math.fround;
const normals = (seed, number, stream, n) => { // Box and Muller, in single precision
  const drawn = words(seed, number, stream, n + (n % 2)), out = new Float32Array(n + 1);
  const uniform = (word) => f(f((word >>> 8) + 0.5) * 2 ** -24);
  for (let i = 0; i < n; i += 2) {
    const radius = f(Math.sqrt(f(-2 * f(Math.log(uniform(drawn[i]))))));
    const angle = f(f(2 * Math.PI) * uniform(drawn[i + 1]));
    out[i] = radius * f(Math.cos(angle));
    out[i + 1] = radius * f(Math.sin(angle));
  }
  return out.subarray(0, n);
};

// ---- cells ------------------------------------------------------------------------------------
const unpack = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const prepare = (detector) => {
  const known = detector.layers.every((layer) => layer.z);
  const sizes = detector.layers.map(({ a, b }) => (a.length - 1) * (b.length - 1));
  const voxels = sum(sizes), bounds = new Float32Array(6 * voxels), layerOf = new Uint16Array(voxels);
  let k = 0;
  detector.layers.forEach(({ a, b, z }, i) => {
    for (let p = 0; p + 1 < a.length; p++) {
      for (let q = 0; q + 1 < b.length; q++, k++) {
        bounds.set([...(known ? z : [i, i + 1]), a[p], a[p + 1], b[q], b[q + 1]], 6 * k);
        layerOf[k] = i;
      }
    }
  });
  const depth = known ? [detector.layers[0].z[0], detector.layers.at(-1).z[1]] : [0, sizes.length];
  return Object.assign(detector, { known, voxels, bounds, layerOf, depth, ringOf: unpack(detector.rings), single: sizes.length === 1 });
};
const profiles = (detector, energies) => {
  const layers = new Float64Array(detector.layers.length), rings = new Float64Array(detector.edges.length - 1);
  let lit = 0, total = 0, top = 0;
  for (let k = 0; k < detector.voxels; k++) {
    const e = energies[k];
    if (!(e > 0)) continue;
    lit++;
    total += e;
    top = Math.max(top, e);
    layers[detector.layerOf[k]] += e;
    rings[detector.ringOf[k]] += e;
  }
  return { layers, rings, lit, total, top };
};
