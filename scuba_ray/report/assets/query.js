// The query box: a text, asked of the service that gave this page. Opened as a file the page asks nobody, and has no box.

const SERVICE = document.documentElement.dataset.service;
const TOKEN = "scuba_ray token";  // in sessionStorage: for this tab, until it is closed
const BEST = 10;

/** `show(key)` colours the cortex by a map of the set that is shown, `choose(row)` shows a voxel; `set()` is the set shown. */
class QueryBox {
  constructor({ set, show, choose }) {
    this.tell = { set, show, choose };
    if (!SERVICE) return;
    $("query").hidden = false;
    document.querySelector("footer").textContent = "Made by scuba_ray. A query is sent to the service that gave this page; nothing else is sent, and nothing is loaded.";
    $("query-form").addEventListener("submit", (event) => { event.preventDefault(); this.#ask(); });
    $("query-token").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, $("query-key").value.trim());
      $("query-key").value = "";
      $("query-token").hidden = true;
      this.#ask();
    });
    $("query-clear").addEventListener("click", () => {
      const { maps } = this.tell.set();
      maps.splice(maps.findIndex((map) => map.key === "query"), 1);
      this.tell.show($("map").value);
      this.moved();
      this.#say("");
      $("query-text").value = "";
      $("query-text").focus();
    });
  }

  /** Another set is shown: what was asked of it before is listed again. */
  moved() {
    this.asking?.abort();
    const result = this.tell.set().maps.find((map) => map.key === "query");
    $("query-clear").hidden = $("query-best").hidden = !result;
    if (SERVICE) this.#say(result ? result.said : "");
    if (result) this.#list(result);
  }

  async #ask() {
    const text = $("query-text").value.trim();
    if (!text) {
      this.#say("Give a few words, such as: a plate of food.", true);
      $("query-text").focus();
      return;
    }
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    const set = this.tell.set();
    this.#say("Asking the service…");
    $("query-best").hidden = true;
    $("query").setAttribute("aria-busy", "true");
    try {
      const answer = await this.#answer({ texts: [text], subject: set.subject }, asking.signal);
      if (!asking.signal.aborted && answer) this.#show(set, text, answer.rows);
    } catch (error) {
      if (error.name !== "AbortError") this.#say(`The service cannot be reached: ${error.message}`, true);
    } finally {
      if (this.asking === asking) $("query").removeAttribute("aria-busy");
    }
  }

  /** The answer, or null if there is none; then the page says why. */
  async #answer(body, signal) {
    const headers = { "Content-Type": "application/json" };
    const token = sessionStorage.getItem(TOKEN);
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await fetch(SERVICE, { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "omit", cache: "no-store" });
    if (response.ok) return response.json();
    const { error } = await response.json().catch(() => ({}));
    if (response.status === 401) {
      this.#say(token ? "That is not the service's token; who started the service has it." : "The service asks for its token; who started it has it.", true);
      sessionStorage.removeItem(TOKEN);
      $("query-token").hidden = false;
      $("query-key").focus();
      return null;
    }
    const wait = response.headers.get("Retry-After");
    this.#say(`${error ?? `The service answered ${response.status}`}${wait ? ` (in ${several(Number(wait), "second", "seconds")})` : ""}.`, true);
    return null;
  }

  #show(set, text, answered) {
    const rowOf = new Map(set.voxel.map((voxel, row) => [voxel, row]));
    const found = answered.filter((one) => one.backbone === set.backbone && rowOf.has(one.voxel_id)).map((one) => ({ ...one, row: rowOf.get(one.voxel_id) }));
    const values = new Array(set.voxel.length).fill(null);
    for (const { row, cosine } of found) values[row] = cosine;
    const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
    if (!sorted.length) {
      this.#say("No voxel of this subject has weights that a text can be held against.", true);
      return;
    }
    const low = sorted[Math.floor(0.02 * (sorted.length - 1))];
    const high = sorted[Math.ceil(0.98 * (sorted.length - 1))];
    const predicting = found.filter((one) => one.cosine != null && one.q != null && one.q < 0.05).length;
    const first = predicting ? ` ${predicting.toLocaleString("en")} of them predict held-out images (q < .05) and come first.` : "";
    const short = text.length > 60 ? `${text.slice(0, 59)}…` : text;
    const map = {
      key: "query", label: "last query", unit: `cosine of a voxel's weights with “${short}”`, palette: "viridis",
      low, high: high > low ? high : low + 1e-3, values, best: found.slice(0, BEST),
      said: `${several(sorted.length, "voxel", "voxels")} ranked by “${short}”.${first}`,
    };
    const before = set.maps.findIndex((one) => one.key === "query");
    set.maps.splice(before < 0 ? set.maps.length : before, 1, map);
    this.tell.show("query");
    this.moved();
  }

  #list({ best }) {
    const set = this.tell.set();
    $("query-best").replaceChildren(...best.map(({ row, cosine }) => make("li", { children: [
      make("button", { type: "button", class: "best", on: { click: () => this.tell.choose(row) }, children: [
        make("span", { class: "quiet", text: `Voxel ${set.voxel[row]} · ${roiText(set, row) || "no region"} · cosine ${shown(cosine)}` }),
        make("span", { class: "caption", text: captionOf(set, row) ?? "no caption" }),
      ] }),
    ] })));
  }

  #say(text, problem = false) {
    $("query-said").textContent = text;
    $("query-said").classList.toggle("problem", problem);
  }
}
