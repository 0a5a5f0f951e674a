// The stage: where the hemispheres stand, how pointer and keys turn them, what is under the pointer.

const GYRUS = { light: [0.87, 0.86, 0.84], dark: [0.40, 0.41, 0.43] };
const SULCUS = { light: [0.74, 0.73, 0.71], dark: [0.29, 0.30, 0.32] };
const TURN_MS = 550;
const OBLIQUE = 0.25;  // a chosen patch is turned to the viewer when its normal's share in that direction is below this
const [GAP, FOOT] = [12, 40];  // pixels beside a hemisphere, and above and below it

class Stage {
  /** `hover(place, x, y)` is told what is under the pointer ([hemisphere, vertex] or null) and says whether a voxel is there. */
  constructor({ hover, choose }) {
    this.canvas = $("canvas");
    this.tell = { hover, choose };
    this.hemispheres = [];
    this.from = this.to = null;
    this.mixing = 1;
    this.turn = fromRows(SIDES.lateral.rows);
    this.layout = { scale: 1, reach: 1 };
    this.zoom = 1;
    this.pan = [0, 0];
    this.lifted = { hover: null, chosen: null };
    this.theme = "light";
    this.painter = new Painter(this.canvas);
    new ResizeObserver(() => this.#resize()).observe($("stage"));
    this.#listen();
  }

  // ------------------------------------------------------------------------------------------------ what stands on it

  /** Show a surface; the view is kept where it has one of that name. */
  load(hemispheres) {
    this.hemispheres = hemispheres;
    this.drawn = {};
    this.painter.load(hemispheres);
    const names = Object.keys(hemispheres[0].views);
    this.from = this.to = names.includes(this.to) ? this.to : names[0];
    this.painter.views(this.from, this.to);
    this.mixing = 1;
    this.#resize();
    this.layout = this.#fit(this.turn, this.to);
  }

  get flat() {
    return this.to === "flat";
  }

  shape(view) {
    if (view === this.to) return;
    this.from = this.to;
    this.to = view;
    this.painter.views(this.from, this.to);
    this.#move(this.flat ? FRONT : (this.lastTurn ?? this.turn), true);
  }

  side(name) {
    const turn = fromRows(SIDES[name].rows);
    this.lastTurn = turn;
    if (!this.flat) this.#move(turn, false);
  }

  /** Back to the whole picture. */
  reset() {
    this.#move(this.flat ? FRONT : (this.lastTurn ?? this.turn), false);
  }

  #move(turn, mixing) {
    const start = { turn: this.turn, layout: this.layout, zoom: this.zoom, pan: [...this.pan], time: performance.now() };
    if (!this.flat) this.lastTurn = turn;
    const layout = this.#fit(turn, this.to);
    if (mixing) this.mixing = 0;
    cancelAnimationFrame(this.moving);
    const step = (now) => {
      const t = STILL.matches ? 1 : Math.min(1, Math.max(0, (now - start.time) / TURN_MS));
      const at = ease(t);
      this.turn = between(start.turn, turn, at);
      const towards = (key) => start.layout[key] + at * (layout[key] - start.layout[key]);
      this.layout = { scale: towards("scale"), reach: towards("reach") };
      this.zoom = start.zoom + at * (1 - start.zoom);
      this.pan = start.pan.map((value) => value * (1 - at));
      if (this.mixing < 1) this.mixing = at;
      this.draw();
      document.documentElement.toggleAttribute("data-moving", t < 1);
      if (t < 1) this.moving = requestAnimationFrame(step);
      else this.mixing = 1;
    };
    step(start.time);
  }

  // ------------------------------------------------------------------------------------------------ places

