"use strict";
// All that is shown comes from the page's own JSON and goes in by textContent or as an attribute, so nothing in a
// name or a prompt is taken for HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const dialog = document.getElementById("dialog");
const ROWS = 60, PICTURES = 36, PLOTTED = 40, WORST = 12;
// Pictures of a group below which nothing is said of it.
const FEWEST = 20;
const VALUE = 0, LOW = 1, HIGH = 2, NUM = 3, SPREAD = 4;

// ---- making elements

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in { checked: 1, hidden: 1, open: 1, value: 1 }) made[key] = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function select(label, options, value, change) {
  const made = el("select", { "aria-label": label, onchange: () => change(made.value) },
    options.map(([key, text]) => el("option", { value: key }, text)));
  made.value = value;
  return made;
}

// ---- numbers

const metric = (name) => data.metrics[name];
const number = (name, value) => value === null || value === undefined ? "–" : value.toFixed(metric(name).decimals);
const heading = (name) => metric(name).label + (metric(name).higher ? " ↑" : " ↓");
const interval = (name, cell) => cell && cell[LOW] !== null && cell[HIGH] !== null
  ? "[" + number(name, cell[LOW]) + ", " + number(name, cell[HIGH]) + "]" : "";
const spread = (name, cell) => cell && cell[SPREAD] !== null ? " ± " + number(name, cell[SPREAD]) : "";
const competes = (row) => row.competes;

function rankText(row) {
  if (!row.rank) return "–";
  return row.rank[0] === row.rank[1] && !row.open ? String(row.rank[0]) : row.rank[0] + "–" + row.rank[1] + (row.open ? "+" : "");
}

/** The ends of a scale that shows all cells with their intervals. */
function scaleOf(cells) {
  const ends = cells.filter(Boolean).flatMap((cell) => [cell[VALUE], cell[LOW] ?? cell[VALUE], cell[HIGH] ?? cell[VALUE]]);
  let low = ends.length ? Math.min(...ends) : 0, high = ends.length ? Math.max(...ends) : 1;
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const pad = 0.04 * (high - low);
  return { low: low - pad, high: high + pad };
}
const at = (scale, value) => 100 * (value - scale.low) / (scale.high - scale.low);
const percent = (scale, value) => at(scale, value).toFixed(2) + "%";

/** A label cut in its middle: what tells rows apart stands at its end as often as at its start. */
function shortened(label, most) {
  if (label.length <= most) return label;
  const end = Math.floor((most - 1) / 2);
  return label.slice(0, most - 1 - end).trimEnd() + "…" + label.slice(-end).trimStart();
}

function ticks(scale, most) {
  const raw = (scale.high - scale.low) / most, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= raw);
  const found = [];
  for (let k = Math.ceil(scale.low / step); k * step <= scale.high; k++) found.push(k * step);
  return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function mark(scale, cell, radius) {
  if (!cell) return [];
  const range = cell[LOW] === null ? [] : [svg("line", {
    class: "range", x1: percent(scale, cell[LOW]), x2: percent(scale, cell[HIGH]), y1: "50%", y2: "50%",
  })];
  return [...range, svg("circle", { class: "dot", cx: percent(scale, cell[VALUE]), cy: "50%", r: radius })];
}

// ---- hovering

const tip = document.getElementById("tip");
function hover(element, lines) {
  const show = () => {
    const [first, ...rest] = lines();
    tip.replaceChildren(el("b", {}, first), ...rest.filter(Boolean).map((line) => el("div", {}, line)));
    (dialog.open ? dialog : document.body).append(tip);
    tip.hidden = false;
    const box = element.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const below = box.bottom + own.height + 8 < innerHeight;
    tip.style.left = Math.max(8, Math.min(box.left, innerWidth - own.width - 8)) + "px";
    tip.style.top = (below ? box.bottom + 6 : Math.max(8, box.top - own.height - 6)) + "px";
  };
  const hide = () => { tip.hidden = true; };
  for (const [event, act] of [["mouseenter", show], ["focus", show], ["mouseleave", hide], ["blur", hide]]) {
    element.addEventListener(event, act);
  }
  return element;
}

