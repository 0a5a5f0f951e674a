// Voxels beside a voxel: on its vertex, then along the surface; in the volume where there is no surface.

const NEIGHBOURS = 8;
const REACH = 20;  // millimetres along the surface

/** Edges of a hemisphere: the vertices beside each vertex, one after the other, from `starts[v]` to `starts[v + 1]`. */
function edges(hemisphere) {
  if (hemisphere.edges) return hemisphere.edges;
  const { faces, count } = hemisphere;
  const starts = new Uint32Array(count + 1);
  for (const vertex of faces) starts[vertex + 1] += 2;
  for (let v = 0; v < count; v++) starts[v + 1] += starts[v];
  const at = starts.slice();
  const ends = new Uint32Array(2 * faces.length);
  for (let f = 0; f < faces.length; f += 3) {
    for (let corner = 0; corner < 3; corner++) {
      const vertex = faces[f + corner];
      ends[at[vertex]++] = faces[f + ((corner + 1) % 3)];
      ends[at[vertex]++] = faces[f + ((corner + 2) % 3)];
    }
  }
  hemisphere.edges = { starts, ends };
  return hemisphere.edges;
}

/** The voxels nearest along the surface, as [row, millimetres]; Dijkstra's walk over the edges, up to `REACH`. */
function alongSurface(set, row, surface) {
  const [h, vertex] = set.place[row];
  const { starts, ends } = edges(surface[h]);
  const { coords } = (surface[h].views.pial ?? Object.values(surface[h].views)[0]);
  const far = new Map([[vertex, 0]]);
  const done = new Set();
  const found = [];
  while (found.length < NEIGHBOURS) {
    let [here, reach] = [-1, REACH];
    for (const [one, distance] of far) if (distance <= reach) [here, reach] = [one, distance];
    if (here < 0) break;
    far.delete(here);
    done.add(here);
    if (here !== vertex) for (const other of set.rowsAt[h].get(here) ?? []) if (found.length < NEIGHBOURS) found.push([other, reach]);
    for (let i = starts[here]; i < starts[here + 1]; i++) {
      const next = ends[i];
      if (done.has(next)) continue;
      const step = Math.hypot(coords[3 * next] - coords[3 * here], coords[3 * next + 1] - coords[3 * here + 1], coords[3 * next + 2] - coords[3 * here + 2]);
      far.set(next, Math.min(far.get(next) ?? Infinity, reach + step));
    }
  }
  return found;
}

/** Voxels that touch a volume voxel, by face, edge or corner. */
function inVolume(set, row) {
  const here = set.ijk[row];
  return set.ijk.flatMap((place, other) => (place && other !== row && place.every((at, d) => Math.abs(at - here[d]) <= 1) ? [[other, null]] : [])).slice(0, NEIGHBOURS);
}

function neighbourLine(set, other, distance, choose) {
  const away = distance == null ? "" : ` · ${distance.toFixed(1)} mm`;
  return make("li", { children: [
    make("button", { type: "button", class: "link", text: `Voxel ${set.voxel[other]}`, on: { click: () => choose(other) } }),
    make("span", { class: "quiet", text: `${away} · R² ${shown(set.scores.r2[other])} · ` }), captionOf(set, other) ?? "no caption",
  ] });
}

/** In the panel: all voxels of the same vertex with the rule for its colour, then those around. */
function neighboursOf(set, row, surface, choose) {
  const blocks = [];
  const list = (found) => make("ul", { class: "plain", children: found.map(([other, distance]) => neighbourLine(set, other, distance, choose)) });
  if (set.place[row]) {
    const [h, vertex] = set.place[row];
    const here = set.rowsAt[h].get(vertex);
    const others = here.filter((other) => other !== row).map((other) => [other, null]);
    if (others.length) {
      const shows = here[0] === row ? "this voxel's" : `voxel ${set.voxel[here[0]]}'s`;
      blocks.push(make("h3", { text: "Also on this vertex" }), list(others),
        make("p", { class: "quiet small", text: `Of voxels on one vertex, the one with the best R² among those that pass the filters gives the colour and the caption on the cortex; of all, that is ${shows}.` }));
    }
    const around = surface ? alongSurface(set, row, surface) : [];
    if (around.length) blocks.push(make("h3", { text: "Nearest on the surface" }), list(around), make("p", { class: "quiet small", text: `Millimetres along the edges of the ${surface[h].views.pial ? "pial" : Object.keys(surface[h].views)[0]} surface, up to ${REACH}.` }));
    return blocks;
  }
  const touching = set.ijk?.[row] ? inVolume(set, row) : [];
  return touching.length ? [make("h3", { text: "Touching voxels of the volume" }), list(touching)] : [];
}