  #resize() {
    const { clientWidth: width, clientHeight: height } = $("stage");
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.size = [width, height];
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.hemispheres.length) this.layout = this.#fit(this.turn, this.to);
    this.draw();
  }

  /** Pixels per millimetre at which the hemispheres fit side by side, and half the width of one in millimetres. */
  #fit(turn, view) {
    let [reach, rise] = [1, 1];
    this.hemispheres.forEach((hemisphere, h) => {
      const m = matrix(turn, h > 0);
      const { coords } = hemisphere.views[view];
      const drawn = this.#drawn(h, view);
      for (let v = 0; v < hemisphere.count; v++) {
        if (!drawn[v]) continue;
        const at = turned(m, coords[3 * v], coords[3 * v + 1], coords[3 * v + 2]);
        reach = Math.max(reach, Math.abs(at[0]));
        rise = Math.max(rise, Math.abs(at[1]));
      }
    });
    const [width, height] = this.size;
    const across = (width / this.hemispheres.length / 2 - GAP) / reach;
    return { scale: Math.max(0.05, Math.min(across, (height / 2 - FOOT) / rise)), reach };
  }

  #drawn(h, view) {
    this.drawn[`${h} ${view}`] ??= drawnVertices(this.hemispheres[h], view);
    return this.drawn[`${h} ${view}`];
  }

  /** The middle of a hemisphere on the stage, in pixels from its top left. */
  middle(h) {
    const [width, height] = this.size;
    const apart = 2 * (this.layout.reach * this.layout.scale + GAP);
    return [width / 2 + this.pan[0] + this.zoom * apart * (h - (this.hemispheres.length - 1) / 2), height / 2 - 8 + this.pan[1]];
  }

  coords(h) {
    return mixed(this.hemispheres[h], this.from, this.to, this.mixing);
  }

  /** Where a vertex is on the stage: {x, y, seen}, or null where the view does not draw it. */
  locate([h, vertex]) {
    if (!this.#drawn(h, this.to)[vertex]) return null;
    const m = matrix(this.turn, h > 0);
    const coords = this.coords(h);
    const at = turned(m, coords[3 * vertex], coords[3 * vertex + 1], coords[3 * vertex + 2]);
    const [x, y] = this.middle(h);
    const size = this.layout.scale * this.zoom;
    return { x: x + at[0] * size, y: y - at[1] * size, seen: this.#seen(h, coords, m, at) };
  }

  #seen(h, coords, m, at) {
    const { faces, views } = this.hemispheres[h];
    const hit = pick(coords, faces, views[this.to].shown, m, at[0], at[1]);
    return !hit || hit.depth <= at[2] + 1;
  }

  /** [hemisphere, vertex] under a point of the stage, or null. */
  under(x, y) {
    const size = this.layout.scale * this.zoom;
    for (let h = 0; h < this.hemispheres.length; h++) {
      const middle = this.middle(h);
      const { faces, views } = this.hemispheres[h];
      const hit = pick(this.coords(h), faces, views[this.to].shown, matrix(this.turn, h > 0), (x - middle[0]) / size, (middle[1] - y) / size);
      if (hit) return [h, hit.vertex];
    }
    return null;
  }

  /** Turn to the side from which a vertex is seen best, unless it is seen now. Returns the side's name, if it turned. */
  reveal(place) {
    const [width, height] = this.size;
    const here = this.locate(place);
    if (!here) return null;
    const inside = here.x > 0 && here.y > 0 && here.x < width && here.y < height;
    if (!inside) this.reset();
    if (this.flat) return null;
    const [h, vertex] = place;
    const { coords, normals } = this.hemispheres[h].views[this.to];
    const now = turned(matrix(this.turn, h > 0), ...normals.subarray(3 * vertex, 3 * vertex + 3));
    if (here.seen && now[2] > OBLIQUE) return null;
    const scores = Object.keys(SIDES).map((name) => {
      const m = matrix(fromRows(SIDES[name].rows), h > 0);
      const at = turned(m, coords[3 * vertex], coords[3 * vertex + 1], coords[3 * vertex + 2]);
      const facing = turned(m, normals[3 * vertex], normals[3 * vertex + 1], normals[3 * vertex + 2])[2];
      return { name, score: facing + (this.#seen(h, coords, m, at) ? 2 : 0) };
    });
    const best = scores.reduce((a, b) => (b.score > a.score ? b : a));
    this.side(best.name);
    return best.name;
  }

  // ------------------------------------------------------------------------------------------------ drawing

  paint(colours) {
    colours.forEach((one, h) => this.painter.colour(h, one));
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.pending);
    this.pending = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    if (!this.hemispheres.length || !this.size[0]) return;
    const [width, height] = this.size;
    const size = this.layout.scale * this.zoom;
    const frames = this.hemispheres.map((_, h) => {
      const [x, y] = this.middle(h);
      const { hover } = this.lifted;
      const lifted = hover && hover[0] === h ? hover[1] : -1;
      return {
        turn: matrix(this.turn, h > 0), lifted,
        scale: [(2 * size) / width, (2 * size) / height],
        centre: [(2 * x) / width - 1, 1 - (2 * y) / height],
      };
    });
    this.painter.draw(frames, this.mixing, { gyrus: GYRUS[this.theme], sulcus: SULCUS[this.theme] });
    drawOverlay(this);
  }

  // ------------------------------------------------------------------------------------------------ hands

  #listen() {
    const { canvas } = this;
    let drag = null;
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      drag = { at: point(event), moved: 0, mirrored: point(event)[0] > this.size[0] / 2 && this.hemispheres.length > 1 };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = point(event);
      if (!drag) {
        this.#hover(at);
        return;
      }
      const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
      drag.moved += Math.abs(dx) + Math.abs(dy);
      drag.at = at;
      if (drag.moved < 4) return;
      this.tell.hover(null, 0, 0);
      if (this.flat || event.shiftKey) this.shift(dx, dy);
      else this.spin(drag.mirrored ? -dx : dx, dy);
    });
    canvas.addEventListener("pointerup", (event) => {
      const click = drag && drag.moved < 4;
      drag = null;
      if (click) this.tell.choose(this.under(...point(event)));
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.enlarge(Math.exp(-event.deltaY * 0.0015), point(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  #hover(at) {
    const place = at && this.under(...at);
    const voxel = this.tell.hover(place, ...(at ?? [0, 0]));
    this.lifted.hover = voxel ? place : null;
    this.draw();
  }

  #key(event) {
    const step = 24;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) (this.flat ? this.shift(...moves[event.key]) : this.spin(...moves[event.key]));
    else if (event.key === "+" || event.key === "=") this.enlarge(1.25);
    else if (event.key === "-") this.enlarge(0.8);
    else if (event.key === "0" || event.key === "Home") this.reset();
    else return;
    event.preventDefault();
  }

  spin(dx, dy) {
    cancelAnimationFrame(this.moving);
    document.documentElement.removeAttribute("data-moving");
    this.mixing = 1;
    this.turn = unit(times(times(about([0, 1, 0], dx * 0.008), about([1, 0, 0], dy * 0.008)), this.turn));
    this.draw();
  }

  shift(dx, dy) {
    this.pan = [this.pan[0] + dx, this.pan[1] + dy];
    this.draw();
  }

  enlarge(by, around = [this.size[0] / 2, this.size[1] / 2]) {
    const zoom = Math.min(12, Math.max(0.6, this.zoom * by));
    const middle = [this.size[0] / 2, this.size[1] / 2 - 8];
    this.pan = this.pan.map((value, d) => (around[d] - middle[d]) * (1 - zoom / this.zoom) + (value * zoom) / this.zoom);
    this.zoom = zoom;
    this.draw();
  }
}
