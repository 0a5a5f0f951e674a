// The page's state (which set, which colours, which voxel, which filter) and what follows when it changes.

const state = { set: null, map: "roi", row: -1, region: null, hidden: new Set(), ...ALL_PASS };
let stage = null;
const surfaces = [];
const table = new VoxelTable({ choose: (row) => choose(row, { reveal: true }) });
const query = new QueryBox({ set: () => state.set, show: (key) => { colourBy(key); repaint(); }, choose: (row) => choose(row, { reveal: true }) });

// -------------------------------------------------------------------------------------------------- what is shown

function refilter() {
  const { set } = state;
  const rows = [];
  const passes = passing(set, state);
  drawFilters(set, state, regionsChanged);
  for (let row = 0; row < set.voxel.length; row++) if (passes(row)) rows.push(row);
  state.passing = new Uint8Array(set.voxel.length);
  for (const row of rows) state.passing[row] = 1;
  table.show(rows);
  const all = set.voxel.length.toLocaleString("en");
  $("count").textContent = rows.length === set.voxel.length ? `${all} voxels` : `${rows.length.toLocaleString("en")} of ${all} voxels`;
  $("clear").hidden = $("filtered").hidden = rows.length === set.voxel.length;
  $("filtered-said").textContent = `${rows.length.toLocaleString("en")} of ${several(set.voxel.length, "voxel passes", "voxels pass")} the filters; the others are faint.`;
  repaint();
}

/** The filter's regions have changed: where it leaves one, the panel says what that is about, unless it shows a voxel. */
function regionsChanged() {
  legend();
  refilter();
  const { set, row, region, hidden } = state;
  const only = onlyRegion(set, hidden);
  const about = only >= 0 ? set.about.find((one) => one.region === only) : null;  // -1 is voxels of no region here, absent regions there
  if (row < 0 && (about || region)) showRegion(about?.name ?? region);
}

function repaint() {
  const { set, map, passing } = state;
  if (!stage || set.geometry == null) return;
  stage.paint(stage.hemispheres.map(({ count }, h) => paint(set, h, count, map, (row) => passing[row] === 1)));
}

/** Take a map of the set for its colours, regions if it has no such map; the menu lists what it has. */
function colourBy(key) {
  const maps = [{ key: "roi", label: "Region" }, ...state.set.maps];
  state.map = maps.some((one) => one.key === key) ? key : "roi";
  const option = (one) => make("option", { value: one.key, text: one.label, selected: one.key === state.map });
  const groups = [...new Set(maps.map((one) => one.group).filter(Boolean))];
  $("map").replaceChildren(...maps.filter((one) => !one.group).map(option),
    ...groups.map((label) => make("optgroup", { label, children: maps.filter((one) => one.group === label).map(option) })));
  legend();
}

/** Highlight the voxels whose caption names a noun. */
function nameNoun(word) {
  const map = state.set.maps.find((one) => one.key === "noun");
  map.word = word.trim().toLowerCase();
  legend();
  repaint();
  const count = map.counts[map.words.indexOf(map.word)] ?? 0;
  $("live").textContent = `${several(count, "voxel's caption names", "voxels' captions name")} ${map.word}`;
}

function legend() {
  const noun = state.set.maps.find((one) => one.key === state.map && one.kind === "noun");
  $("noun-label").hidden = !noun;
  if (noun && document.activeElement !== $("noun")) $("noun").value = noun.word;
  drawLegend($("legend"), state.set, state.map, state.hidden, (roi) => {
    if (!state.hidden.delete(roi)) state.hidden.add(roi);
    regionsChanged();
  }, showRegion);
}

/** Say in the panel what a region of the set is about; null for none. */
function showRegion(name) {
  const { set } = state;
  const about = set.about.find((one) => one.name === name);
  if (!about) {
    choose(-1);
    return;
  }
  if (state.row >= 0) choose(-1);
  state.region = name;
  $("to-panel").hidden = false;
  $("to-panel").textContent = `↓ What ${name} is about`;
  drawRegion($("panel"), set, about, { ...acts, shownAlone: onlyRegion(set, state.hidden) });
  const nouns = (about.nouns?.top ?? []).slice(0, 3).map(({ noun }) => noun).join(", ");
  const said = `${name}: ${countText(set, rowsOf(set, about))}${nouns ? `; it says ${nouns}` : ""}`;
  if ($("live").textContent !== said) $("live").textContent = said;  // ticking other regions does not say it again
}

/** What the panel's controls do. */
const acts = {
  choose: (row) => choose(row, { reveal: true }),
  region: showRegion,
  only: (region) => { state.hidden = new Set(regionsOf(state.set).filter((roi) => roi !== region)); regionsChanged(); showStage(region); },
  everything: () => { state.hidden.clear(); regionsChanged(); },
  paint: (key, region) => { colourBy(key); repaint(); showStage(region); },
  noun: (word) => { colourBy("noun"); nameNoun(word); showStage(); },
};