function story(table, row, name) {
  const cell = row.cells[name], from = row.provenance;
  return () => [
    metric(name).label + " " + number(name, cell[VALUE]) + spread(name, cell),
    interval(name, cell) && "95 % interval " + interval(name, cell),
    cell[NUM].toLocaleString("en") + " pictures" + (row.seeds > 1 ? ", " + row.seeds + " seeds" : ""),
    table.measuredBy[name],
    ["fdlab " + (from.fdlab_version || "?"), from.git_commit && "commit " + from.git_commit.slice(0, 10)
      + (from.git_dirty === "True" ? ", changed" : ""), from.created && from.created.slice(0, 10), from.device].filter(Boolean).join(" · "),
  ];
}

// ---- the table

class View {
  constructor(table) {
    this.table = table;
    this.rows = table.rows.map((row, index) => ({ ...row, index }));
    this.shown = new Set(table.short);
    this.sort = null;
    this.query = "";
    this.only = "all";
    this.limit = ROWS;
    this.chosen = [];
    this.scales = Object.fromEntries(table.columns.map((name) => [name, scaleOf(this.rows.map((row) => row.cells[name]))]));
    this.best = Object.fromEntries(table.columns.map((name) => [name, this.leaders(name)]));
    this.plotted = table.orderedBy || table.columns[0];
    this.element = this.build();
    this.draw();
  }

