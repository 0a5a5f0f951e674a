// The sections below the table: the headline numbers, and recovery of what the phantom planted.

function drawOverview(element, set) {
  const items = set.overview.map(({ label, value, note }) => make("div", { children: [
    make("dt", { text: label }), make("dd", { text: shown(value) }), make("dd", { class: "quiet small", text: note }),
  ] }));
  element.replaceChildren(...items);
}

/** What a reader should know before the numbers: the run's own warnings, and a set in which nothing is predicted. */
function drawCautions(element, set) {
  const known = set.scores.q.filter((q) => q != null);
  const none = known.length && !known.some((q) => q < 0.05) ? ["No voxel predicts held-out images better than by chance (q < 0.05): captions of these voxels are of noise until shown otherwise, and analyses count none of them."] : [];
  const left = DATA.quarantined ? [`${several(DATA.quarantined, "row", "rows")} could not be computed and stand in quarantine, with the reason (RUN/quarantine).`] : [];
  const all = [...none, ...(DATA.run.warnings ?? []), ...left];
  element.hidden = !all.length;
  element.open = none.length > 0;
  element.querySelector("summary").textContent = several(all.length, "caution", "cautions");
  element.querySelector("ul").replaceChildren(...all.map((text) => make("li", { text })));
}

function drawSections(element, set) {
  element.replaceChildren(...recovery(set), ...synthesised(set), ...figures(), provenance());
}

const points = (value) => (value < 0 ? "−" : "+") + Math.abs(100 * value).toFixed(0);
const percent = (value) => `${(100 * value).toFixed(0)} %`;

/** How often the caption names what was planted, by class of voxel and method, with 95 % intervals. */
function recovery(set) {
  const rows = (DATA.recovery?.rows ?? []).filter((one) => one.subject === set.subject && one.backbone === set.backbone);
  if (!rows.length) return [];
  const groups = [...new Set(rows.map((one) => one.voxel_class))].map((kind) => rows.filter((one) => one.voxel_class === kind));
  const lines = groups.flatMap((group) => group.map((one, index) => make("tr", { class: index ? "" : "first", children: [
    index ? null : make("th", { scope: "rowgroup", rowspan: group.length, children: [one.voxel_class, make("span", { class: "quiet small", text: besides(one) })] }),
    make("td", { text: one.method.replaceAll("-", " ") }),
    make("td", { class: "bar-cell", children: [bar(one, index === 0)] }),
    make("td", { class: "number", text: percent(one.rate) }),
    make("td", { class: "number quiet", text: `${percent(one.low)} to ${percent(one.high)}` }),
    make("td", { class: "number", text: one.gain == null ? "" : `${points(one.gain)} points (${points(one.gain_low)} to ${points(one.gain_high)})` }),
  ] })));
  const heads = ["Voxel class", "Captions", "Share that names the planted concept", "Rate", "95 % interval", "Beyond the region"];
  const head = make("tr", { children: heads.map((text, i) => make("th", { scope: "col", text, class: i > 2 ? "number" : "" })) });
  return [make("section", { class: "recovery", id: "recovery", "aria-labelledby": "recovery-title", children: [
    make("h2", { id: "recovery-title", text: "Recovery" }),
    make("p", { class: "quiet", text: `The phantom's truth is known: how often does a voxel's caption name the concept planted in it? Voxels with a noise ceiling of at least ${DATA.recovery.ceiling}, bars with bootstrap intervals. Beyond the region: the rate minus that of captions shuffled within the region, in percentage points, with its 95 % interval.` }),
    make("div", { class: "wide", children: [make("table", { class: "rates", children: [make("thead", { children: [head] }), make("tbody", { children: lines })] })] }),
  ] })];
}

/** What a class of voxels adds to its name: how many, and how often both concepts or the companion are named. */
function besides({ voxels, both, companion, driver_and_companion: together }) {
  const parts = [several(voxels, "voxel", "voxels")];
  if (both != null) parts.push(`${percent(both)} name both`);
  if (companion != null) parts.push(`${percent(companion)} name the companion, ${percent(together)} both`);
  return parts.join("; ");
}

function bar({ rate, low, high }, main) {
  const width = (value) => `${(100 * value).toFixed(1)}%`;
  return make("span", { class: "rate", "aria-hidden": "true", children: [
    make("span", { class: main ? "rate-fill main" : "rate-fill", style: `width:${width(rate)}` }),
    make("span", { class: "rate-range", style: `left:${width(low)};width:${width(high - low)}` }),
  ] });
}