/** Bring the cortex into sight (on a narrow screen the panel is below it), turned to where most of a region is, if one is given. */
function showStage(region) {
  const { set } = state;
  $("cortex").scrollIntoView({ block: "nearest" });
  if (region == null || !stage || set.geometry == null) return;
  const side = bestSide(set, surfaces[set.geometry], (row) => set.rois[row].includes(region));
  stage.side(side);
  markSide(side);
}

/** Make a voxel the chosen one; -1 for none. */
function choose(row, { reveal = false, scroll = true } = {}) {
  const { set } = state;
  Object.assign(state, { row, region: null });
  table.select(row, scroll);
  drawPanel($("panel"), set, row, surfaces[set.geometry], acts);
  $("live").textContent = row < 0 ? "" : `Voxel ${set.voxel[row]}, ${roiText(set, row) || "no region"}: ${captionOf(set, row) ?? "no caption"}`;
  $("to-panel").hidden = row < 0;
  $("to-panel").textContent = row < 0 ? "" : `↓ Voxel ${set.voxel[row]}: ${captionOf(set, row) ?? "no caption"}`;
  if (!stage) return;
  const place = row < 0 ? null : set.place[row];
  stage.lifted.chosen = place;
  if (place && reveal) markSide(stage.reveal(place));
  note();
  stage.draw();
}

/** Say why the chosen voxel is not seen on the surface, if it is not. */
function note() {
  const { set, row } = state;
  const place = row < 0 || set.geometry == null ? null : set.place[row];
  let text = "";
  if (set.geometry == null) text = `No surface for ${set.subject}: ${set.no_surface}. Its voxels are in the table.`;
  else if (row >= 0 && !place) text = `Voxel ${set.voxel[row]} is not on the surface; it is in the table only.`;
  else if (place && !stage.locate(place)) text = `Voxel ${set.voxel[row]} lies on a cut of the flat map; see the inflated or pial surface.`;
  $("stage-note").textContent = text;
  $("stage-note").hidden = !text;
}

function hover(place, x, y) {
  const tip = $("tip");
  const rows = !place ? null : state.set.rowsAt[place[0]].get(place[1]);
  tip.hidden = !rows;
  $("canvas").style.cursor = rows ? "pointer" : "";
  if (!rows) return false;
  const { set } = state;
  const row = rows.find((one) => state.passing[one]) ?? rows[0];
  const line = `${roiText(set, row) || "no region"} · R² ${shown(set.scores.r2[row])} · ceiling ${shown(set.scores.noise_ceiling[row])}`;
  const map = set.maps.find((one) => one.key === state.map && !["r2", "noise_ceiling"].includes(one.key));
  const more = rows.length > 1 ? ` · ${rows.length - 1} more on this vertex` : "";
  tip.replaceChildren(make("strong", { text: captionOf(set, row) ?? "no caption" }), make("span", { text: line }),
    ...(map ? [make("span", { text: valueText(set, map, row) })] : []), make("span", { class: "quiet", text: `voxel ${set.voxel[row]}${more}` }));
  const [width, height] = stage.size;
  tip.style.left = `${Math.max(4, Math.min(x + 16, width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > height ? Math.max(4, y - tip.offsetHeight - 12) : y + 18}px`;
  return true;
}

// -------------------------------------------------------------------------------------------------- controls

function buttons(element, entries, press) {
  element.replaceChildren(...entries.map(([key, label]) => make("button", { type: "button", text: label, "data-key": key, "aria-pressed": "false", on: { click: () => press(key) } })));
}

function mark(element, key) {
  for (const button of element.children) button.setAttribute("aria-pressed", button.dataset.key === key ? "true" : "false");
}

function markSide(name) {
  if (name) mark($("sides"), name);
}

/** The side from which most of these voxels face the viewer. */
function bestSide(set, hemispheres, isWanted = () => true) {
  const view = Object.keys(hemispheres[0].views)[0];
  const facing = Object.keys(SIDES).map((name) => {
    let count = 0;
    set.rowsAt.forEach((byVertex, h) => {
      const m = matrix(fromRows(SIDES[name].rows), h > 0);
      const { normals } = hemispheres[h].views[view];
      for (const [v, rows] of byVertex) if (rows.some(isWanted)) count += turned(m, normals[3 * v], normals[3 * v + 1], normals[3 * v + 2])[2] > 0.4;
    });
    return [count, name];
  });
  return facing.reduce((a, b) => (b[0] > a[0] ? b : a))[1];
}

