"use strict";
// What the scripts of a run's page share.
const report = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function options(select, pairs, chosen) {
  for (const [value, text] of pairs) select.add(new Option(text, value, value === chosen, value === chosen));
}

function number(value, digits = 4) {
  if (value === null || value === undefined) return "";
  if (Number.isInteger(value)) return value.toLocaleString("en").replaceAll(",", "\u202f");
  return String(Number(value.toPrecision(digits)));
}
