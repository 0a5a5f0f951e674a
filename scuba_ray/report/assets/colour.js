// Colours: scalar palettes that keep their order with any colour blindness, regions, and the colour of every vertex.

// Eleven evenly spaced colours of matplotlib's viridis and cividis (CC0); those between are mixed.
const PALETTES = {
  viridis: ["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"],
  cividis: ["#00224e", "#083370", "#35456c", "#4f576c", "#666970", "#7d7c78", "#948e77", "#aea371", "#c8b866", "#e5cf52", "#fee838"],
};
const NO_REGION = "#9aa3ad";

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** 256 colours of a palette, three bytes each. */
function ramp(name) {
  const stops = PALETTES[name].map(rgb);
  const table = new Uint8Array(768);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    for (let d = 0; d < 3; d++) table[3 * i + d] = Math.round(stops[low][d] + (at - low) * (stops[low + 1][d] - stops[low][d]));
  }
  return table;
}

/** Where a value lies in a map's range, 0 to 1; null where there is no value. */
function fraction(map, value) {
  if (value == null) return null;
  const [low, high, at] = map.log ? [map.low, map.high, value].map((x) => Math.log(Math.max(x, 1e-6))) : [map.low, map.high, value];
  return Math.min(1, Math.max(0, (at - low) / (high - low)));
}

/** Colour of each row: a function row -> [r, g, b], or null where the map has no value. */
function painter(set, mapKey) {
  if (mapKey === "roi") {
    const colours = DATA.regions.map((region) => rgb(region.colour));
    const none = rgb(NO_REGION);
    return (row) => (set.rois[row].length ? colours[set.rois[row][0]] : none);
  }
  const map = set.maps.find((one) => one.key === mapKey);
  if (map.kind) return FOUND_PAINTERS[map.kind](set, map);
  const table = ramp(map.palette);
  return (row) => {
    const at = fraction(map, map.values[row]);
    if (at == null) return null;
    const i = 3 * Math.round(at * 255);
    return [table[i], table[i + 1], table[i + 2]];
  };
}

/**
 * RGBA per vertex of a hemisphere. A is how much colour covers the bare cortex: all of it for a voxel that passes the filter,
 * a trace for one that does not. Where several voxels share a vertex, the best R² among those that pass gives the colour.
 */
function paint(set, h, count, mapKey, passes) {
  const colours = new Uint8Array(4 * count);
  const colourOf = painter(set, mapKey);
  for (const [vertex, rows] of set.rowsAt[h]) {
    const row = rows.find(passes) ?? rows[0];
    const colour = colourOf(row);
    colours.set(colour ?? [128, 128, 128], 4 * vertex);
    colours[4 * vertex + 3] = !passes(row) ? 36 : colour ? 255 : 70;
  }
  return colours;
}

/** The legend under the cortex: regions as switches (each with a way to its view), a scale with its unit and range, or what an analysis found. */
function drawLegend(element, set, mapKey, hidden, toggle, explain) {
  if (mapKey !== "roi") {
    const map = set.maps.find((one) => one.key === mapKey);
    if (map.kind) {
      element.replaceChildren(...FOUND_LEGENDS[map.kind](set, map).filter(Boolean));
      return;
    }
    const missing = missingKey(set, map, map.values.filter((value) => value == null).length);
    const stops = PALETTES[map.palette].join(", ");
    const beyond = map.values.some((value) => value != null && value < map.low) ? "≤ " : "";
    const beyondHigh = map.values.some((value) => value != null && value > map.high) ? "≥ " : "";
    element.replaceChildren(
      make("span", { class: "legend-name", text: `${map.label} (${map.unit})` }),
      make("span", { class: "range", children: [
        make("span", { text: beyond + shown(map.low, 2) }),
        make("span", { class: "scale", style: `background: linear-gradient(90deg, ${stops})` }),
        make("span", { text: beyondHigh + shown(map.high, 2) }),
      ] }),
      ...(missing ? [missing] : []),
    );
    return;
  }
  const counts = new Map();
  for (const rois of set.rois) for (const roi of rois.length ? rois : [-1]) counts.set(roi, (counts.get(roi) ?? 0) + 1);
  const chips = [...counts].sort(([a], [b]) => (a < 0) - (b < 0) || a - b).map(([roi, count]) => {
    const region = DATA.regions[roi] ?? { name: "no region", colour: NO_REGION };
    const swatch = make("span", { class: "swatch", style: `background:${region.colour}` });
    const children = [swatch, make("span", { text: region.name }), make("span", { class: "quiet", text: count.toLocaleString("en") })];
    const title = `Show or hide ${region.name}`;
    const chip = make("button", { type: "button", class: "chip", "aria-pressed": !hidden.has(roi) ? "true" : "false", title, children, on: { click: () => toggle(roi) } });
    if (roi < 0) return chip;
    const label = `What ${region.name} is about`;
    return make("span", { class: "chip-pair", children: [chip, make("button", { type: "button", class: "about", text: "i", title: label, "aria-label": label, on: { click: () => explain(region.name) } })] });
  });
  replaced(element, chips);
}