/** Links to the parts of the page that this set has. */
function drawNavigation() {
  const parts = [["cortex", "Cortex"], ["voxels", "Voxels"], ["recovery", "Recovery"], ["synthesised", "Synthesised images"], ["figures", "Figures"], ["provenance", "Provenance"]];
  $("parts").replaceChildren(...parts.filter(([id]) => $(id)).map(([id, text]) => make("a", { href: `#${id}`, text })));
}

function openNumber(number) {
  const set = openSet(DATA.sets[number]);
  const same = state.set && state.set.geometry === set.geometry;
  Object.assign(state, { set, row: -1 });
  const silent = set.caption.filter((caption) => caption < 0).length;
  const said = silent ? `${several(silent, "voxel has", "voxels have")} no caption` : "a caption for every voxel";
  $("subtitle").textContent = `Subject ${set.subject} · backbone ${set.backbone} · ${said}`;
  drawCautions($("cautions"), set);
  drawOverview($("overview"), set);
  drawSections($("sections"), set);
  drawNavigation();
  table.load(set);
  const surface = set.geometry != null && stage;
  document.querySelector(".cortex .bar").classList.toggle("off", !surface);
  $("stage").classList.toggle("empty", !surface);
  for (const part of ["canvas", "overlay"]) $(part).classList.toggle("off", !surface);
  if (surface && !same) {
    surfaces[set.geometry] ??= unpackSurface(DATA.geometries[set.geometry]);
    stage.load(surfaces[set.geometry]);
    const labels = Object.keys(surfaces[set.geometry][0].views).map((view) => [view, view[0].toUpperCase() + view.slice(1)]);
    buttons($("shapes"), labels, (view) => { stage.shape(view); mark($("shapes"), view); $("sides").classList.toggle("off", view === "flat"); note(); });
    mark($("shapes"), stage.to);
    const side = bestSide(set, surfaces[set.geometry]);
    stage.turn = fromRows(SIDES[side].rows);
    stage.side(side);
    mark($("sides"), side);
  }
  const lost = set.place.filter((place) => !place).length;
  const shared = set.rowsAt.reduce((sum, byVertex) => sum + [...byVertex.values()].filter((rows) => rows.length > 1).length, 0);
  $("rule").textContent = [
    "A voxel in several regions has the colour of the first one listed.",
    shared ? `${several(shared, "vertex carries", "vertices carry")} several voxels: the best R² gives colour and caption, the panel lists them all.` : "",
    lost ? `${several(lost, "voxel has", "voxels have")} no vertex on this surface, and ${lost === 1 ? "is" : "are"} in the table only.` : "",
    set.geometry == null ? "" : "A anterior, S superior.",
  ].join(" ").trim();
  drawNouns(set);
  colourBy(state.map);
  refilter();
  query.moved();
  choose(-1);
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "☀ Light" : "☾ Dark";
  if (stage) { stage.theme = name; stage.draw(); }
}

function start() {
  try {
    stage = new Stage({ hover, choose: (place) => {
      const rows = place && state.set.rowsAt[place[0]].get(place[1]);
      choose(rows ? (rows.find((row) => state.passing[row]) ?? rows[0]) : -1);
    } });
  } catch (error) {
    $("stage-note").textContent = `The cortex cannot be drawn: ${error.message}. The table below works without it.`;
    $("stage-note").hidden = false;
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  theme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  const subjects = DATA.sets.map((set, i) => make("option", { value: i, text: `${set.subject}, ${set.backbone}` }));
  $("set").replaceChildren(...subjects);
  $("set-label").hidden = DATA.sets.length < 2;
  $("set").addEventListener("change", (event) => openNumber(Number(event.target.value)));
  $("map").addEventListener("change", (event) => { state.map = event.target.value; legend(); repaint(); });
  $("noun").addEventListener("input", (event) => nameNoun(event.target.value));
  buttons($("sides"), Object.entries(SIDES).map(([key, { label }]) => [key, label]), (side) => { stage.side(side); mark($("sides"), side); });
  $("zoom-in").addEventListener("click", () => stage.enlarge(1.3));
  $("zoom-out").addEventListener("click", () => stage.enlarge(1 / 1.3));
  listenToFilters(state, refilter, regionsChanged);
  $("to-panel").addEventListener("click", () => { $("panel").scrollIntoView({ block: "start" }); $("panel").querySelector("h2").focus({ preventScroll: true }); });
  $("panel").addEventListener("keydown", (event) => { if (event.key === "Escape") choose(-1); });
  $("download").addEventListener("click", () => {
    const link = make("a", { href: URL.createObjectURL(new Blob([table.csv()], { type: "text/csv" })), download: `${state.set.subject}-captions.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  openNumber(0);
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
