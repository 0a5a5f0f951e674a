// Which voxels are shown: by words, region, noun and score, all together. The count is said by #count (aria-live).

const ALL_PASS = { words: [], noun: "", ceiling: 0, r2: -0.05, q: 1 };

/** A function row -> whether the voxel passes every filter. */
function passing(set, { hidden, words, noun, ceiling, r2, q }) {
  const texts = noun ? textsNaming(set, noun) : null;
  const least = (values, row, limit) => values[row] != null && values[row] >= limit;
  return (row) => {
    if (hidden.size && (set.rois[row].length ? set.rois[row].every((roi) => hidden.has(roi)) : hidden.has(-1))) return false;
    if (texts && !texts.has(set.caption[row])) return false;
    if (ceiling > ALL_PASS.ceiling && !least(set.scores.noise_ceiling, row, ceiling)) return false;
    if (r2 > ALL_PASS.r2 && !least(set.scores.r2, row, r2)) return false;
    if (q < ALL_PASS.q && !(set.scores.q[row] != null && set.scores.q[row] < q)) return false;
    if (!words.length) return true;
    const hay = set.haystack(row);
    return words.every((word) => hay.includes(word));
  };
}

const sliderText = (key, value) => (value > ALL_PASS[key] ? value.toFixed(2).replace("-", "−") : "any");

/** Numbers of the set's regions in the order they are listed; -1, voxels of none, comes last. */
function regionsOf(set) {
  const here = new Set(set.rois.flatMap((rois) => (rois.length ? rois : [-1])));
  return [...here].sort((a, b) => (a < 0) - (b < 0) || a - b);
}

/** The number of the one region that the filter leaves, -1 for voxels of none; undefined where it leaves several, or all. */
function onlyRegion(set, hidden) {
  const all = regionsOf(set);
  const kept = all.filter((roi) => !hidden.has(roi));
  return kept.length === 1 && all.length > 1 ? kept[0] : undefined;
}

/** The controls as the state has them; the regions of the set, each a box to tick. */
function drawFilters(set, filters, changed) {
  const { hidden } = filters;
  for (const key of ["ceiling", "r2"]) {
    $(key).value = filters[key];
    $(`${key}-value`).textContent = sliderText(key, filters[key]);
  }
  $("q").value = String(filters.q);
  const all = regionsOf(set);
  const kept = all.filter((roi) => !hidden.has(roi));
  const name = (roi) => DATA.regions[roi]?.name ?? "no region";
  $("regions-said").textContent = kept.length === all.length ? "all" : kept.length === 1 ? name(kept[0]) : `${kept.length} of ${all.length}`;
  const boxes = all.map((roi) => {
    const box = make("input", { type: "checkbox", value: roi, on: { change: () => { if (!hidden.delete(roi)) hidden.add(roi); changed(); } } });
    box.checked = !hidden.has(roi);
    return make("label", { children: [box, make("span", { class: "swatch", style: `background:${DATA.regions[roi]?.colour ?? NO_REGION}` }), name(roi)] });
  });
  const every = (text, rois) => make("button", { type: "button", text, on: { click: () => { hidden.clear(); for (const roi of rois) hidden.add(roi); changed(); } } });
  replaced($("regions-boxes"), [make("div", { class: "buttons", children: [every("All", []), every("None", all)] }), ...boxes]);
}

/** Listen to the controls; `changed` follows every change of `filters`, `cleared` the one that shows all regions again. */
function listenToFilters(filters, changed, cleared) {
  let typing = 0;
  const find = () => {
    clearTimeout(typing);
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const noun = $("filter-noun").value.trim().toLowerCase();
    if (words.join(" ") === filters.words.join(" ") && noun === filters.noun) return;  // leaving the box for a row must not take the row from under the click
    Object.assign(filters, { words, noun });
    changed();
  };
  for (const box of [$("search"), $("filter-noun")]) {
    box.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 120); });
    box.addEventListener("change", find);
  }
  for (const key of ["ceiling", "r2"]) $(key).addEventListener("input", (event) => { filters[key] = Number(event.target.value); changed(); });
  $("q").addEventListener("change", (event) => { filters.q = Number(event.target.value); changed(); });
  $("regions").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    $("regions").open = false;
    $("regions").querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => { if (!$("regions").contains(event.target)) $("regions").open = false; });
  for (const clear of [$("clear"), $("clear-2")]) clear.addEventListener("click", () => {
    $("search").value = $("filter-noun").value = "";
    Object.assign(filters, ALL_PASS);
    filters.hidden.clear();
    cleared();
    $("search").focus();
  });
}
