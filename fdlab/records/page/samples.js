const byId = new Map(data.pictures.map((picture) => [picture.id, picture]));
const STEP = 60;

function small(source, caption) {
  const figure = element("figure");
  if (source) figure.append(image(source, caption));
  figure.append(element("figcaption", "", caption));
  return figure;
}

function card(picture, picked) {
  const made = element("article", picture.mistakes.length ? "card wrong" : "card");
  made.dataset.id = picture.id;
  const pair = element("div", "pair");
  const side = element("div", "small");
  for (const subject of picture.subjects) side.append(small(data.references[subject], "asked: " + subject));
  for (const { nearest } of picture.mistakes) side.append(small(data.references[nearest], "nearest: " + nearest));
  const frame = element("a", "frame");
  frame.href = picture.file;
  frame.title = "open the whole picture";
  frame.append(image(picture.thumbnail, "drawn: " + picture.text));
  for (const face of picture.faces) {
    const box = element("span", "box");
    ["left", "top", "width", "height"].forEach((key, i) => { box.style[key] = face.box[i] + "%"; });
    frame.append(box);
  }
  pair.append(side, frame);
  made.append(pair, element("h3", "", picture.text));
  if (picture.state === "none" || picture.state === "few") {
    made.append(element("p", "tag", data.states.find(([key]) => key === picture.state)[1]));
  }
  for (const { asked, nearest } of picture.mistakes) {
    made.append(element("p", "tag", "nearer to " + nearest + " than to " + asked));
  }
  const list = element("dl");
  for (const score of data.scores) {
    const value = picture.scores[score.key];
    const name = score.key === picked ? "picked" : "";
    list.append(
      element("dt", name, score.label + (score.higher ? " ↑" : " ↓")),
      element("dd", name, value === undefined ? "–" : value.toFixed(score.decimals)),
    );
  }
  for (const face of picture.faces) {
    list.append(element("dt", "", "face detector"), element("dd", "", face.confidence.toFixed(3)));
  }
  made.append(list);
  made.append(
    element("p", "seed", [picture.subjects.join(" + "), picture.prompt, picture.category].filter(Boolean).join(" · ")),
    element("p", "seed", "seed " + picture.seed),
  );
  return made;
}

function fill(select, entries) {
  for (const [value, text] of entries) {
    const option = element("option", "", text);
    option.value = value;
    select.append(option);
  }
}

const categories = [...new Set(data.pictures.map((picture) => picture.category))];

function matching() {
  const subject = control("subject").value;
  const wanted = ["category", "prompt", "state"].map((key) => [key, control(key).value]);
  return data.pictures.filter((picture) =>
    (subject === "" || picture.subjects.includes(subject)) &&
    wanted.every(([key, value]) => value === "" || picture[key] === value));
}

function sorted(pictures, key, order) {
  const score = data.scores.find((entry) => entry.key === key);
  if (!score) return pictures;
  const sign = (order === "best") === score.higher ? -1 : 1;
  // Pictures without the score come last either way; equal ones keep the benchmark's order.
  return [...pictures].sort((a, b) => {
    const x = a.scores[key], y = b.scores[key];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (x - y);
  });
}

let limit = STEP;
function show() {
  const key = control("sort").value;
  const found = sorted(matching(), key, control("order").value);
  control("all").replaceChildren(...found.slice(0, limit).map((picture) => card(picture, key)));
  control("count").textContent = found.length + " of " + data.pictures.length + " pictures";
  control("more").hidden = found.length <= limit;
  control("more").textContent = "show " + Math.min(STEP, found.length - limit) + " more";
}

function restart() {
  limit = STEP;
  show();
}

for (const section of data.sections) {
  const made = element("section");
  made.id = section.id;
  made.append(element("h2", "", section.title), element("p", "dim", section.note));
  const strip = element("div", "strip");
  strip.append(...section.pictures.map((id) => card(byId.get(id), section.score)));
  if (section.pictures.length) made.append(strip);
  if (section.state && section.num > section.pictures.length) {
    const button = element("button", "", "show all " + section.num);
    button.addEventListener("click", () => {
      for (const key of ["subject", "category", "prompt"]) control(key).value = "";
      control("state").value = section.state;
      restart();
      control("explore").scrollIntoView();
    });
    made.append(button);
  }
  control("sections").append(made);
  const link = element("a", "", section.title);
  link.href = "#" + section.id;
  control("nav").append(link);
}

fill(control("sort"), [["", "as in the benchmark"], ...data.scores.map((score) => [score.key, score.label])]);
fill(control("order"), [["best", "best first"], ["worst", "worst first"]]);
fill(control("subject"), [["", "all"], ...data.subjects.map((id) => [id, id])]);
fill(control("category"), [["", "all"], ...categories.map((id) => [id, id || "(none)"])]);
fill(control("prompt"), [["", "all"], ...data.prompts.map((prompt) => [prompt.id, prompt.id + " · " + prompt.text])]);
fill(control("state"), [["", "all"], ...data.states]);
for (const id of ["sort", "order", "subject", "category", "prompt", "state"]) control(id).addEventListener("change", restart);
control("boxes").addEventListener("change", () => document.body.classList.toggle("noboxes", !control("boxes").checked));
control("more").addEventListener("click", () => { limit += STEP; show(); });
show();
