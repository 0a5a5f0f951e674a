// Figures of the analyses, and where the numbers came from.

/** Every analysis' figure with its caption; the text for who cannot see it has the main numbers. */
function figures() {
  if (!DATA.figures?.length) return [];
  const jump = (name) => () => {
    $(`figure-${name}`).scrollIntoView({ block: "start" });
    $(`figure-${name}`).focus({ preventScroll: true });
  };
  const links = DATA.figures.map(({ name, title }) => make("li", { children: [make("button", { type: "button", class: "link", text: title, on: { click: jump(name) } })] }));
  const drawn = DATA.figures.map(({ name, png, title, caption, alt }) => make("figure", { id: `figure-${name}`, tabindex: -1, "aria-labelledby": `figure-${name}-title`, children: [
    make("h3", { id: `figure-${name}-title`, text: title }),
    make("div", { class: "wide", tabindex: 0, role: "group", "aria-label": `${title}, figure`, children: [make("img", { src: `data:image/png;base64,${png}`, alt })] }),
    make("figcaption", { text: `${caption} The table behind it is RUN/analyses/${name}.` }),
  ] }));
  return [make("section", { class: "drawn", id: "figures", "aria-labelledby": "figures-title", children: [
    make("h2", { id: "figures-title", text: "Figures" }),
    drawn.length > 1 ? make("ul", { class: "jumps", "aria-label": "Figures", children: links }) : null, ...drawn,
  ] })];
}

/** run.json: its steps as a table with their fingerprints, everything else as path and value. */
function provenance() {
  const groups = new Map();
  const plain = [];
  for (const [name, value] of Object.entries(DATA.run)) {
    if (name === "steps") continue;
    if (value !== null && typeof value === "object") groups.set(name, flattened(value));
    else plain.push([name, value]);
  }
  const general = [["page made by", `scuba_ray ${DATA.version}`], ["rows in quarantine", DATA.quarantined], ...plain];
  const names = { config: "configuration" };
  const blocks = [["run", general], ...groups].map(([name, lines]) => make("details", { children: [
    make("summary", { text: names[name] ?? name.replaceAll("_", " ") }), make("dl", { class: "facts", children: (lines.length ? lines : [["none", null]]).flatMap(([path, value]) => [
      make("dt", { text: path }), make("dd", { text: value === null ? "none" : String(value) })]) }),
  ] }));
  return make("section", { class: "provenance", id: "provenance", "aria-labelledby": "provenance-title", children: [
    make("h2", { id: "provenance-title", text: "Provenance" }),
    make("p", { class: "quiet", text: "What made these numbers: configuration, versions, fingerprints, times; as in the run's run.json." }), ...blocks, ...steps(),
  ] });
}

const STEP_COLUMNS = [["table", "Table"], ["rows_in", "Rows in"], ["rows", "Rows"], ["bad_rows", "Bad rows"], ["seconds", "Seconds"], ["fingerprint", "Made of (fingerprint)"], ["result", "Result (fingerprint)"]];

function steps() {
  const entries = Object.entries(DATA.run.steps ?? {});
  if (!entries.length) return [];
  const columns = STEP_COLUMNS.filter(([key]) => entries.some(([, step]) => step[key] != null));
  const isText = (key) => ["table", "fingerprint", "result"].includes(key);
  const head = make("tr", { children: [make("th", { scope: "col", text: "Step" }), ...columns.map(([key, text]) => make("th", { scope: "col", text, class: isText(key) ? "" : "number" }))] });
  const lines = entries.map(([name, step]) => make("tr", { class: "first", children: [make("th", { scope: "row", text: name }), ...columns.map(([key]) => {
    const hash = key === "fingerprint" || key === "result";
    return make("td", { class: hash ? "hash" : isText(key) ? "" : "number", text: step[key] == null ? "" : hash || key === "table" ? step[key] : shown(step[key]) });
  })] }));
  return [make("details", { children: [make("summary", { text: `steps (${entries.length})` }),
    make("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Steps of the run", children: [
      make("table", { class: "rates steps", children: [make("thead", { children: [head] }), make("tbody", { children: lines })] }),
    ] })] })];
}

function flattened(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, value]];
  const entries = Object.entries(value);
  if (!entries.length) return [[path, Array.isArray(value) ? "[]" : "{}"]];
  if (Array.isArray(value) && value.every((one) => one === null || typeof one !== "object")) return [[path, value.join(", ")]];
  return entries.flatMap(([key, inner]) => flattened(inner, path ? `${path}.${key}` : key));
}
