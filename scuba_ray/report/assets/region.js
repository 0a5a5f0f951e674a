// A region's own view in the panel: how many voxels and how well predicted, its nouns, people and parts, pictures of each.

const BINS = 30;

/** Rows of the voxels of a region in `set.about`; its region is null for all voxels together. */
function rowsOf(set, about) {
  about.rows ??= set.rois.flatMap((rois, row) => (about.region == null || rois.includes(about.region) ? [row] : []));
  return about.rows;
}

const colourOfRegion = (about) => DATA.regions[about.region]?.colour ?? NO_REGION;
const swatchOf = (colour) => make("span", { class: "swatch", style: `background:${colour}` });
const percentOf = (value) => (value == null ? "–" : percent(value));

/** `acts`: choose(row), region(name or null), only(number), everything(), paint(key, number), noun(word); `shownAlone` is a region's number. */
function drawRegion(element, set, about, acts) {
  const rows = rowsOf(set, about);
  const parts = set.maps.find((map) => map.key === `parts:${about.name}`);
  const alone = acts.shownAlone === about.region;
  const buttons = [
    about.region == null || !rows.length ? null : make("button", { type: "button", text: alone ? "Show all regions" : "Show only this region", on: { click: () => (alone ? acts.everything() : acts.only(about.region)) } }),
    parts?.parts.length > 1 ? make("button", { type: "button", text: "Colour by its parts", on: { click: () => acts.paint(parts.key, about.region) } }) : null,
  ].filter(Boolean);
  refill(element, [
    panelHead(about.region === null ? "All voxels" : about.name, "Close this region", () => acts.region(null)),
    make("p", { class: "where", children: [about.region == null ? null : swatchOf(colourOfRegion(about)), countText(set, rows)] }),
    buttons.length ? make("div", { class: "acts", children: buttons }) : null,
    ...distributions(set, rows),
    ...nounsOfRegion(set, about, acts),
    ...peopleOfRegion(set, about),
    ...partsOfRegion(set, about),
    ...set.targets.filter((target) => target.kind === "roi" && target.name === about.name).flatMap(regionImages),
  ]);
}

function countText(set, rows) {
  if (!rows.length) return "No voxel of this subject is in it.";
  const side = (hemi) => rows.filter((row) => set.hemi[row] === hemi).length;
  const known = rows.filter((row) => set.scores.q[row] != null);
  const found = known.filter((row) => set.scores.q[row] < 0.05).length;
  const q = known.length ? `${found ? found.toLocaleString("en") : "none"} with q < 0.05` : "no q known";
  return `${several(rows.length, "voxel", "voxels")}, ${q} · ${side("lh").toLocaleString("en")} left, ${side("rh").toLocaleString("en")} right`;
}

/** Ceiling and R² of a region's voxels over one axis, so that the two can be compared. */
function distributions(set, rows) {
  const columns = [["Noise ceiling", "noise_ceiling"], ["R²", "r2"]].map(([name, key]) => [name, rows.map((row) => set.scores[key][row]).filter((value) => value != null).sort((a, b) => a - b)]);
  const all = columns.flatMap(([, values]) => (values.length ? [values[0], values.at(-1)] : []));
  if (!all.length) return rows.length ? [make("p", { class: "quiet small", text: "No voxel of it has a score: nothing was held out to predict." })] : [];
  const [low, high] = [Math.min(0, ...all), Math.max(0.1, ...all)];
  return [make("h3", { text: "How well its voxels are predicted" }), ...columns.map(([name, values]) => histogram(name, values, low, high)),
    make("p", { class: "quiet small", text: `Number of voxels over the share of variance, from ${twoPlaces(low)} to ${twoPlaces(high)}; the line is the median. Ceiling: share that is signal. R²: share of held-out variance predicted.` })];
}

