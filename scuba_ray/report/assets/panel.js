// Everything about one voxel: captions, scores, what its projection averaged, nearest bank images.

const PANEL_SCORES = [
  ["r2", "R²", "share of held-out variance predicted"],
  ["noise_ceiling", "Noise ceiling", "share of variance that is signal"],
  ["r2_normalised", "R² / ceiling", "share of the explainable variance"],
  ["r", "r", "held-out correlation"],
  ["p", "p", "permutation test"],
  ["q", "q", "FDR-corrected"],
  ["split_half", "Split-half", "cosine of weights fitted on two halves"],
  ["alpha", "α", "ridge penalty"],
  ["bad_trials", "Bad trials", "NaN or infinite, left out"],
];

const sheetLinks = [];

/** The picture of an image number: a thumbnail, or its name where the page holds none. */
function thumbnail(image) {
  const { thumbnails } = DATA;
  const place = thumbnails.place?.[image];
  if (place == null) return null;
  const each = thumbnails.columns ** 2;
  const sheet = Math.floor(place / each);
  const at = place % each;
  sheetLinks[sheet] ??= URL.createObjectURL(new Blob([bytes(thumbnails.sheets[sheet].split(",")[1])], { type: "image/webp" }));
  const position = `-${(at % thumbnails.columns) * thumbnails.side}px -${Math.floor(at / thumbnails.columns) * thumbnails.side}px`;
  return make("span", {
    class: "thumbnail", role: "img", "aria-label": DATA.images[image],
    style: `width:${thumbnails.side}px;height:${thumbnails.side}px;background-image:url(${sheetLinks[sheet]});background-position:${position}`,
  });
}

function panelHead(title, label, close) {
  const closer = make("button", { type: "button", class: "close", text: "×", "aria-label": label, on: { click: close } });
  return make("div", { class: "panel-head", children: [make("h2", { tabindex: -1, text: title }), closer] });
}

/** `acts` as in region.js. */
function drawPanel(element, set, row, surface, acts) {
  if (row < 0) {
    refill(element, [
      make("h2", { tabindex: -1, text: "A voxel, or a region" }),
      make("p", { class: "quiet", text: "Point at the cortex to read captions. Click a patch, or a row of the table, to see everything about that voxel here; a region's name says what that region is about." }),
      ...regionList(set, acts),
      make("ul", { class: "quiet hints", children: [
        make("li", { text: "Drag turns both hemispheres, one as the mirror image of the other; Shift and drag moves them." }),
        make("li", { text: "Click the cortex, then the wheel zooms; double-click shows the whole again." }),
        make("li", { text: "Keys: arrows turn, + and − zoom, 0 resets. In the table, up and down go from voxel to voxel." }),
      ] }),
    ]);
    return;
  }
  refill(element, [
    panelHead(`Voxel ${set.voxel[row]}`, "Close this voxel", () => acts.choose(-1)),
    make("p", { class: "where", children: [...regionLinks(set, row, acts), ` · ${placeText(set, row)}`] }),
    make("blockquote", { class: "caption", text: captionOf(set, row) ?? "No caption: see its status below." }),
    ...planted(set, row),
    make("h3", { text: "Scores" }),
    scores(set, row),
    ...foundOf(set, row),
    ...captions(set, row),
    ...judgedOf(set, row),
    ...bandsOf(set, row),
    ...imagesOf(set, row),
    ...nearest(set, row),
    ...neighboursOf(set, row, surface, acts.choose),
  ]);
}

/** The names of a voxel's regions, each a way to the region's view. */
function regionLinks(set, row, acts) {
  const regions = set.rois[row].map((roi) => DATA.regions[roi]);
  if (!regions.length) return [swatchOf(NO_REGION), "no region"];
  return regions.flatMap(({ name, colour }, place) => [place ? ", " : null, swatchOf(colour),
    make("button", { type: "button", class: "link", text: name, title: `What ${name} is about`, on: { click: () => acts.region(name) } })]).filter(Boolean);
}

function placeText(set, row) {
  if (set.place[row]) return `${{ lh: "left", rh: "right" }[set.hemi[row]] ?? set.hemi[row]} hemisphere, vertex ${set.vertex[row]}`;
  if (set.ijk?.[row]) return `volume voxel ${set.ijk[row].join(", ")}; not on the surface`;
  return "not on the surface";
}

