"use strict";
// Data comes from the page's own JSON; text goes in by textContent and value only, so nothing is taken for HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const control = (id) => document.getElementById(id);

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function image(source, description) {
  const made = element("img");
  made.src = source;
  made.alt = description;
  made.loading = "lazy";
  return made;
}