function histogram(name, values, low, high) {
  if (!values.length) return make("p", { class: "quiet small", text: `${name}: not known.` });
  const counts = new Array(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS))] += 1;
  const most = Math.max(...counts);
  const at = (share) => values[Math.round(share * (values.length - 1))];
  const middle = (100 * (at(0.5) - low)) / (high - low);
  const text = `median ${twoPlaces(at(0.5))}, middle half ${twoPlaces(at(0.25))} to ${twoPlaces(at(0.75))}`;
  const svg = line("svg", { class: "histogram", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": `${name} of ${several(values.length, "voxel", "voxels")}: ${text}` });
  counts.forEach((count, bin) => {
    const height = (29 * count) / most;
    if (count) svg.append(line("rect", { x: (100 * bin) / BINS, y: 30 - height, width: 100 / BINS - 0.4, height }));
  });
  svg.append(line("line", { x1: middle, x2: middle, y1: 0, y2: 30 }));
  return make("figure", { class: "distribution", children: [make("figcaption", { children: [make("strong", { text: name }), ` ${text}`] }), svg] });
}

const notesOf = (about, what) => about.notes.filter(([of]) => of === what).map(([, note]) => make("p", { class: "note small", text: `${note[0].toUpperCase()}${note.slice(1)}.` }));

function nounsOfRegion(set, about, acts) {
  if (!about.nouns) return [];
  const { top, counted } = about.nouns;
  const notes = notesOf(about, "nouns");
  if (!top.length) return [make("h3", { text: "Nouns of its captions" }), ...notes];
  const contrasted = top.some((one) => one.contrast != null);
  const heads = ["Noun", "Share", ...(contrasted ? ["All", "Contrast", "q"] : [])];
  const head = make("tr", { children: heads.map((text, i) => make("th", { scope: "col", text, class: i ? "number" : "" })) });
  const coloured = set.maps.some((map) => map.key === "noun");
  const lines = top.map(({ noun, share, expected, contrast, q }) => make("tr", { children: [
    make("th", { scope: "row", children: [coloured ? make("button", { type: "button", class: "link", text: noun, title: "Show on the cortex which captions name it", on: { click: () => acts.noun(noun) } }) : noun] }),
    make("td", { class: "number", text: percentOf(share) }),
    ...(contrasted ? [percentOf(expected), twoPlaces(contrast), q === 0 ? "< 1e-300" : shown(q)].map((text) => make("td", { class: "number", text })) : []),
  ] }));
  const agreeing = DATA.run.config?.nouns?.agreeing;
  const names = agreeing ? `A voxel names a noun where the captions of at least ${agreeing} partitions of the bank do.` : "A voxel names a noun where its whole-bank caption does.";
  const how = contrasted ? " All: the same share over all voxels, to which permuting voxels over regions comes. Contrast: log((1 + voxels) / (1 + voxels naming it)) × (share − mean share of the other regions). q: permutation test, over all nouns and regions; neighbours resemble each other, so it ranks rather than proves." : "";
  return [make("h3", { text: contrasted ? "Nouns that set it apart, surest first" : "Nouns of its captions" }), ...notes,
    make("table", { class: "captions nouns", children: [make("thead", { children: [head] }), make("tbody", { children: lines })] }),
    make("p", { class: "quiet small", text: `Share of ${counted ?? "its voxels"} (${about.nouns.voxels.toLocaleString("en")} here). ${names}${how}` })];
}

function peopleOfRegion(set, about) {
  const notes = notesOf(about, "people");
  if (!about.people && !notes.length) return [];
  const { person_share: share, low, high, counted } = about.people ?? {};
  const everyone = set.about[0].people?.person_share;
  const compared = about.region == null || everyone == null ? "" : `; all voxels ${percent(everyone)}`;
  const interval = low == null ? "" : ` (95 % interval over voxels ${percent(low)} to ${percent(high)})`;
  return [make("h3", { text: "People" }), ...notes,
    about.people ? make("p", { children: [make("strong", { text: percent(share) }), ` of its captions name people${interval}${compared}.`] }) : null,
    about.people ? make("p", { class: "quiet small", text: `Mean over ${counted ?? "its voxels"} of the share of a voxel's captions, one for each partition of the bank, that name a person.` }) : null];
}

function partsOfRegion(set, about) {
  if (!about.parts) return [];
  const { all, stability, counted } = about.parts;
  const notes = notesOf(about, "parts");
  const colours = partColours(all.length).map(hex);
  const stable = stability == null ? "" : ` Random halves of its voxels agree on the parts by ${shown(stability, 2)} (adjusted Rand index; 1 is the same parts, 0 chance).`;
  const how = `Spherical k-means of the voxels' weights, of ${counted ?? "its voxels"}.${stable} Nouns: what a part says more than the others, with the share of its voxels. Pictures: the bank's nearest to the part's mean direction. z: mean response its voxels are predicted to have to these pictures, and to those of the other parts.`;
  return [make("h3", { text: all.length > 1 ? `In ${all.length} parts` : "Parts" }), ...notes,
    ...all.map((part, place) => partBlock(part, place, all.length > 1 ? colours[place] : null, imagesOfPart(set, about, place))),
    all.length ? make("p", { class: "quiet small", text: how }) : null];
}

const imagesOfPart = (set, about, place) => set.targets.filter((target) => target.kind === "part" && target.name === `${about.name} part ${place + 1}`).flatMap(regionImages);

function partBlock(part, place, colour, made) {
  const title = colour ? [swatchOf(colour), `Part ${place + 1} `] : ["All of it "];
  const nouns = part.nouns.map(([noun, share]) => `${noun} ${percentOf(share)}`).join(", ");
  const responses = part.predicted_own == null ? "" : `predicted ${twoPlaces(part.predicted_own)} z${part.predicted_other == null ? "" : `, to other parts’ pictures ${twoPlaces(part.predicted_other)} z`}`;
  const pictures = part.images.map((image, at) => pictureOf(image, part.image_cos[at]));
  return make("section", { class: "part", "aria-label": colour ? `Part ${place + 1}` : "All of it", children: [
    make("h4", { children: [...title, make("span", { class: "quiet", text: `· ${several(part.voxels, "voxel", "voxels")}${responses ? ` · ${responses}` : ""}` })] }),
    make("p", { class: "small", text: nouns || "No noun more than the others." }),
    pictures.length ? make("div", { class: "nearest", children: pictures }) : null,
    ...made,
  ] });
}

/** Where nothing is chosen: every region with its surest nouns, each a way to its view. */
function regionList(set, acts) {
  const items = set.about.map((about) => make("li", { children: [
    about.region == null ? null : swatchOf(colourOfRegion(about)),
    make("button", { type: "button", class: "link", text: about.name, on: { click: () => acts.region(about.name) } }),
    make("span", { class: "quiet", text: ` ${several(rowsOf(set, about).length, "voxel", "voxels")}` }),
    about.nouns?.top.length ? make("span", { text: ` ${about.nouns.top.slice(0, 4).map(({ noun }) => noun).join(", ")}` }) : null,
  ] }));
  return [make("h3", { text: "Regions" }), make("ul", { class: "plain regions", children: items })];
}
