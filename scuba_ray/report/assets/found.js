// What the analyses found, on the cortex: parts of a region, the embedding map's own colours, voxels whose caption names a noun.

const NAMES_IT = "#fde725";  // viridis' ends: told apart by lightness, so by every eye
const NAMES_IT_NOT = "#414487";

/** Colours of `count` parts, from dark to light; two neighbours differ in lightness. */
function partColours(count) {
  const table = ramp("viridis");
  return Array.from({ length: count }, (_, part) => {
    const i = 3 * Math.round(255 * (count < 2 ? 0.5 : 0.08 + (0.9 * part) / (count - 1)));
    return [table[i], table[i + 1], table[i + 2]];
  });
}

/** The part of each of the set's voxels that are in a part of the region, by row. */
function partsOf(map) {
  map.partAt ??= new Map(map.rows.map((row, index) => [row, map.part[index]]));
  return map.partAt;
}

function embeddingBytes(map) {
  map.unpacked ??= bytes(map.colours);
  return map.unpacked;
}

/** Numbers of the captions that name a noun; none for a word that no caption names. */
function textsNaming(set, word) {
  const map = set.maps.find((one) => one.key === "noun");
  const place = map ? map.words.indexOf(word) : -1;
  return new Set(place < 0 ? [] : map.texts[place]);
}

/** A map's colour of each row, as `painter` in colour.js. */
const FOUND_PAINTERS = {
  parts: (set, map) => {
    const colours = partColours(map.parts.length);
    return (row) => colours[partsOf(map).get(row)] ?? null;
  },
  rgb: (set, map) => {
    const all = embeddingBytes(map);
    return (row) => (all[4 * row + 3] ? [all[4 * row], all[4 * row + 1], all[4 * row + 2]] : null);
  },
  noun: (set, map) => {
    const texts = textsNaming(set, map.word);
    const [yes, no] = [rgb(NAMES_IT), rgb(NAMES_IT_NOT)];
    return (row) => (set.caption[row] < 0 ? null : texts.has(set.caption[row]) ? yes : no);
  },
};

/** What a map says of a voxel, in words. */
function valueText(set, map, row) {
  if (map.kind === "parts") {
    const part = partsOf(map).get(row);
    return part == null ? `in no part of ${map.roi}` : `part ${part + 1} of ${map.parts.length} of ${map.roi}`;
  }
  if (map.kind === "rgb") {
    const at = embeddingBytes(map).subarray(4 * row, 4 * row + 4);
    return at[3] ? `embedding map: red ${percent(at[0] / 255)}, green ${percent(at[1] / 255)}, blue ${percent(at[2] / 255)}` : "embedding map: no value";
  }
  if (map.kind === "noun") return `${textsNaming(set, map.word).has(set.caption[row]) ? "names" : "does not name"} “${map.word}”`;
  return `${map.label} ${map.values[row] == null ? "not known" : shown(map.values[row])}`;
}

const ANALYSED = ["person", "half_agreement", "caption_agreement"];

/** In a voxel's panel: what the analyses found for it. */
function foundOf(set, row) {
  const said = set.maps.filter((map) => ANALYSED.includes(map.key) || map.kind === "rgb" || (map.kind === "parts" && partsOf(map).has(row)));
  if (!said.length) return [];
  const items = said.map((map) => {
    const text = valueText(set, map, row);
    const nouns = map.kind === "parts" ? map.parts[partsOf(map).get(row)].nouns.join(", ") : "";
    const colour = map.kind && painter(set, map.key)(row);
    const swatch = colour ? make("span", { class: "swatch", style: `background:${hex(colour)}` }) : null;
    const all = [swatch, text[0].toUpperCase() + text.slice(1), nouns ? make("span", { class: "quiet", text: `: ${nouns}` }) : null];
    return make("li", { title: map.unit, children: all });
  });
  return [make("h3", { text: "Found by analyses" }), make("ul", { class: "plain", children: items })];
}

const hex = (colour) => `#${colour.map((part) => part.toString(16).padStart(2, "0")).join("")}`;

function key(colour, text, more) {
  const swatch = make("span", { class: "swatch", style: `background:${colour}` });
  return make("span", { class: "key", children: [swatch, make("span", { text }), more ? make("span", { class: "quiet", text: more }) : null] });
}

