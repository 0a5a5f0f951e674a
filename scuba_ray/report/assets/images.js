// Images that were made: of a voxel, its regions and their parts in the panel, of every region, part and query in a section of
// their own.

const FEW = 4;  // smaller pictures of a region's images in a voxel's panel, by method

/** The picture of an image, or a box that says why there is none. What it was made from is its text. */
function drawn(image, alt, side) {
  const data = image.picture == null ? null : DATA.synthesis.pictures[image.picture];
  if (data == null) return make("span", { class: "made-none", style: `width:${side}px;height:${side}px`, text: image.absent || "left out" });
  return make("img", { class: "made", src: `data:image/webp;base64,${data}`, width: side, height: side, alt });
}

const madeFrom = (image) => image.noun ?? image.stimulus_id ?? (image.prompt || "no prompt");
const methodText = (method) => (method.natural ? `${method.method} (stimuli)` : method.method);
const howMany = ({ count, images, natural }) => {
  const all = natural ? several(count, "stimulus", "stimuli") : several(count, "image", "images");
  return count > images.length ? `best ${images.length} of ${all}` : all;
};

const twoPlaces = (value) => (value == null ? "–" : value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−"));

/** Predicted response by the captioned backbone's model and, where there is one, by the independent judge's. */
function responseText(target, [own, independent]) {
  const values = target.judged ? [own, independent] : [own];
  return `${values.map(twoPlaces).join(" / ")} z`;
}

function madeFigure(target, method, place, side, lines) {
  const image = method.images[place];
  const alt = `${target.name}, ${method.method}, ${place + 1} of ${method.count}: ${image.prompt || madeFrom(image)}`;
  const label = lines(image).filter(Boolean).map((text) => make("span", { text, title: text }));
  return make("figure", { children: [drawn(image, alt, side), make("figcaption", { children: label })] });
}

const seenText = (target, image) => (image.seen == null ? null : `${image.seen}${image.seen === target.category ? " ✓" : ""}`);
const percentileText = (image) => (image.percentile == null ? null : `percentile ${shown(image.percentile, 1)}`);

/** The part of a region that a target is, as its map knows it; null for other targets and where the map is not there. */
function partOfTarget(set, target) {
  const map = target.kind === "part" && set.maps.find((one) => one.key === `parts:${target.roi}`);
  const number = map ? map.parts.findIndex((_, index) => target.name === `${target.roi} part ${index + 1}`) : -1;
  return number < 0 ? null : { number, nouns: map.parts[number].nouns, has: (row) => partsOf(map).get(row) === number };
}

/** In a voxel's panel: the images made for it, then, smaller, those of its regions and of the parts of them that it is in. */
function imagesOf(set, row) {
  const names = set.rois[row].map((roi) => DATA.regions[roi].name);
  const own = set.targets.filter((target) => target.voxel === set.voxel[row]);
  const regions = set.targets.filter((target) => names.includes(target.roi) && (target.kind === "roi" || partOfTarget(set, target)?.has(row)));
  return [...own.flatMap(ownImages), ...regions.flatMap(regionImages)];
}

function ownImages(target) {
  const judge = target.judged ? ", and by the independent judge's" : "";
  const blocks = target.methods.map((method) => {
    const prompts = new Set(method.images.map((image) => image.prompt));
    const said = prompts.size === 1 && !method.natural ? [...prompts][0] : null;
    const lines = (image) => [responseText(target, [image.predicted, image.predicted_independent]), percentileText(image), seenText(target, image), said ? null : madeFrom(image)];
    return make("div", { class: "by-method", children: [
      make("h4", { children: [methodText(method), make("span", { class: "quiet", text: ` · ${howMany(method)}` })] }),
      said ? make("p", { class: "small prompt", text: `“${said}”` }) : null,
      make("div", { class: "made-grid", children: method.images.map((_, place) => madeFigure(target, method, place, 100, lines)) }),
    ] });
  });
  return [
    make("h3", { text: "Images made for this voxel" }),
    make("p", { class: "quiet small", text: `Its predicted response in standard deviations (z), by its own encoding model${judge}; percentile among the subject's stimuli.${target.natural[0] == null ? "" : ` All stimuli together: ${responseText(target, target.natural)}.`}` }),
    ...blocks,
  ];
}

function regionImages(target) {
  const lines = (image) => [responseText({ judged: false }, [image.predicted])];
  const blocks = target.methods.map((method) => make("div", { class: "by-method few", children: [
    make("h4", { children: [methodText(method)] }),
    make("div", { class: "made-grid", children: method.images.slice(0, FEW).map((_, place) => madeFigure(target, method, place, 64, lines)) }),
  ] }));
  return [make("h3", { text: `Images made for ${target.name}` }), ...blocks];
}

/** The section: a contact sheet for every region, part and query, and which voxels have images of their own. */
function synthesised(set) {
  const sheets = set.targets.filter((target) => target.kind !== "voxel");
  const voxels = set.targets.filter((target) => target.kind === "voxel");
  if (!set.targets.length) return [];
  const judge = set.targets.some((target) => target.judged) ? " by the captioned backbone's encoding model / by the independent judge's" : " by the captioned backbone's encoding model";
  return [make("section", { class: "synthesised", id: "synthesised", "aria-labelledby": "synthesised-title", children: [
    make("h2", { id: "synthesised-title", text: "Synthesised images" }),
    make("p", { class: "quiet", text: `Images that should drive the voxels of a region, of a part of one or of a query, and the stimuli that did: the best of each method from left to right. Below each: what it was made from (of a stimulus, its id), the mean predicted response of the voxels in standard deviations (z),${judge}, and the category it is seen in (by the independent judge, where there is one); ✓ where that is the region's own.` }),
    ...synthesisTable(set),
    ...sheets.map((target, place) => contactSheet(set, target, place === 0)),
    voxels.length ? voxelLinks(set, voxels) : null,
    DATA.synthesis.left_out ? make("p", { class: "quiet small", text: `${several(DATA.synthesis.left_out, "picture is", "pictures are")} left out, to keep the page small.` }) : null,
    DATA.synthesis.stimuli ? null : make("p", { class: "quiet small", text: "Pictures of stimuli are left out (setting report.stimuli)." }),
  ] })];
}

function contactSheet(set, target, open) {
  const made = target.methods.filter((method) => !method.natural).reduce((sum, method) => sum + method.count, 0);
  const lines = (image) => [madeFrom(image), responseText(target, [image.predicted, image.predicted_independent]), seenText(target, image)];
  const rows = target.methods.map((method) => {
    const label = [make("h4", { text: methodText(method) }), make("p", { class: "quiet small", text: howMany(method) })];
    if (method.in_category != null) label.push(make("p", { class: "quiet small", text: `${method.in_category} of ${method.count} ✓` }));
    const pictures = method.images.map((_, place) => madeFigure(target, method, place, 112, lines));
    return make("div", { class: "sheet-row", children: [
      make("div", { class: "sheet-label", children: label }),
      make("div", { class: "strip", tabindex: 0, role: "group", "aria-label": `${target.name}, ${method.method}`, children: pictures }),
    ] });
  });
  const nouns = partOfTarget(set, target)?.nouns ?? [];
  const title = [make("span", { class: "sheet-name", text: target.name }), make("span", { class: "quiet", text: ` · ${several(target.voxels, "voxel", "voxels")} · ${several(made, "image", "images")}${nouns.length ? ` · ${nouns.join(", ")}` : ""}` })];
  const file = make("a", { href: `sheets/${encodeURIComponent(target.sheet)}`, text: `sheets/${target.sheet}` });
  return make("details", { class: "sheet", open, children: [
    make("summary", { children: title }),
    target.natural[0] == null ? null : make("p", { class: "quiet small", text: `All stimuli of the subject together: ${responseText(target, target.natural)}.` }),
    ...rows,
    make("p", { class: "quiet small", children: ["As one picture, beside this page: ", file] }),
  ] });
}

/** What the analysis `synthesis` found: shares in the region's category, predicted responses, seconds per image. */
function synthesisTable(set) {
  if (!set.synthesis.length) return [];
  const table = (rows) => {
    const heads = ["Target", "Method", "In the target's category", "Share", "95 % interval", "Predicted, z", "All stimuli, z", "Seconds"];
    const head = make("tr", { children: heads.map((text, i) => make("th", { scope: "col", text, class: i > 2 ? "number" : "" })) });
    const judged = rows.some((row) => row.predicted_independent != null);
    const groups = [...new Set(rows.map((row) => row.target))].map((name) => rows.filter((row) => row.target === name));
    const lines = groups.flatMap((group) => group.map((row, index) => make("tr", { class: index ? "" : "first", children: [
      index ? null : make("th", { scope: "rowgroup", rowspan: group.length, text: row.target }),
      make("td", { text: `${row.method}, ${row.images}` }),
      make("td", { class: "bar-cell", children: [row.classified == null ? null : bar({ rate: row.classified, low: row.low, high: row.high }, row.seconds != null)] }),
      make("td", { class: "number", text: row.classified == null ? "–" : percent(row.classified) }),
      make("td", { class: "number quiet", text: row.classified == null ? "" : `${percent(row.low)} to ${percent(row.high)}` }),
      make("td", { class: "number", text: responseText({ judged }, [row.predicted, row.predicted_independent]).replace(" z", "") }),
      make("td", { class: "number", text: responseText({ judged }, [row.natural_predicted, row.natural_predicted_independent]).replace(" z", "") }),
      make("td", { class: "number", text: row.seconds == null ? "" : twoPlaces(row.seconds) }),
    ] })));
    return make("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Figures of synthesised images", children: [
      make("table", { class: "rates", children: [make("thead", { children: [head] }), make("tbody", { children: lines })] }),
    ] });
  };
  const together = set.synthesis.filter((row) => row.target === set.synthesis[0].target);
  const rest = set.synthesis.slice(together.length);
  const note = "How many images a zero-shot classifier (the independent judge's best prompt) puts into their region's category, and the mean predicted response, beside natural images that drove the voxels most; after each method its number of images. Seconds are the median per image. The table is RUN/analyses/synthesis.";
  return [make("p", { class: "quiet small", text: note }), table(together),
    rest.length ? make("details", { children: [make("summary", { text: "Region by region" }), table(rest)] }) : null];
}

function voxelLinks(set, targets) {
  const show = (voxel) => {
    choose(set.voxel.indexOf(voxel), { reveal: true });
    $("panel").scrollIntoView({ block: "nearest" });
  };
  const buttons = targets.map(({ voxel }) => make("button", { type: "button", class: "link", text: `voxel ${voxel}`, on: { click: () => show(voxel) } }));
  return make("p", { class: "small voxel-links", children: ["Single voxels with images of their own: ", ...buttons.flatMap((button, place) => (place ? [" ", button] : [button]))] });
}
