// ---- the picture in three dimensions ----------------------------------------------------------
const COLOURS = ["#4903a0", "#7501a8", "#9e199d", "#bf3984", "#d9586a", "#ed7a52", "#fb9f3a", "#fdca26", "#f0f921"];
const VERTEX = `#version 300 es
  in vec3 corner; in vec3 low, high; in float heat; uniform mat4 view; uniform vec3 place; uniform bool polar;
  out vec3 at; out float hot;
  void main() {
    vec3 q = mix(low, high, corner);
    vec2 xy = polar ? q.z * vec2(cos(q.y), sin(q.y)) : q.zy;
    at = vec3((q.x - place.x) * place.y, xy.y * place.z, -xy.x * place.z);
    hot = heat;
    gl_Position = view * vec4(at, 1);
  }`;
const FRAGMENT = `#version 300 es
  precision highp float;
  in vec3 at; in float hot; uniform vec3 colours[9]; uniform vec3 eye; out vec4 colour;
  void main() {
    if (hot < 0.0) { colour = vec4(0.42, 0.47, 0.55, 1); return; }
    vec3 normal = normalize(cross(dFdx(at), dFdy(at)));
    float light = 0.6 + 0.4 * max(0.0, dot(dot(normal, eye - at) < 0.0 ? -normal : normal, normalize(vec3(-0.4, 0.8, 0.5))));
    float t = clamp(hot, 0.0, 0.9999) * 8.0;
    colour = vec4(light * mix(colours[int(t)], colours[int(t) + 1], fract(t)), 1);
  }`;