  /** Plots come after the first paint, and only where somebody looks. */
  watch() {
    new IntersectionObserver((seen, observer) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      this.plotting = true;
      this.drawPlots();
    }, { rootMargin: "300px" }).observe(this.plots);
  }

  leaders(name) {
    const values = this.rows.filter((row) => competes(row) && row.cells[name]).map((row) => number(name, row.cells[name][VALUE]));
    const order = [...new Set(values)].sort((a, b) => (metric(name).higher ? b - a : a - b));
    // Nobody leads alone.
    return values.length < 2 ? {} : { best: order[0], second: order[1] };
  }

  build() {
    const { table } = this;
    this.search = el("input", {
      type: "search", placeholder: "search methods and settings", "aria-label": "search methods and settings",
      oninput: () => { this.query = this.search.value.toLowerCase(); this.restart(); },
    });
    const filters = [["all", "all rows"], ["ranked", "ranked"], ["front", "on the Pareto front"], ["clean", "nothing against them"]];
    const menu = el("div", {}, table.columns.map((name) => el("label", {}, el("input", {
      type: "checkbox", checked: this.shown.has(name),
      onchange: (event) => { this.shown[event.target.checked ? "add" : "delete"](name); this.draw(); },
    }), metric(name).label)));
    this.count = el("span", { class: "dim count", role: "status" });
    this.head = el("thead");
    this.body = el("tbody");
    this.more = el("button", { class: "more", onclick: () => { this.limit += 5 * ROWS; this.draw(); } });
    this.forest = el("div", { class: "forest" });
    this.front = el("div");
    this.panels = el("div", { class: "panels" });
    this.panelled = el("div", {}, el("h3", {}, "By prompt and by person"),
      el("p", { class: "dim" }, "A line a group, a dot a method; the best-ranked of those shown in colour, with its interval."), this.panels);
    const picks = table.columns.map((name) => [name, metric(name).label]);
    return el("section", { class: "board", id: "table-" + table.number },
      el("h2", {}, table.number + ". " + table.name),
      el("p", { class: "dim" }, table.title + (table.orderedBy ? ", best " + metric(table.orderedBy).label + " first" : "")),
      table.apart ? el("p", { class: "dim apart" }, "Apart because: " + table.apart + ".") : null,
      el("div", { class: "controls" }, this.search,
        select("which rows", filters, "all", (value) => { this.only = value; this.restart(); }),
        el("details", { class: "menu" }, el("summary", {}, "columns"), menu), this.count),
      el("div", { class: "scroll" }, el("table", {}, this.head, this.body)), this.more,
      el("details", { class: "notes", }, el("summary", {}, "How to read this table"), table.notes.map((note) => el("p", {}, note))),
      this.plots = el("div", { class: "plots" },
        el("div", { class: "plot" }, el("header", {}, el("h3", {}, "Intervals"),
          select("metric of the intervals", picks, this.plotted, (value) => { this.plotted = value; this.drawPlots(); })), this.forest),
        el("div", { class: "plot" }, el("header", {}, el("h3", {}, "Identity against prompt")), this.front)),
      this.panelled);
  }

  restart() { this.limit = ROWS; this.draw(); }

  matching() {
    const text = (row) => (row.label + " " + row.marks.flat().join(" ") + " "
      + Object.entries(row.config).map(([key, value]) => key + "=" + value).join(" ")).toLowerCase();
    const kept = {
      all: () => true, ranked: (row) => row.rank !== null, front: (row) => row.front, clean: (row) => row.competes && !row.marks.length,
    }[this.only];
    const words = this.query.split(/\s+/).filter(Boolean);
    return this.rows.filter((row) => kept(row) && (!words.length || words.every((word) => text(row).includes(word))));
  }

  ordered() {
    const rows = this.matching();
    if (!this.sort) return rows;
    const { name, sign } = this.sort;
    const key = (row) => name === "method" ? row.label.toLowerCase() : row.cells[name] && row.cells[name][VALUE];
    return rows.sort((a, b) => {
      const x = key(a), y = key(b);
      // Rows without a value come last either way.
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (x < y ? -1 : x > y ? 1 : a.index - b.index);
    });
  }

  sortBy(name) {
    const first = name === "method" || !metric(name).higher ? 1 : -1;
    if (!this.sort || this.sort.name !== name) this.sort = { name, sign: first };
    else this.sort = this.sort.sign === first ? { name, sign: -first } : null;
    this.restart();
    this.head.querySelector("[data-sort='" + name + "']").focus();
  }

  header(name, text, kind) {
    const active = this.sort && this.sort.name === name;
    const arrow = active ? (this.sort.sign > 0 ? " ▲" : " ▼") : "";
    const button = el("button", { "data-sort": name, onclick: () => this.sortBy(name) }, text + arrow);
    if (metric(name)) hover(button, () => [metric(name).label, metric(name).about, this.table.measuredBy[name]]);
    return el("th", { class: kind, scope: "col", "aria-sort": active ? (this.sort.sign > 0 ? "ascending" : "descending") : null }, button);
  }

  draw() {
    const names = this.table.columns.filter((name) => this.shown.has(name));
    const rows = this.ordered();
    this.head.replaceChildren(el("tr", {}, el("th", { class: "rank", scope: "col" }, "rank"), this.header("method", "method", "method"),
      names.map((name) => this.header(name, heading(name), "num"))));
    this.body.replaceChildren(...rows.slice(0, this.limit).map((row) => this.line(row, names)));
    this.count.textContent = rows.length + " of " + this.rows.length + " rows";
    this.more.hidden = rows.length <= this.limit;
    this.more.textContent = "show " + Math.min(5 * ROWS, rows.length - this.limit) + " more";
    this.visible = rows;
    this.drawPlots();
  }

  line(row, names) {
    const box = el("input", {
      type: "checkbox", checked: this.chosen.includes(row.index), "aria-label": "compare " + row.label,
      onchange: () => this.choose(row),
    });
    const name = el("button", { class: "name", onclick: () => openRow(this, row), onkeydown: (event) => this.keys(event, row) }, row.label);
    const rank = el("td", { class: row.rank ? "rank" : "rank none" }, rankText(row));
    if (!row.rank) hover(rank, () => ["no rank", row.unranked]);
    const made = el("tr", { class: (this.chosen.includes(row.index) ? "chosen " : "") + (competes(row) ? "" : "out"), "data-row": row.index },
      rank, el("td", { class: "method" }, el("div", { class: "line" }, box, name), tags(row)),
      names.map((key) => this.cell(row, key)));
    made.addEventListener("click", (event) => { if (!event.target.closest("button,input")) openRow(this, row); });
    return made;
  }

  cell(row, name) {
    const cell = row.cells[name];
    if (!cell) return el("td", { class: "num" }, el("span", { class: "v dim" }, "–"));
    const text = number(name, cell[VALUE]);
    const kind = !competes(row) ? "" : text === this.best[name].best ? " best" : text === this.best[name].second ? " second" : "";
    const made = el("td", { class: "num" + kind, "data-metric": name },
      el("span", { class: "v" }, text, cell[SPREAD] === null ? null : el("small", {}, spread(name, cell))),
      svg("svg", { class: "strip", "aria-hidden": "true" }, mark(this.scales[name], cell, 2.6)));
    return hover(made, story(this.table, row, name));
  }

  keys(event, row) {
    const names = [...this.body.querySelectorAll(".name")], place = names.indexOf(event.target);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      names[Math.max(0, Math.min(names.length - 1, place + (event.key === "ArrowDown" ? 1 : -1)))].focus();
    } else if (event.key === "c") {
      this.choose(row);
      this.body.querySelectorAll(".name")[place].focus();
    }
  }

  choose(row) {
    this.chosen = this.chosen.includes(row.index) ? this.chosen.filter((k) => k !== row.index) : [...this.chosen, row.index].slice(-2);
    this.draw();
    const tray = document.getElementById("tray");
    tray.hidden = !this.chosen.length;
    const [a, b] = this.chosen.map((index) => this.rows[index]);
    tray.replaceChildren(...(b
      ? [el("span", {}, "two rows"), el("button", { id: "compare", onclick: () => openPair(this, a, b) }, "compare side by side")]
      : [el("span", {}, "choose a second row to compare")]),
    el("button", { "aria-label": "clear", onclick: () => { this.chosen = []; tray.hidden = true; this.draw(); } }, "✕"));
  }

  // ---- plots

  drawPlots() {
    if (!this.plotting) return;
    this.drawForest();
    this.drawFront();
    const shown = this.visible.slice(0, PLOTTED);
    const top = shown.find((row) => row.rank && Object.keys(row.breakdown).length) || shown.find((row) => Object.keys(row.breakdown).length);
    this.panelled.hidden = !top;
    if (top) this.panels.replaceChildren(...panels(shown, top, (groups) => this.groupMetric(groups)));
  }

  /** What is drawn of an attribute's groups: the metric that is plotted, else the first of the table that they have. */
  groupMetric(groups) {
    return [this.plotted, ...this.table.columns].find((name) => Object.values(groups).some((group) => group[name]));
  }

  drawForest() {
    const name = this.plotted, rows = this.visible.filter((row) => row.cells[name]).slice(0, PLOTTED);
    const scale = scaleOf(rows.map((row) => row.cells[name])), marks = ticks(scale, 5);
    const guides = () => marks.values.map((value) => svg("line", {
      class: "guide", x1: percent(scale, value), x2: percent(scale, value), y1: 0, y2: "100%" }));
    const axis = svg("svg", { class: "axis" }, marks.values.map((value) =>
      svg("text", { x: percent(scale, value), y: 13, "text-anchor": "middle" }, value.toFixed(marks.decimals))));
    this.forest.replaceChildren(...rows.flatMap((row) => [
      el("button", { class: "name", title: row.label, onclick: () => openRow(this, row) }, shortened(row.label, 34)),
      hover(svg("svg", { class: competes(row) ? "" : "out" }, guides(), mark(scale, row.cells[name], 4)), story(this.table, row, name)),
      el("span", {}, number(name, row.cells[name][VALUE]) + spread(name, row.cells[name])),
    ]), el("span", {}), axis, el("span", {}));
  }

  drawFront() {
    const [x, y] = this.table.axes;
    const rows = x ? this.visible.filter((row) => competes(row) && row.cells[x] && row.cells[y]) : [];
    this.front.parentElement.hidden = rows.length < 2;
    if (rows.length < 2) return;
    const W = 560, H = 380, L = 46, B = 40, T = 12, R = 14;
    // Points alone set the scale: intervals of a single row may be many times as wide.
    const points = (name) => scaleOf(rows.map((row) => [row.cells[name][VALUE], null, null]));
    const sx = points(x), sy = points(y);
    const px = (value) => L + at(sx, value) / 100 * (W - L - R), py = (value) => H - B - at(sy, value) / 100 * (H - B - T);
    const tx = ticks(sx, 6), ty = ticks(sy, 5);
    const front = rows.filter((row) => row.front).sort((a, b) => a.cells[x][VALUE] - b.cells[x][VALUE]);
    let path = "";
    front.forEach((row, k) => {
      const [u, v] = [px(row.cells[x][VALUE]), py(row.cells[y][VALUE])];
      path += k ? "V" + v.toFixed(1) : "M" + L + "," + v.toFixed(1);
      path += "H" + u.toFixed(1);
    });
    if (front.length) path += "V" + (H - B);
    const label = (row) => shortened(row.label, 34);
    // A label that would lie on another, or on a point, is left to hovering.
    const places = front.map((row) => [px(row.cells[x][VALUE]), py(row.cells[y][VALUE])]), taken = [];
    const free = ([u, v], text) => {
      const wide = 6.4 * text.length, from = u > W * 0.6 ? u - 8 - wide : u + 8;
      const box = [from, v - 18, from + wide, v - 3];
      const meets = ([a, b, c, d]) => a < box[2] && c > box[0] && b < box[3] && d > box[1];
      if (taken.some(meets) || places.some(([p, q]) => p !== u && meets([p - 5, q - 5, p + 5, q + 5]))) return false;
      taken.push(box);
      return true;
    };
    const point = (row) => {
      const u = px(row.cells[x][VALUE]), v = py(row.cells[y][VALUE]), left = u > W * 0.6;
      const made = svg("g", {
        class: row.front ? "point on" : "point", tabindex: 0, role: "button", "aria-label": row.label, onclick: () => openRow(this, row),
        onkeydown: (event) => { if (event.key === "Enter") openRow(this, row); },
      }, svg("circle", { cx: u, cy: v, r: row.front ? 5 : 4 }),
      row.front && free([u, v], label(row)) ? svg("text", { x: left ? u - 8 : u + 8, y: v - 7, "text-anchor": left ? "end" : "start" }, label(row)) : null);
      return hover(made, () => [row.label, ...[x, y].map((name) => metric(name).label + " " + number(name, row.cells[name][VALUE]) + " " + interval(name, row.cells[name]))]);
    };
    this.front.replaceChildren(svg("svg", { class: "front-plot", viewBox: "0 0 " + W + " " + H },
      tx.values.map((value) => [svg("line", { class: "grid", x1: px(value), x2: px(value), y1: T, y2: H - B }),
        svg("text", { x: px(value), y: H - B + 16, "text-anchor": "middle" }, value.toFixed(tx.decimals))]).flat(),
      ty.values.map((value) => [svg("line", { class: "grid", x1: L, x2: W - R, y1: py(value), y2: py(value) }),
        svg("text", { x: L - 6, y: py(value) + 4, "text-anchor": "end" }, value.toFixed(ty.decimals))]).flat(),
      svg("text", { x: (L + W - R) / 2, y: H - 4, "text-anchor": "middle" }, metric(x).label + " →"),
      svg("text", { x: 11, y: (T + H - B) / 2, transform: "rotate(-90 11 " + (T + H - B) / 2 + ")", "text-anchor": "middle" }, metric(y).label + " →"),
      svg("path", { class: "step", d: path || "M0,0" }), rows.filter((row) => !row.front).map(point), front.map(point)));
  }
}

