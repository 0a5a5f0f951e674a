// What speaks for and against a voxel's captions: held-out scores beside controls, what a baseline explains, nouns without pictures.

const STEP = 1e-4;
const NO_NUMBER = -32768;

/** The number of a row in a column of `report/packed.py`, or null. A column is unpacked at its first use. */
function stepOf(owner, name, row) {
  if (typeof owner[name] === "string") owner[name] = new Int16Array(bytes(owner[name]).buffer);
  const steps = owner[name][row];
  return steps === NO_NUMBER ? null : steps * STEP;
}

const CONTROLS = {
  "shuffled-within-roi": "shuffled within roi, the caption of another voxel of the same regions",
  shuffled: "shuffled, that of any other voxel",
  "most-frequent": "most frequent, the caption that most voxels have",
  "top-image": "top image, what the captioner says of the one nearest bank image",
};

/** What a control said of a voxel; null for a method of its own, and where nothing is known. */
function controlText(one, row) {
  if (!one.said) return null;
  if (typeof one.said === "string") one.said = new Int32Array(bytes(one.said).buffer);
  return DATA.texts[one.said[row]] ?? null;
}

/** Held-out correlation of the voxel's whole-bank captions, by method and judge, the controls below. */
function judgedOf(set, row) {
  const judges = [...new Set(set.judged.map((one) => one.judge))];
  const columns = new Map();
  for (const one of set.judged) {
    if (!columns.has(one.method)) columns.set(one.method, { control: one.control, said: controlText(one, row) });
    columns.get(one.method)[one.judge] = stepOf(one, "r", row);
  }
  const known = [...columns].filter(([, values]) => judges.some((judge) => values[judge] != null));
  if (!known.length) return [];
  const ceiling = set.scores.noise_ceiling[row];
  const most = ceiling > 0 ? ` Noise lets it reach ${Math.sqrt(ceiling).toFixed(2)} here.` : "";
  const note = `How well each caption, as a text, predicts this voxel's responses to held-out images: Spearman's r by the captioned backbone (own) or a backbone with no part in captioning.${most}`;
  const heads = ["Caption of", ...judges.map((judge) => (judge === "own" ? "r, own" : `r, ${judge}`))];
  const head = make("tr", { children: heads.map((text, i) => make("th", { scope: "col", text, class: i ? "number" : "" })) });
  const lines = known.map(([method, values]) => make("tr", { class: values.control ? "control" : "", children: [
    make("th", { scope: "row", children: [
      make("span", { text: values.control ? `control: ${method.replaceAll("-", " ")}` : method, title: CONTROLS[method] }),
      values.said == null ? null : make("span", { class: "said", text: `“${values.said}”` }),
    ] }),
    ...judges.map((judge) => make("td", { class: "number", text: twoPlaces(values[judge]) })),
  ] }));
  return [make("h3", { text: "Held-out scores of captions" }), make("p", { class: "quiet small", text: note }),
    make("table", { class: "captions judged", children: [make("thead", { children: [head] }), make("tbody", { children: lines })] }),
    ...(known.some(([, values]) => values.control) ? [make("p", { class: "quiet small", text: `Controls are texts that were not made for this voxel: ${known.flatMap(([method]) => CONTROLS[method] ?? []).join("; ")}.` })] : [])];
}

const SECOND = { "low-level": "size, luminance, contrast and spatial frequencies", caption: "the pictures' captions" };

/** What the image embedding explains beyond a second feature set, as a divided bar with its numbers. */
function bandsOf(set, row) {
  return set.bands.flatMap((band) => {
    const value = (name) => stepOf(band, name, row);
    const joint = value("r2_joint");
    if (joint == null) return [];
    const second = SECOND[band.name] ?? band.name;
    const parts = [["the embedding alone", "unique_first"], ["both", "shared"], [`${band.name} alone`, "unique_second"]].map(([name, key]) => ({ name, value: value(key) }));
    const total = parts.reduce((sum, part) => sum + Math.max(0, part.value ?? 0), 0);
    const fills = parts.map((part, place) => make("span", { class: `band band-${place}`, style: `width:${total ? (100 * Math.max(0, part.value ?? 0)) / total : 0}%` }));
    const items = parts.map((part, place) => make("li", { children: [make("span", { class: `swatch band-${place}` }), `${part.name} ${twoPlaces(part.value)}`] }));
    const p = value("p_unique_first");
    const flag = band.explained.includes(row) ? [make("p", { class: "problem small", text: "The baseline explains this voxel: its caption says what goes along with size, luminance, contrast or frequencies, not what drives the voxel." })] : [];
    return [make("h3", { text: `Explained by the embedding and by ${second}` }), ...flag,
      make("span", { class: "bands", "aria-hidden": "true", children: fills }),
      make("ul", { class: "band-parts", children: items }),
      make("p", { class: "quiet small", text: `Shares of held-out variance (R²), together ${twoPlaces(joint)}; of what the embedding adds, p ${p == null ? "not known" : shown(p)}. Below 0: it predicts worse with it than without.` })];
  });
}

const VERDICTS = [["✗", "no near picture shows it"], ["✓", "a near picture shows it"], ["?", "not known"]];

/** The nouns of one of the voxel's captions as marks: is there a picture of each among the nearest? */
function supportMarks(set, method, rank, row) {
  const one = set.support?.captions.find((entry) => entry.method === method && entry.rank === rank);
  if (!one) return null;
  if (typeof one.counts === "string") {
    one.counts = bytes(one.counts);
    one.nouns = new Uint32Array(bytes(one.nouns).buffer);
    one.starts = new Uint32Array(one.counts.length);
    for (let i = 1; i < one.counts.length; i++) one.starts[i] = one.starts[i - 1] + one.counts[i - 1];
  }
  const codes = [...one.nouns.subarray(one.starts[row], one.starts[row] + one.counts[row])];
  if (!codes.length) return null;
  const marks = codes.map((code) => {
    const [sign, words] = VERDICTS[code % 4];
    const children = [set.support.words[Math.floor(code / 4)], make("span", { "aria-hidden": "true", text: ` ${sign}` }), make("span", { class: "unseen", text: `: ${words}` })];
    return make("li", { class: code % 4 ? "" : "unsupported", title: words, children });
  });
  return make("ul", { class: "marks", "aria-label": "Nouns, and whether a near picture shows them", children: marks });
}
