// The page's data: parsed once, arrays unpacked, and the few helpers everything else uses.

const DATA = JSON.parse(document.getElementById("data").textContent);
document.getElementById("data").remove();

const $ = (id) => document.getElementById(id);

/** Make an element. Text is always set as text, so a caption that holds HTML shows as what it is. */
function make(tag, { text, children, on, ...attributes } = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  if (text != null) element.textContent = text;
  if (children) element.append(...children.filter((child) => child != null));
  for (const [event, handler] of Object.entries(on ?? {})) element.addEventListener(event, handler);
  return element;
}

/** Replace what an element holds; the focus stays on the control in the same place. */
function replaced(element, children) {
  const controls = () => [...element.querySelectorAll("button, input")];
  const at = controls().indexOf(document.activeElement);
  element.replaceChildren(...children);
  if (at >= 0) controls()[at]?.focus();
}

/** Fill a panel anew, from its top; a focus that was in it goes to its heading instead of getting lost. */
function refill(element, children) {
  const inside = element.contains(document.activeElement);
  element.replaceChildren(...children.filter((child) => child != null));
  element.scrollTop = 0;
  if (inside) element.querySelector("h2").focus();
}

/** A number to three decimals (or fewer where it is large); a dash where there is none. */
function shown(value, digits = 3) {
  if (value == null) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 100) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  if (size > 0 && size < 0.001) return value.toExponential(0);
  return value.toFixed(size >= 10 ? 1 : digits);
}

const several = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

function bytes(base64) {
  const text = atob(base64);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
  return array;
}

/** Unpack a surface of `report/surface.py`: per hemisphere its faces, its shade and its coordinates in every view. */
function unpackSurface(packed) {
  return packed.hemispheres.map((name, h) => {
    const faces = new Uint32Array(bytes(packed.faces[h]).buffer);
    const views = {};
    for (const [view, parts] of Object.entries(packed.views)) {
      const steps = new Int16Array(bytes(parts[h].coords).buffer);
      const coords = Float32Array.from(steps, (value) => value * parts[h].step);
      views[view] = { coords, shown: parts[h].shown ? bytes(parts[h].shown) : null };
      views[view].normals = normalsOf(coords, faces, views[view].shown);
    }
    const shade = packed.shade[h] ? bytes(packed.shade[h]) : new Uint8Array(packed.vertices[h]).fill(96);
    return { name, count: packed.vertices[h], faces, shade, views };
  });
}

/** Unit normals of vertices, towards the outside. A flat view's all point at the viewer. */
function normalsOf(coords, faces, flat) {
  const normals = new Float32Array(coords.length);
  if (flat) {
    for (let v = 2; v < normals.length; v += 3) normals[v] = 1;
    return normals;
  }
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const u = [0, 1, 2].map((d) => coords[b + d] - coords[a + d]);
    const v = [0, 1, 2].map((d) => coords[c + d] - coords[a + d]);
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let d = 0; d < 3; d++) normals[corner + d] += n[d];
  }
  for (let v = 0; v < normals.length; v += 3) {
    const length = Math.hypot(normals[v], normals[v + 1], normals[v + 2]) || 1;
    for (let d = 0; d < 3; d++) normals[v + d] /= length;
  }
  return normals;
}

/**
 * A set of voxels with its surface: `rowsAt[h].get(vertex)` lists the rows of the voxels on a vertex, best R² first.
 * `place[row]` is [hemisphere, vertex], or null for a voxel that is not on the surface.
 */
function openSet(set) {
  const surface = set.geometry == null ? null : DATA.geometries[set.geometry];
  const names = surface ? surface.hemispheres : [];
  const rowsAt = names.map(() => new Map());
  const r2 = set.scores.r2;
  const place = set.voxel.map((_, row) => {
    const h = names.indexOf(set.hemi[row]);
    const vertex = set.vertex[row];
    if (h < 0 || vertex == null || vertex < 0 || vertex >= surface.vertices[h]) return null;
    const rows = rowsAt[h].get(vertex);
    if (rows) rows.push(row);
    else rowsAt[h].set(vertex, [row]);
    return [h, vertex];
  });
  for (const byVertex of rowsAt) {
    for (const rows of byVertex.values()) if (rows.length > 1) rows.sort((a, b) => (r2[b] ?? -Infinity) - (r2[a] ?? -Infinity) || a - b);
  }
  const lower = DATA.texts.map((text) => text.toLowerCase());
  const regions = DATA.regions.map((region) => region.name.toLowerCase());
  const haystack = (row) => {
    const caption = set.caption[row] >= 0 ? lower[set.caption[row]] : "";
    return `${set.voxel[row]} ${set.rois[row].map((roi) => regions[roi]).join(" ")} ${caption}`;
  };
  return { ...set, rowsAt, place, haystack };
}

const captionOf = (set, row) => (set.caption[row] >= 0 ? DATA.texts[set.caption[row]] : null);
const roiText = (set, row) => set.rois[row].map((roi) => DATA.regions[roi].name).join(", ");