function tags(row) {
  const made = [];
  if (row.front) made.push(el("span", { class: "tag front" }, "◆ front"));
  for (const [word, text] of row.marks) made.push(hover(el("span", { class: "tag warn" }, word), () => [word, text]));
  for (const [attribute, group] of worse(row)) {
    made.push(hover(el("span", { class: "tag warn" }, "worse: " + attribute + " " + group),
      () => ["worse for " + attribute + ": " + group, "its interval there lies on the worse side of the method's value over all pictures (not corrected for the number of groups)"]));
  }
  return made.length ? el("div", { class: "tags" }, made) : null;
}

/** Groups of people for whom a method is surely worse in identity than over all, as [attribute, group]. */
function worse(row) {
  const found = [];
  for (const [attribute, groups] of Object.entries(row.breakdown)) {
    if (attribute === "category") continue;
    for (const [group, entries] of Object.entries(groups)) {
      if (isWorse("identity_similarity", entries.identity_similarity, row.cells.identity_similarity)) found.push([attribute, group]);
    }
  }
  return found;
}

function isWorse(name, entry, whole) {
  if (!entry || !whole || entry[LOW] === null || entry[NUM] < FEWEST) return false;
  return metric(name).higher ? entry[HIGH] < whole[VALUE] : entry[LOW] > whole[VALUE];
}

