// Two showers that turn, drawn on canvases of class "shower"; nothing moves for those who ask for that.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const canvases = [...document.querySelectorAll("canvas.shower")];
  let turning = !still, angle = 0.7, before = 0;

  function draw(canvas) {
    const cells = window.turningShowers[canvas.dataset.of], scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight, context = canvas.getContext("2d");
    canvas.width = width * scale;
    canvas.height = height * scale;
    context.scale(scale, scale);
    const depth = 153, unit = width / 190, sine = Math.sin(angle), cosine = Math.cos(angle);
    const onScreen = (x, y, z) => {
      const along = z - depth / 2;
      return [width / 2 + (along * 0.94 + (x * cosine - y * sine) * 0.3) * unit,
              height / 2 - ((x * sine + y * cosine) * 0.95 - along * 0.12) * unit, x * cosine - y * sine];
    };
    context.strokeStyle = "rgba(128,128,128,.45)";
    for (const z of [0, depth]) {
      context.beginPath();
      for (let k = 0; k <= 48; k++) {
        const [u, v] = onScreen(41.85 * Math.cos(k * Math.PI / 24), 41.85 * Math.sin(k * Math.PI / 24), z);
        k ? context.lineTo(u, v) : context.moveTo(u, v);
      }
      context.stroke();
    }
    const placed = cells.map(([x, y, z, kev]) => [...onScreen(x, y, z), kev]).sort((a, b) => a[2] - b[2]);
    for (const [u, v, , kev] of placed) {
      const size = Math.min(1, Math.max(0, Math.log10(kev / 300) / 2.9));
      context.fillStyle = `hsla(${48 - 48 * size}, 95%, ${58 - 14 * size}%, ${0.35 + 0.6 * size})`;
      context.beginPath();
      context.arc(u, v, (0.5 + 3.4 * size * size) * unit, 0, 7);
      context.fill();
    }
  }

  function step(now) {
    if (turning) {
      angle += Math.min(now - before, 100) * 0.0004;
      canvases.forEach(draw);
    }
    before = now;
    window.requestAnimationFrame(step);
  }

  const button = document.querySelector("button.turn");
  if (!canvases.length || !button) return;
  const say = () => { button.textContent = turning ? "Stop" : "Turn"; };
  button.addEventListener("click", () => { turning = !turning; say(); });
  window.addEventListener("resize", () => canvases.forEach(draw));
  say();
  canvases.forEach(draw);
  window.requestAnimationFrame(step);
});
