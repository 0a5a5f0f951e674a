// The sections below the table: recovery of what the phantom planted, and where the numbers came from.

const KINDS = ["single", "double", "broad", "confound", "nuisance", "null"];

function drawOverview(element, set) {
  const items = set.overview.map(({ label, value, note }) => make("div", { children: [
    make("dt", { text: label }), make("dd", { text: shown(value) }), make("dd", { class: "quiet small", text: note }),
  ] }));
  element.replaceChildren(...items);
}

function drawSections(element, set) {
  element.replaceChildren(...recovery(set), provenance());
}

/** How often the caption names what was planted, by class of voxel and method, with 95 % intervals. */
function recovery(set) {
  const rows = (DATA.recovery?.rows ?? []).filter((one) => one.subject === set.subject);
  if (!rows.length) return [];
  const methods = [...new Set(rows.map((one) => one.method))];
  const order = (kind) => (KINDS.includes(kind) ? KINDS.indexOf(kind) : KINDS.length);
  const kinds = [...new Set(rows.map((one) => one.kind))].sort((a, b) => order(a) - order(b));
  const lines = kinds.flatMap((kind) => methods.map((method) => rows.find((one) => one.kind === kind && one.method === method)).filter(Boolean)
    .map((one, index, group) => make("tr", { class: index ? "" : "first", children: [
      index ? null : make("th", { scope: "rowgroup", rowspan: group.length, text: kind }),
      make("td", { text: one.method.replaceAll("_", " ") }),
      make("td", { class: "bar-cell", children: [bar(one, methods.indexOf(one.method) === 0)] }),
      make("td", { class: "number", text: `${(100 * one.rate).toFixed(0)} %` }),
      make("td", { class: "number quiet", text: `${(100 * one.bounds[0]).toFixed(0)}–${(100 * one.bounds[1]).toFixed(0)}` }),
      make("td", { class: "number quiet", text: one.voxels.toLocaleString("en") }),
    ] })));
  const heads = ["Voxel class", "Captions", "Share that names the planted concept", "Rate", "95 % interval", "Voxels"];
  const head = make("tr", { children: heads.map((text, i) => make("th", { scope: "col", text, class: i > 2 ? "number" : "" })) });
  const body = make("tbody", { children: lines });
  return [make("section", { class: "recovery", "aria-labelledby": "recovery-title", children: [
    make("h2", { id: "recovery-title", text: "Recovery" }),
    make("p", { class: "quiet", text: `The phantom's truth is known: how often does a voxel's caption name the concept planted in it? Voxels with a noise ceiling of at least ${DATA.recovery.ceiling}; bars with Wilson's 95 % interval.` }),
    make("div", { class: "wide", children: [make("table", { class: "rates", children: [make("thead", { children: [head] }), body] })] }),
  ] })];
}

function bar({ rate, bounds }, main) {
  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  return make("span", { class: "rate", "aria-hidden": "true", children: [
    make("span", { class: main ? "rate-fill main" : "rate-fill", style: `width:${percent(rate)}` }),
    make("span", { class: "rate-range", style: `left:${percent(bounds[0])};width:${percent(bounds[1] - bounds[0])}` }),
  ] });
}

/** run.json, group by group, as path and value. */
function provenance() {
  const groups = new Map();
  const plain = [];
  for (const [name, value] of Object.entries(DATA.run)) {
    if (value !== null && typeof value === "object") groups.set(name, flattened(value));
    else plain.push([name, value]);
  }
  const general = [["page made by", `scuba_ray ${DATA.version}`], ["rows in quarantine", DATA.quarantined], ...plain];
  const blocks = [["run", general], ...groups].map(([name, lines]) => make("details", { children: [
    make("summary", { text: name.replaceAll("_", " ") }), make("dl", { class: "facts", children: lines.flatMap(([path, value]) => [
      make("dt", { text: path }), make("dd", { text: value === null ? "none" : String(value) })]) }),
  ] }));
  return make("section", { class: "provenance", "aria-labelledby": "provenance-title", children: [
    make("h2", { id: "provenance-title", text: "Provenance" }),
    make("p", { class: "quiet", text: "What made these numbers: configuration, versions, fingerprints, times; as in the run's run.json." }), ...blocks,
  ] });
}

function flattened(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, value]];
  const entries = Object.entries(value);
  if (!entries.length) return [[path, Array.isArray(value) ? "[]" : "{}"]];
  if (Array.isArray(value) && value.every((one) => one === null || typeof one !== "object")) return [[path, value.join(", ")]];
  return entries.flatMap(([key, inner]) => flattened(inner, path ? `${path}.${key}` : key));
}