/** A small multiple for each attribute: its groups by line, `rows` as dots, `own` in colour with intervals. */
function panels(rows, own, chosen) {
  const names = Object.fromEntries(Object.entries(own.breakdown).map(([attribute, groups]) => [attribute, chosen(groups)]));
  const scales = {};
  for (const name of new Set(Object.values(names).filter(Boolean))) {
    const entries = (row) => Object.entries(row.breakdown).filter(([attribute]) => names[attribute] === name)
      .flatMap(([, groups]) => Object.values(groups)).map((group) => group[name]);
    scales[name] = scaleOf([...rows.flatMap(entries).filter(Boolean).map((e) => [e[VALUE], null, null]), ...entries(own).filter(Boolean)]);
  }
  return Object.entries(own.breakdown).filter(([attribute]) => names[attribute]).map(([attribute, groups]) => {
    const name = names[attribute], scale = scales[name];
    return el("div", { class: "panel" },
    el("h4", {}, (attribute === "category" ? "prompt category" : attribute) + " · " + metric(name).label),
    Object.entries(groups).filter(([, group]) => group[name]).map(([key, group]) => {
      const entry = group[name], others = rows.filter((row) => row !== own).map((row) => row.breakdown[attribute]?.[key]?.[name]).filter(Boolean);
      const whole = own.cells[name];
      return hover(el("div", { class: isWorse(name, entry, whole) ? "row worse" : "row" }, el("span", {}, key),
        svg("svg", { "aria-hidden": "true" },
          whole ? svg("line", { class: "whole", x1: percent(scale, whole[VALUE]), x2: percent(scale, whole[VALUE]), y1: 0, y2: "100%" }) : null,
          others.map((other) => svg("circle", { class: "other", cx: percent(scale, other[VALUE]), cy: "50%", r: 2.6 })),
          entry[LOW] === null ? null : svg("line", { class: "range", x1: percent(scale, entry[LOW]), x2: percent(scale, entry[HIGH]), y1: "50%", y2: "50%" }),
          svg("circle", { class: "own", cx: percent(scale, entry[VALUE]), cy: "50%", r: 4 })),
        el("span", {}, number(name, entry[VALUE]))),
      () => [key + ": " + number(name, entry[VALUE]) + " " + interval(name, entry), own.label, entry[NUM] + " pictures"
        + (whole ? ", over all " + number(name, whole[VALUE]) : "")]);
    }));
  });
}

