// What lies over the cortex as lines and letters: the ring around the chosen voxel, the names and axes of the hemispheres.

const SVG = "http://www.w3.org/2000/svg";

function line(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

function drawOverlay(stage) {
  const parts = [];
  const [width, height] = stage.size;
  stage.hemispheres.forEach(({ name }, h) => {
    const x = Math.min(width - 70, Math.max(70, stage.middle(h)[0]));
    parts.push(line("text", { x, y: height - 12, class: "hemisphere" }, { lh: "left", rh: "right" }[name] ?? name));
    if (stage.flat) return;
    const m = matrix(stage.turn, h > 0);
    for (const [letter, axis] of [["A", [0, 1, 0]], ["S", [0, 0, 1]]]) {
      const at = turned(m, ...axis);
      if (Math.hypot(at[0], at[1]) < 0.3) continue;
      const [x0, y0] = [x + (h > 0 ? 46 : -46), height - 26];
      parts.push(line("line", { x1: x0, y1: y0, x2: x0 + 11 * at[0], y2: y0 - 11 * at[1], class: "axis" }));
      parts.push(line("text", { x: x0 + 18 * at[0], y: y0 - 18 * at[1] + 3.5, class: "axis-name" }, letter));
    }
  });
  const place = stage.lifted.chosen;
  const at = place && stage.locate(place);
  if (at) {
    const ring = { cx: at.x, cy: at.y, r: 10 };
    parts.push(line("circle", { ...ring, class: "ring-back" }), line("circle", { ...ring, class: at.seen ? "ring" : "ring behind" }));
  }
  $("overlay").replaceChildren(...parts);
}
