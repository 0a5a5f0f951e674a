// The table of voxels: only the rows in sight are in the page, so 40,000 scroll like 40.

const ROW = 36;
const SPARE = 8;

class VoxelTable {
  constructor({ choose }) {
    this.choose = choose;
    this.rows = [];
    this.sort = { key: "r2", down: true };
    this.chosen = -1;
    $("scroller").addEventListener("scroll", () => this.draw(), { passive: true });
    $("scroller").addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw(true)).observe($("scroller"));
  }

  /** Show a set. A column has a name, a cell of a row as text, and a value of a row to sort by. */
  load(set) {
    const score = (key) => ({ key, number: true, cell: (row) => shown(set.scores[key][row]), value: (row) => set.scores[key][row] });
    const words = (key, name, cell) => ({ key, name, cell: (row) => cell(row) ?? "–", value: (row) => cell(row)?.toLowerCase() });
    this.columns = [
      { key: "voxel", name: "Voxel", number: true, cell: (row) => String(set.voxel[row]), value: (row) => set.voxel[row] },
      words("roi", "Region", (row) => roiText(set, row) || null),
      { ...score("noise_ceiling"), name: "Ceiling", title: "Noise ceiling: share of variance that is signal" },
      { ...score("r2"), name: "R²", title: "Share of held-out variance that the encoding model predicts" },
      { ...score("q"), name: "q", title: "Permutation p after Benjamini and Hochberg's correction" },
    ];
    this.columns.push(words("caption", "Caption", (row) => captionOf(set, row)));
    if (set.planted) this.columns.push(words("planted", "Planted", (row) => set.planted.concept[row]));
    this.set = set;
    this.#heads();
  }

  #heads() {
    const heads = this.columns.map(({ key, name, number, title }) => {
      const now = this.sort.key === key ? (this.sort.down ? "descending" : "ascending") : "none";
      const mark = { none: "", descending: " ↓", ascending: " ↑" }[now];
      const button = make("button", { type: "button", text: name + mark, title, on: { click: () => this.order(key) } });
      return make("th", { scope: "col", "aria-sort": now, class: `${key}${number ? " number" : ""}`, children: [button] });
    });
    replaced($("heads"), heads);
  }

  order(key) {
    const column = this.columns.find((one) => one.key === key);
    this.sort = { key, down: this.sort.key === key ? !this.sort.down : Boolean(column.number && key !== "voxel" && key !== "q") };
    this.#heads();
    this.show(this.rows);
    this.draw(true);
  }

  /** Show these rows of the set, in the table's order; rows without a value come last. */
  show(rows) {
    const { value } = this.columns.find((one) => one.key === this.sort.key) ?? this.columns[0];
    const values = new Map(rows.map((row) => [row, value(row)]));
    const sign = this.sort.down ? -1 : 1;
    this.rows = [...rows].sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x == null || y == null) return (x == null) - (y == null) || a - b;
      return x < y ? -sign : x > y ? sign : a - b;
    });
    $("none").hidden = rows.length > 0;
    $("table").setAttribute("aria-rowcount", rows.length + 1);
    this.draw(true);
  }

  /** Mark a row, and bring it into sight. */
  select(row, scroll) {
    this.chosen = row;
    const index = this.rows.indexOf(row);
    const box = $("scroller");
    if (scroll && index >= 0) {
      const top = index * ROW;
      const room = box.clientHeight - ROW - 2;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + ROW > box.scrollTop + room) box.scrollTop = top + ROW - room;
    }
    this.draw(true);
  }

  draw(always) {
    const box = $("scroller");
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
    const last = Math.min(this.rows.length, first + Math.ceil(box.clientHeight / ROW) + 2 * SPARE);
    if (!always && this.first === first && this.last === last) return;
    [this.first, this.last] = [first, last];
    const spacer = (rows) => make("tr", { class: "spacer", "aria-hidden": "true", style: `height:${rows * ROW}px`, children: [make("td", { colspan: this.columns.length })] });
    const lines = [];
    for (let index = first; index < last; index++) lines.push(this.#line(index));
    $("rows").replaceChildren(spacer(first), ...lines, spacer(this.rows.length - last));
    const active = $(`row-${this.chosen}`);
    if (active) box.setAttribute("aria-activedescendant", active.id);
    else box.removeAttribute("aria-activedescendant");
  }

  #line(index) {
    const row = this.rows[index];
    const cells = this.columns.map(({ key, number, cell }) => {
      const text = cell(row);
      const children = [];
      if (key === "roi" && this.set.rois[row].length) {
        children.push(make("span", { class: "swatch", style: `background:${DATA.regions[this.set.rois[row][0]].colour}` }));
      }
      const title = key === "caption" || key === "roi" || key === "planted" ? text : null;
      return make("td", { class: `${key}${number ? " number" : ""}`, title, children: [...children, text] });
    });
    return make("tr", {
      id: `row-${row}`, "aria-rowindex": index + 2, "aria-selected": row === this.chosen ? "true" : "false",
      children: cells, on: { click: () => this.choose(row) },
    });
  }

  #key(event) {
    const page = Math.max(1, Math.floor($("scroller").clientHeight / ROW) - 2);
    const now = this.rows.indexOf(this.chosen);
    const steps = { ArrowDown: now + 1, ArrowUp: now - 1, PageDown: now + page, PageUp: now - page, Home: 0, End: this.rows.length - 1 };
    if (event.key === "Enter" && now >= 0) $("canvas").focus();
    else if (!(event.key in steps) || !this.rows.length) return;
    else this.choose(this.rows[Math.min(this.rows.length - 1, Math.max(0, steps[event.key]))]);
    event.preventDefault();
  }

  /** The rows shown, as CSV. */
  csv() {
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const { set } = this;
    const heads = ["subject", "backbone", "voxel_id", "hemi", "vertex", "rois", "noise_ceiling", "r2", "q", "caption"];
    const lines = this.rows.map((row) => [
      set.subject, set.backbone, set.voxel[row], set.hemi[row] ?? "", set.vertex[row] ?? "", roiText(set, row),
      set.scores.noise_ceiling[row] ?? "", set.scores.r2[row] ?? "", set.scores.q[row] ?? "", captionOf(set, row) ?? "",
    ]);
    return [heads, ...lines].map((cells) => cells.map((cell) => quoted(String(cell))).join(",")).join("\n") + "\n";
  }
}