// ---- pictures

const pictureOf = (table, row, place) =>
  row.folder + "/" + (row.files ? row.files[place] : "images/" + encodeURIComponent(table.pictures[place][0]) + ".png");
const scoreOf = (row, name, place) => row.values[name] ? row.values[name][place] : null;

function image(table, row, place) {
  const id = table.pictures[place][0];
  if (row.inside?.[place]) return el("img", { src: row.inside[place], alt: id });
  if (!row.folder) return el("span", { class: "dim" }, "picture not kept here");
  const source = pictureOf(table, row, place);
  const made = el("img", { src: source, alt: id, loading: "lazy", decoding: "async", onerror: () => { made.alt = "not here: " + id; } });
  return el("a", { href: source, target: "_blank", rel: "noopener" }, made);
}

function card(table, row, place) {
  const [, who, prompt] = table.pictures[place];
  return el("figure", {}, image(table, row, place), el("figcaption", {}, who,
    el("div", { class: "numbers" }, table.scores.map((name) => el("span", { title: metric(name).label }, metric(name).label.split(" ")[0] + " " + number(name, scoreOf(row, name, place))))),
    el("div", { class: "dim" }, table.prompts[prompt].text)));
}

/** Cards, some at first and more on demand. */
function gallery(cards, kind, first) {
  const grid = el("div", { class: "pictures " + (kind || "") });
  const more = el("button", { class: "more" });
  let shown = 0;
  const grow = () => {
    const next = shown ? PICTURES : Math.min(first || PICTURES, PICTURES);
    grid.append(...cards.slice(shown, shown + next).map((make) => make()));
    shown += next;
    more.hidden = shown >= cards.length;
    more.textContent = "show " + Math.min(PICTURES, cards.length - shown) + " more";
  };
  more.addEventListener("click", grow);
  grow();
  return [grid, more];
}

const places = (table) => table.pictures.map((_, place) => place);

/** Those that lie in the page first, and how many they are. */
function insideFirst(list, ...rows) {
  const lies = (place) => rows.every((row) => row.inside?.[place]);
  const inside = list.filter(lies);
  return [[...inside, ...list.filter((place) => !lies(place))], inside.length];
}

function promptPicker(table, change) {
  return select("prompt", table.prompts.map((prompt, k) => [String(k), (prompt.category ? prompt.category + " · " : "") + prompt.text]), "0", change);
}

// ---- one row, and two side by side

function openDialog(title, below, inside) {
  const close = el("button", { "aria-label": "close", onclick: () => dialog.close() }, "✕");
  dialog.replaceChildren(el("div", { class: "top" }, el("div", {}, el("h2", { id: "dialog-title" }, title), below), close),
    el("div", { class: "inside" }, inside));
  tip.hidden = true;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => { document.body.append(tip); tip.hidden = true; });