const HOME = { yaw: -0.5, pitch: 0.35, zoom: 1 };
const startScene = (canvas) => {
  const gl = canvas.getContext("webgl2", { antialias: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  const uniform = (name) => gl.getUniformLocation(program, name);
  const attribute = (name) => gl.getAttribLocation(program, name);
  const rgb = COLOURS.flatMap((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16) / 255));
  gl.uniform3fv(uniform("colours"), rgb);
  gl.enable(gl.DEPTH_TEST);
  gl.clearColor(0.063, 0.078, 0.106, 1);
  const corners = gl.createBuffer(), cells = gl.createBuffer(), lines = gl.createBuffer();
  const camera = { ...HOME };
  let detector = null, nCorners = 0, nCells = 0, nLines = 0, half = [1, 1], waiting = false;

  const box = (steps) => { // triangles of a box that is cut into slices along its second axis
    const out = [];
    const quad = (...q) => [0, 1, 2, 0, 2, 3].forEach((i) => out.push(...q[i]));
    const side = [[0, 0], [1, 0], [1, 1], [0, 1]];
    for (let s = 0; s < steps; s++) {
      const [u, v] = [s / steps, (s + 1) / steps];
      side.forEach(([z, b], i) => { const [y, c] = side[(i + 1) % 4]; quad([z, u, b], [y, u, c], [y, v, c], [z, v, b]); });
    }
    for (const end of [0, 1]) quad(...side.map(([z, b]) => [z, end, b]));
    return out;
  };
  const outline = ({ polar, reach, depth: [front, back], layers, frame }, direction) => { // pairs of (z, a, b)
    const out = [], line = (p, q) => out.push(...p, ...q);
    if (polar) {
      for (let i = 0; i < 64; i++) for (const z of [front, back]) line([z, i * Math.PI / 32, reach], [z, (i + 1) * Math.PI / 32, reach]);
      for (let i = 0; i < 4; i++) line([front, i * Math.PI / 2, reach], [back, i * Math.PI / 2, reach]);
    } else {
      const ends = (name) => [Math.max(-reach, Math.min(...layers.map((la) => la[name][0]))), Math.min(reach, Math.max(...layers.map((la) => la[name].at(-1))))];
      const [a, b] = [ends("a"), ends("b")];
      for (const i of [0, 1]) for (const j of [0, 1]) { line([front, a[i], b[j]], [back, a[i], b[j]]); line([[front, back][i], a[0], b[j]], [[front, back][i], a[1], b[j]]); line([[front, back][i], a[j], b[0]], [[front, back][i], a[j], b[1]]); }
    }
    const away = (back - front) * 0.3, { theta, phi, x = 0, y = 0 } = direction;
    const slope = frame === "detector" && theta < 1.5 ? away * Math.tan(theta) : 0;
    const [sx, sy] = [x - slope * Math.cos(phi), y - slope * Math.sin(phi)];
    const at = (px, py) => (polar ? [Math.atan2(py, px), Math.hypot(px, py)] : [py, px]);
    line([front - away, ...at(sx, sy)], [front, ...at(x, y)]);
    return out;
  };
  const soon = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
  const draw = () => {
    if (!detector) return;
    const [w, h] = [canvas.clientWidth, canvas.clientHeight].map((v) => Math.max(1, Math.round(v * (devicePixelRatio || 1))));
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    gl.viewport(0, 0, w, h);
    const [cy, sy, cp, sp] = [Math.cos(camera.yaw), Math.sin(camera.yaw), Math.cos(camera.pitch), Math.sin(camera.pitch)];
    const size = Math.hypot(half[0], Math.SQRT2), focus = 3.2, aspect = w / h; // all of it fits, however it is turned
    const wide = Math.hypot(half[0], 1), tall = cp + Math.abs(sp) * wide;
    const distance = (focus * Math.max(wide / aspect, tall)) / camera.zoom + 0.7 * size;
    const right = [cy, 0, -sy], up = [-sp * sy, cp, -sp * cy], back = [cp * sy, sp, cp * cy];
    const near = distance / 50, far = distance + 3 * size, depth = [(far + near) / (near - far), 2 * far * near / (near - far)];
    const rows = [right.map((v) => focus * v / aspect), up.map((v) => focus * v), back.map((v) => depth[0] * v), back.map((v) => -v)];
    const last = [0, 0, -depth[0] * distance + depth[1], distance];
    gl.uniformMatrix4fv(uniform("view"), false, [0, 1, 2].flatMap((i) => rows.map((row) => row[i])).concat(last));
    gl.uniform3fv(uniform("eye"), back.map((v) => v * distance));
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const point = (name, buffer, n, stride, offset, each) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(attribute(name));
      gl.vertexAttribPointer(attribute(name), n, gl.FLOAT, false, 4 * stride, 4 * offset);
      gl.vertexAttribDivisor(attribute(name), each);
    };
    point("corner", corners, 3, 3, 0, 0);
    point("low", cells, 3, 7, 0, 1);
    point("high", cells, 3, 7, 3, 1);
    point("heat", cells, 1, 7, 6, 1);
    gl.uniform1i(uniform("polar"), detector.polar ? 1 : 0);
    if (nCells) gl.drawArraysInstanced(gl.TRIANGLES, 0, nCorners, nCells);
    for (const name of ["high", "heat"]) gl.disableVertexAttribArray(attribute(name));
    gl.disableVertexAttribArray(attribute("corner"));
    gl.vertexAttrib3f(attribute("corner"), 0, 0, 0);
    gl.vertexAttrib1f(attribute("heat"), -1);
    point("low", lines, 3, 3, 0, 0);
    gl.drawArrays(gl.LINES, 0, nLines);
    canvas.dataset.drawn = String(nCells);
  };
  const show = (now, energies, [least, most], direction) => {
    detector = now;
    const span = Math.log(most / least) || 1, list = [];
    let widest = 0;
    for (let k = 0; k < now.voxels; k++) {
      if (!(energies[k] > 0)) continue;
      const heat = clamp(Math.log(energies[k] / least) / span, 0, 1), shrink = 0.5 * (0.72 - 0.64 * heat);
      const [z0, z1, a0, a1, b0, b1] = now.bounds.subarray(6 * k, 6 * k + 6);
      const ring = now.polar && a1 - a0 > 6.2, dz = (z1 - z0) * shrink, da = ring ? 0 : (a1 - a0) * (now.single ? 0.03 : shrink), db = (b1 - b0) * (now.single ? 0.03 : shrink);
      const z = now.single ? [0, Math.max(heat, 0.02)] : [z0 + dz, z1 - dz];
      list.push(z[0], a0 + da, b0 + db, z[1], a1 - da, b1 - db, heat);
      widest = Math.max(widest, a1 - a0);
    }
    const depth = now.single ? [0, 1] : now.depth, long = depth[1] - depth[0];
    half = [now.single ? 0.5 : clamp(now.known ? long / (2 * now.reach) : 1.4, 0.5, 2), 1];
    gl.uniform3f(uniform("place"), (depth[0] + depth[1]) / 2, 2 * half[0] / long, half[1] / now.reach);
    const steps = now.polar ? box(Math.max(1, Math.ceil(widest / 0.45))) : box(1), drawn = outline({ ...now, depth }, direction);
    for (const [buffer, values] of [[corners, steps], [cells, list], [lines, drawn]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.DYNAMIC_DRAW);
    }
    [nCorners, nCells, nLines] = [steps.length / 3, list.length / 7, drawn.length / 3];
    soon();
  };
  new ResizeObserver(soon).observe(canvas);
  return { camera, show, soon };
};
const steer = (canvas, scene, button) => {
  const { camera } = scene, held = new Map();
  const turn = (yaw, pitch) => { camera.yaw += yaw; camera.pitch = clamp(camera.pitch + pitch, -1.5, 1.5); scene.soon(); };
  const zoom = (by) => { camera.zoom = clamp(camera.zoom * by, 0.4, 8); scene.soon(); };
  const turning = (on) => { button.setAttribute("aria-pressed", String(on)); if (on) requestAnimationFrame(step); };
  let before = 0;
  const step = (now) => {
    if (button.getAttribute("aria-pressed") !== "true") return;
    turn(Math.min(now - before, 50) * 2e-4, 0);
    before = now;
    requestAnimationFrame(step);
  };
  canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, e); turning(false); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (e) => held.delete(e.pointerId));
  canvas.addEventListener("pointermove", (e) => {
    const was = held.get(e.pointerId), other = [...held.values()].find((h) => h.pointerId !== e.pointerId);
    if (!was) return;
    if (other) zoom(Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY) / Math.max(1, Math.hypot(was.clientX - other.clientX, was.clientY - other.clientY)));
    else turn((was.clientX - e.clientX) * 0.01, (e.clientY - was.clientY) * 0.01);
    held.set(e.pointerId, e);
  });
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-0.002 * e.deltaY)); }, { passive: false });
  const keys = { ArrowLeft: () => turn(0.1, 0), ArrowRight: () => turn(-0.1, 0), ArrowUp: () => turn(0, 0.1), ArrowDown: () => turn(0, -0.1), "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15), Home: () => { Object.assign(camera, HOME); scene.soon(); } };
  canvas.addEventListener("keydown", (e) => { if (keys[e.key]) { e.preventDefault(); turning(false); keys[e.key](); } });
  button.addEventListener("click", () => turning(button.getAttribute("aria-pressed") !== "true"));
  turning(!matchMedia("(prefers-reduced-motion: reduce)").matches);
};
