// What could not be scored, and why.

import { byId, el } from "./dom.js";
import { ago, count, utc } from "./format.js";

let picked = "";
let last = null;

export function show(view) {
  last = view;
  if (!(picked in view.reasons)) picked = "";
  const reasons = Object.entries(view.reasons).sort((one, other) => other[1] - one[1]);
  byId("reasons").replaceChildren(...reasons.map(([reason, number]) => button(reason, number)));
  const letters = view.letters.filter((letter) => !picked || letter.reason === picked);
  byId("letters").replaceChildren(...letters.map(row));
  byId("none-rejected").hidden = letters.length > 0;
  document.querySelector(".letters").hidden = letters.length === 0;
}

function button(reason, number) {
  return el(
    "button",
    {
      type: "button",
      "aria-pressed": String(reason === picked),
      on: {
        click: () => {
          picked = reason === picked ? "" : reason;
          show(last);
          [...byId("reasons").children].find((other) => other.dataset.reason === reason)?.focus();
        },
      },
      "data-reason": reason,
    },
    el("span", {}, reason),
    el("span", { class: "count" }, count(number)),
  );
}

function row(letter) {
  const cell = (name, ...content) => el("td", { "data-name": name }, el("span", {}, ...content));
  return el(
    "tr",
    {},
    cell("When", el("span", { title: `${utc(letter.written_ms)} UTC` }, `${ago(letter.written_ms)} ago`)),
    cell("Reason", el("span", { class: "chip" }, letter.reason)),
    cell("What was found", letter.field ? el("code", {}, letter.field) : null, letter.field ? ": " : null, letter.detail),
    cell("Survey", letter.survey || "–"),
    cell("Alert", letter.alert_id ? el("code", {}, letter.alert_id) : "–"),
    cell("Source", el("code", {}, letter.source)),
    el("td", { "data-name": "Bytes", class: "right" }, el("span", {}, count(letter.size_bytes))),
  );
}