function openRow(view, row) {
  const { table } = view;
  const said = row.marks.map(([word, text]) => el("p", { class: "dim" }, word + ": " + text));
  const standing = row.rank ? "rank " + rankText(row) + " in table " + table.number : "no rank: " + row.unranked;
  openDialog(row.label, [el("p", { class: "dim" }, standing + " · " + table.title), tags(row)], [
    said, scoreGrid(view, row), repeatSection(row),
    Object.keys(row.breakdown).length ? [el("h3", {}, "By prompt and by person"), el("p", { class: "dim" },
      "Dashed: over all pictures. Orange: the interval lies on the worse side of that."),
    el("div", { class: "panels" }, panels(view.visible.slice(0, PLOTTED), row, (groups) => view.groupMetric(groups)))] : null,
    row.folder ? pictureSections(table, row) : el("p", { class: "dim" }, row.values ? "Its pictures are not kept here, their scores are." : "No single pictures lie beside this record."),
    configSection(table, row), provenanceSection(row),
  ].flat(3));
}

function scoreGrid(view, row) {
  return el("div", { class: "scores" }, view.table.columns.filter((name) => row.cells[name]).map((name) => hover(el("div", { class: "score" },
    el("div", { class: "dim" }, heading(name)), el("b", {}, number(name, row.cells[name][VALUE])),
    el("span", { class: "dim" }, spread(name, row.cells[name]) + " " + interval(name, row.cells[name])),
    svg("svg", { class: "strip" }, mark(view.scales[name], row.cells[name], 2.6))), story(view.table, row, name))));
}

function repeatSection(row) {
  if (!row.command) return [el("h3", {}, "Repeat it"), el("p", { class: "dim" }, "The run does not say how it was started (no environment.json).")];
  const copied = el("button", { onclick: () => { navigator.clipboard?.writeText(row.command); copied.textContent = "copied"; } }, "copy");
  const commit = row.provenance.git_commit;
  return [el("h3", {}, "Repeat it"), el("div", { class: "command" }, el("pre", { id: "command" }, row.command), copied),
    commit ? el("p", { class: "dim" }, "at commit " + commit + (row.provenance.git_dirty === "True" ? ", with changes that were not committed" : "")) : null];
}

function pictureSections(table, row) {
  const byPrompt = el("div");
  const show = (prompt) => {
    const [order, inside] = insideFirst(places(table).filter((p) => table.pictures[p][2] === Number(prompt)), row);
    byPrompt.replaceChildren(...gallery(order.map((p) => () => card(table, row, p)), "", inside));
  };
  show("0");
  const worst = table.scores.filter((name) => row.values[name]).map((name) => {
    const known = places(table).filter((p) => scoreOf(row, name, p) !== null);
    const sign = metric(name).higher ? 1 : -1;
    const last = known.sort((a, b) => sign * (scoreOf(row, name, a) - scoreOf(row, name, b))).slice(0, WORST);
    const [order, inside] = insideFirst(last, row);
    return [el("h3", {}, "Worst " + metric(name).label), gallery(order.map((p) => () => card(table, row, p)), "worst", inside)].flat();
  });
  return [el("h3", {}, "Samples by prompt"), promptPicker(table, show), el("div", { style: "height:.6rem" }), byPrompt, ...worst.flat()];
}

function keyTable(entries, heads) {
  return el("div", { class: "scroll" }, el("table", { class: "plain" }, el("thead", {}, el("tr", {}, heads.map((text) => el("th", {}, text)))),
    el("tbody", {}, entries.map((cells) => el("tr", {}, cells.map((text) => el("td", {}, text)))))));
}

function configSection(table, row) {
  const own = Object.entries(row.config), shared = Object.entries(table.config);
  return [el("h3", {}, "Configuration"),
    own.length ? keyTable(own, [shared.length ? "setting (where rows differ)" : "setting", "value"]) : el("p", { class: "dim" }, "The same as every other row's."),
    shared.length ? el("details", { class: "notes" }, el("summary", {}, shared.length + " settings that all rows share"), keyTable(shared, ["setting", "value"])) : null];
}

function provenanceSection(row) {
  return [el("h3", {}, "Where it comes from"), el("dl", {}, Object.entries(row.provenance).flatMap(([key, value]) => [el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, value)]),
    row.records.length ? [el("dt", {}, row.records.length > 1 ? "records" : "record"),
      el("dd", {}, row.records.map((path) => el("div", {}, el("a", { href: path }, decodeURIComponent(path)))))] : null)];
}