function planted(set, row) {
  const kind = set.planted?.kind[row];
  if (!kind) return [];
  const hit = set.planted.hit[row];
  const verdict = hit == null ? "" : hit ? " · the caption names it ✓" : " · the caption does not name it ✗";
  return [make("p", { class: "truth", children: [make("strong", { text: "Planted: " }), `${set.planted.concept[row] ?? "nothing"} (${kind})${verdict}`] })];
}

function scores(set, row) {
  const entries = PANEL_SCORES.filter(([key]) => set.scores[key][row] != null).map(([key, name, unit]) => [name, shown(set.scores[key][row]), unit]);
  entries.push(["Bank agreement", shown(set.bank_agreement[row]), "cosine between partitions"]);
  entries.push(["Status", set.status[row] ?? "–", ""]);
  const cells = entries.map(([name, value, unit]) => make("div", { children: [
    make("dt", { text: name, title: unit }), make("dd", { text: value }),
  ] }));
  return make("dl", { class: "scores", children: cells });
}

const partName = (partition) => (partition < 0 ? "whole bank" : `partition ${partition}`);

/** Captions by method and partition, each with the number of images its projection averaged; concepts with their share instead. */
function captions(set, row) {
  const blocks = [];
  for (const method of new Set(set.captions.map((one) => one.method))) {
    const entries = set.captions.filter((one) => one.method === method && (!one.share || one.text[row] >= 0));
    if (!entries.length) continue;
    const lines = entries.map(({ partition, rank, text, share }) => {
      const marks = partition < 0 ? supportMarks(set, method.replace(/, per concept$/, ""), rank, row) : null;
      if (share) {
        return make("tr", { children: [
          make("th", { scope: "row", text: `${Math.round(100 * share[row])} %` }),
          make("td", { children: [DATA.texts[text[row]], marks] }),
        ] });
      }
      const averaged = set.projections.find((one) => one.partition === partition)?.n_eff[row];
      return make("tr", { children: [
        make("th", { scope: "row", text: partName(partition) }),
        make("td", { children: [text[row] >= 0 ? DATA.texts[text[row]] : "–", marks] }),
        make("td", { class: "number", text: shown(averaged, 1) }),
      ] });
    });
    const concepts = entries.some((one) => one.share);
    const titles = [make("th", { scope: "col", text: concepts ? "Mass" : "From" }), make("th", { scope: "col", text: "Caption" })];
    if (!concepts) titles.push(make("th", { scope: "col", class: "number", text: "n_eff", title: "Effective number of bank images averaged" }));
    const head = make("tr", { children: titles });
    blocks.push(make("h3", { text: `Captions, ${method}` }),
      make("table", { class: "captions", children: [make("thead", { children: [head] }), make("tbody", { children: lines })] }));
  }
  if (set.support && blocks.length) blocks.push(make("p", { class: "quiet small", text: "Nouns: ✓ one of the nearest bank images shows it, ✗ none does more than those of other voxels, ? too few voxels to tell." }));
  return blocks;
}

/** A bank image with its name and its cosine with what it is nearest to. */
function pictureOf(image, cosine) {
  const name = DATA.images[image];
  const picture = thumbnail(image) ?? make("span", { class: "thumbnail none", text: "no picture" });
  const label = make("figcaption", { children: [make("span", { class: "name", text: name, title: name }), make("span", { text: `cos ${shown(cosine, 2)}` })] });
  return make("figure", { children: [picture, label] });
}

function nearest(set, row) {
  const figures = [];
  for (let i = DATA.nearest * row; i < DATA.nearest * (row + 1); i++) {
    if (set.nearest[i] >= 0) figures.push(pictureOf(set.nearest[i], set.nearest_cos[i]));
  }
  if (!figures.length) return [];
  return [make("h3", { text: "Nearest images of the bank" }), make("div", { class: "nearest", children: figures }),
    ...(DATA.thumbnails.none ? [make("p", { class: "quiet small", text: `No pictures: ${DATA.thumbnails.none}.` })] : [])];
}
