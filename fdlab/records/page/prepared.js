const drop = new Set(data.given.drop);
const captions = new Map(Object.entries(data.given.captions));
// A face's person: a name given by hand, else "#" and the number that was found.
const person = new Map();
const chosen = new Set();
const faces = data.pictures.flatMap((picture) => picture.people);
for (const face of faces) person.set(face.face, data.given.identities[face.face] ?? "#" + face.identity);

function newName() {
  const used = new Set([...person.values(), ...Object.values(data.given.identities)]);
  let number = 1;
  while (used.has("person " + number)) number += 1;
  return "person " + number;
}

function showPeople() {
  const groups = new Map();
  for (const face of faces) {
    const name = person.get(face.face);
    groups.set(name, [...(groups.get(name) ?? []), face]);
  }
  const rows = [...groups].sort((a, b) => b[1].length - a[1].length);
  control("people").replaceChildren(...rows.map(([name, members]) => {
    const row = element("div", "person");
    row.append(element("span", "dim", name));
    for (const face of members) {
      const button = element("button", "face");
      button.dataset.face = face.face;
      button.setAttribute("aria-pressed", chosen.has(face.face));
      button.append(image(face.image, "a face of " + name));
      button.addEventListener("click", () => {
        if (!chosen.delete(face.face)) chosen.add(face.face);
        button.setAttribute("aria-pressed", chosen.has(face.face));
      });
      row.append(button);
    }
    return row;
  }));
}

function merge() {
  const names = new Set([...chosen].map((face) => person.get(face)));
  if (names.size < 2) return say("Choose faces of two persons at least.");
  const name = [...names].find((one) => !one.startsWith("#")) ?? newName();
  for (const [face, one] of person) if (names.has(one)) person.set(face, name);
  settle(names.size + " persons are one now.");
}

function split() {
  if (!chosen.size) return say("Choose faces first.");
  const name = newName();
  for (const face of chosen) person.set(face, name);
  settle(chosen.size + " faces are " + name + " now.");
}

function settle(text) {
  chosen.clear();
  showPeople();
  say(text + " Not saved yet.");
}

function say(text) {
  control("said").textContent = text;
}

function card(picture) {
  const made = element("article", drop.has(picture.key) ? "card gone" : "card");
  made.dataset.key = picture.key;
  made.append(image(picture.image, picture.caption));
  const text = element("textarea");
  text.value = captions.get(picture.key) ?? picture.caption;
  text.setAttribute("aria-label", "caption of " + picture.photo);
  text.addEventListener("change", () => {
    if (text.value.trim() && text.value !== picture.caption) captions.set(picture.key, text.value.trim());
    else captions.delete(picture.key);
  });
  const unnamed = picture.people.filter((one) => !one.named).length;
  const about = [picture.photo, picture.how, picture.held ? "held out" : "", unnamed ? unnamed + " without a noun" : ""];
  const box = element("input");
  box.type = "checkbox";
  box.checked = drop.has(picture.key);
  box.addEventListener("change", () => {
    if (box.checked) drop.add(picture.key);
    else drop.delete(picture.key);
    made.classList.toggle("gone", box.checked);
  });
  const label = element("label");
  label.append(box, " drop this picture");
  made.append(text, element("p", "dim", about.filter(Boolean).join(" · ")), label);
  return made;
}

function corrections() {
  // What is given for pictures that are not on this page is kept.
  const identities = { ...data.given.identities };
  for (const [face, name] of person) if (!name.startsWith("#")) identities[face] = name;
  return { version: 1, drop: [...drop].sort(), captions: Object.fromEntries(captions), identities };
}

function save() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(corrections(), null, 2) + "\n"], { type: "application/json" }));
  link.download = "corrections.json";
  link.click();
  URL.revokeObjectURL(link.href);
  say("Saved. Put the file beside this page, and run the same command again.");
}

control("merge").addEventListener("click", merge);
control("split").addEventListener("click", split);
control("save").addEventListener("click", save);
showPeople();
control("pictures").replaceChildren(...data.pictures.map(card));
control("dropped").replaceChildren(...data.dropped.map((one) => element("p", "dim", one.photo + ": " + one.reason)));