function openPair(view, a, b) {
  const { table } = view;
  const metrics = table.columns.filter((name) => a.cells[name] && b.cells[name]).map((name) => {
    const shown = number(name, b.cells[name][VALUE] - a.cells[name][VALUE]);
    const cell = (row) => el("td", { class: "num" }, number(name, row.cells[name][VALUE]), " ", el("span", { class: "dim" }, interval(name, row.cells[name])));
    // What rounds to nothing has no sign.
    const change = Number(shown) === 0 ? shown.replace("-", "") : (Number(shown) > 0 ? "+" : "") + shown;
    return el("tr", {}, el("td", {}, heading(name)), cell(a), cell(b), el("td", { class: "num" }, change));
  });
  const keys = [...new Set([...Object.keys(a.config), ...Object.keys(b.config)])].filter((key) => a.config[key] !== b.config[key]);
  const inside = [
    el("div", { class: "scroll" }, el("table", { class: "plain sides" }, el("thead", {}, el("tr", {}, el("th", {}, ""), ["A", "B", "B − A"].map((text) => el("th", { class: "num" }, text)))), el("tbody", {}, metrics))),
    el("p", { class: "dim" }, "Intervals are each method's own and do not say which is better: `leaderboard diff A B` does, by the paired differences and their intervals."),
    el("h3", {}, "Settings that differ"),
    keys.length ? keyTable(keys.map((key) => [key, a.config[key] ?? "–", b.config[key] ?? "–"]), ["setting", "A", "B"]) : el("p", { class: "dim" }, "None."),
  ];
  if (a.folder && b.folder) inside.push(...pairSection(table, a, b));
  openDialog("Side by side", [el("p", {}, "A: " + a.label), el("p", {}, "B: " + b.label)], inside);
}

function pairSection(table, a, b) {
  const shown = el("div", { id: "pairs" });
  const change = (name, place) => {
    const [x, y] = [scoreOf(a, name, place), scoreOf(b, name, place)];
    return x === null || y === null ? 0 : (y - x) * (metric(name).higher ? 1 : -1);
  };
  const pair = (place) => {
    const [, who, prompt] = table.pictures[place];
    const line = (name) => el("div", { class: "numbers" }, el("span", {}, number(name, scoreOf(a, name, place))), el("span", {}, metric(name).label), el("span", {}, number(name, scoreOf(b, name, place))));
    return el("figure", { "data-id": table.pictures[place][0] }, el("div", { class: "pair" }, image(table, a, place), image(table, b, place)),
      el("figcaption", {}, table.scores.map(line), who, el("div", { class: "dim" }, table.prompts[prompt].text)));
  };
  const orders = [["", "as in the benchmark"], ...table.scores.flatMap((name) => [["b " + name, "B better in " + metric(name).label], ["a " + name, "A better in " + metric(name).label]])];
  const show = (value) => {
    const [side, name] = value.split(" ");
    const order = places(table);
    if (name) order.sort((p, q) => (side === "b" ? 1 : -1) * (change(name, q) - change(name, p)));
    const [sorted, inside] = insideFirst(order, a, b);
    shown.replaceChildren(...gallery(sorted.map((place) => () => pair(place)), "pairs", inside));
  };
  const first = orders[1] ? orders[1][0] : "";
  show(first);
  return [el("h3", {}, "Picture by picture"), el("p", { class: "dim" }, "A on the left, B on the right."), select("order of pictures", orders, first, show), el("div", { style: "height:.6rem" }), shown];
}

// ---- the page

function quotedSection(quoted) {
  return el("section", { class: "board quoted" }, el("h2", {}, "Quoted: " + quoted.title),
    el("p", { class: "dim" }, "Not measured here. " + quoted.notes.join(". ")), keyTable(quoted.rows, quoted.head));
}

const views = data.tables.map((table) => new View(table));
for (const view of views) {
  document.getElementById("tables").append(view.element, ...data.quoted.filter((q) => q.beside === view.table.number).map(quotedSection));
  document.getElementById("nav").append(el("a", { href: "#table-" + view.table.number }, view.table.number + ". " + view.table.name));
}
document.getElementById("tables").append(...data.quoted.filter((q) => !q.beside).map(quotedSection));
views.forEach((view) => view.watch());
const total = data.tables.reduce((sum, table) => sum + table.rows.length, 0);
document.getElementById("summary").textContent = total + (total === 1 ? " method in " : " methods in ") + data.tables.length
  + (data.tables.length === 1 ? " table" : " tables") + "; numbers share a table only where benchmark, metric version and recogniser agree.";
document.getElementById("nav").hidden = data.tables.length < 2;
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && views.length && !dialog.open && !event.target.closest?.("input,select,textarea")) {
    event.preventDefault();
    views[0].search.focus();
  }
});
