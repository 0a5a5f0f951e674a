// How the hemispheres are turned. A turn is a unit quaternion for the left hemisphere; the right one is its mirror image.
// Model: x to the right, y to the front of the head, z up. Picture: X to the right, Y up, Z towards the viewer.

// Rows are the picture's X, Y, Z in the model's coordinates.
const SIDES = {
  lateral: { label: "Lateral", rows: [[0, -1, 0], [0, 0, 1], [-1, 0, 0]] },
  medial: { label: "Medial", rows: [[0, 1, 0], [0, 0, 1], [1, 0, 0]] },
  ventral: { label: "Ventral", rows: [[1, 0, 0], [0, -1, 0], [0, 0, -1]] },
  posterior: { label: "Posterior", rows: [[1, 0, 0], [0, 0, 1], [0, -1, 0]] },
  dorsal: { label: "Dorsal", rows: [[1, 0, 0], [0, 1, 0], [0, 0, 1]] },
};
const FRONT = [1, 0, 0, 0];

function fromRows(m) {
  const [[a, b, c], [d, e, f], [g, h, i]] = m;
  const parts = [1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i];
  const largest = parts.indexOf(Math.max(...parts));
  const q = [
    [parts[0], h - f, c - g, d - b],
    [h - f, parts[1], b + d, c + g],
    [c - g, b + d, parts[2], f + h],
    [d - b, c + g, f + h, parts[3]],
  ][largest];
  return unit(q);
}

function unit(q) {
  const length = Math.hypot(...q);
  return q.map((value) => value / length);
}

function times(p, q) {
  return [
    p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
    p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
    p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
    p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0],
  ];
}

/** Turn about an axis of the picture by an angle in radians. */
const about = (axis, angle) => [Math.cos(angle / 2), ...axis.map((value) => value * Math.sin(angle / 2))];

function between(p, q, t) {
  let dot = p.reduce((sum, value, i) => sum + value * q[i], 0);
  const sign = dot < 0 ? -1 : 1;
  dot = Math.min(1, Math.abs(dot));
  const angle = Math.acos(dot);
  if (angle < 1e-4) return unit(q.map((value) => value * sign));
  const [a, b] = [Math.sin((1 - t) * angle) / Math.sin(angle), (sign * Math.sin(t * angle)) / Math.sin(angle)];
  return unit(p.map((value, i) => a * value + b * q[i]));
}

/** The nine numbers of a turn, row by row; mirrored for a hemisphere on the right. */
function matrix([w, x, y, z], mirrored) {
  const m = [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
  ];
  return mirrored ? m.map((value, i) => (i === 1 || i === 2 || i === 3 || i === 6 ? -value : value)) : m;
}

const turned = (m, x, y, z) => [m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z];
const turnedBack = (m, x, y, z) => [m[0] * x + m[3] * y + m[6] * z, m[1] * x + m[4] * y + m[7] * z, m[2] * x + m[5] * y + m[8] * z];

const ease = (t) => t * t * (3 - 2 * t);
const STILL = matchMedia("(prefers-reduced-motion: reduce)");