/** How many voxels of the set a map has no value for, and why. */
function missingKey(set, map, missing) {
  if (!missing) return null;
  const why = map.counted ? `; ${map.counted} have one` : "";
  return make("span", { class: "key", children: [
    make("span", { class: "swatch missing" }), make("span", { class: "quiet", text: `${missing.toLocaleString("en")} without a value${why}` }),
  ] });
}

/** A map's legend, as a list of elements. */
const FOUND_LEGENDS = {
  parts: (set, map) => {
    const colours = partColours(map.parts.length).map(hex);
    const several = map.parts.length > 1;
    const stable = map.stability == null ? "" : `; random halves of its voxels agree by ${shown(map.stability, 2)} (adjusted Rand index)`;
    const name = several ? `${map.roi} in ${map.parts.length} parts by what voxels answer to, each with the nouns it says more than the others${stable}` : `${map.roi}: ${map.note ?? "one part"}`;
    const lines = map.parts.map(({ voxels, nouns }, part) => key(colours[part], `part ${part + 1}: ${nouns.join(", ") || "no noun more than the others"}`, voxels.toLocaleString("en")));
    const outside = set.voxel.length - map.rows.length;
    return [make("span", { class: "legend-name", text: name }), make("span", { class: "keys", children: lines }),
      outside ? make("span", { class: "key", children: [make("span", { class: "swatch missing" }), make("span", { class: "quiet", text: `${outside.toLocaleString("en")} of other regions, or left out${map.counted ? ` (${map.counted} are in)` : ""}` })] }) : null];
  },
  rgb: (set, map) => {
    const all = embeddingBytes(map);
    let missing = 0;
    for (let row = 0; row < set.voxel.length; row++) missing += !all[4 * row + 3];
    const share = map.explained == null ? "" : `, ${percent(map.explained)} of its variance`;
    const how = `Three ${map.method === "pca" ? "principal components" : "UMAP components"} of projected embeddings as red, green and blue (1st to 99th percentile, no unit; fitted on ${map.fitted_on}${share}). Alike colours: alike captions. Words are nouns that voxels at an end name more than others.`;
    const bars = ["#ff0000", "#00ff00", "#0000ff"].map((colour, place) => make("span", { class: "range", children: [
      make("span", { text: `${place + 1}: ${map.ends[place][0].join(", ") || "–"}` }),
      make("span", { class: "scale short", style: `background: linear-gradient(90deg, #000000, ${colour})`, role: "img", "aria-label": `component ${place + 1}, from no ${["red", "green", "blue"][place]} to full` }),
      make("span", { text: map.ends[place][1].join(", ") || "–" }),
    ] }));
    const eyes = "Red and green look alike to some eyes: a voxel's panel gives its three numbers.";
    return [make("span", { class: "legend-text", text: how }), ...bars, make("span", { class: "quiet legend-text", text: eyes }), missingKey(set, map, missing)];
  },
  noun: (set, map) => {
    const place = map.words.indexOf(map.word);
    const silent = set.caption.filter((caption) => caption < 0).length;
    if (place < 0) {
      const near = map.words.filter((word) => map.word && word.startsWith(map.word.slice(0, 3))).slice(0, 4);
      const instead = near.length ? ` Nouns that begin alike: ${near.join(", ")}.` : "";
      return [make("span", { text: map.word ? `No caption names “${map.word}”; nouns are in the singular.${instead}` : "Give a noun." })];
    }
    const count = map.counts[place];
    return [key(NAMES_IT, `names “${map.word}”`, `${count.toLocaleString("en")} of ${several(set.voxel.length, "voxel", "voxels")}`),
      key(NAMES_IT_NOT, "does not", (set.voxel.length - silent - count).toLocaleString("en")), missingKey(set, { counted: null }, silent)];
  },
};

/** The menu of nouns, the most frequent first. */
function drawNouns(set) {
  const map = set.maps.find((one) => one.key === "noun");
  const few = (map?.words ?? []).slice(0, 1000);
  $("nouns").replaceChildren(...few.map((word, place) => make("option", { value: word, label: several(map.counts[place], "voxel", "voxels") })));
  if (map) map.word ??= map.words[0];
}
