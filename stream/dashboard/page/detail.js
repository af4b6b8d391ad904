// One alert: its stamps large, what is said of it, what it is like, and its packet.

import { get } from "./api.js";
import { byId, el } from "./dom.js";
import { FLAGS, count, degrees, hours, score, utc } from "./format.js";
import { chips, gauge, triplet, truth, verdict } from "./stamps.js";
import { numbers } from "./wall.js";

const dialog = byId("detail");
let shown = null;
let run = "";

export const isOpen = () => dialog.open;

export async function open(ofRun, number) {
  run = ofRun;
  shown = number;
  const alert = await get(`/api/${run}/alerts/${number}`);
  if (shown !== number) return;
  dialog.replaceChildren(...(alert ? content(alert) : gone()));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelector(".close").focus();
}

const close = () => el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", on: { click: () => dialog.close() } }, "×");

const gone = () => [
  el("header", {}, el("h2", { id: "detail-title" }, "Not held any more"), el("span", { class: "steps" }, close())),
  el("p", { class: "nothing" }, "Newer alerts have taken its place."),
];

function step(by) {
  const all = numbers();
  const next = all[all.indexOf(shown) + by];
  if (next !== undefined && (all.includes(shown) || by > 0)) open(run, next);
}

function content(alert) {
  const known = truth(alert);
  return [
    el(
      "header",
      {},
      el(
        "div",
        {},
        el("h2", { id: "detail-title" }, alert.object_id ?? alert.alert_id),
        el("p", { class: "dim" }, [alert.survey, alert.object_id ? alert.alert_id : null, alert.schema_version ? `schema ${alert.schema_version}` : null].filter(Boolean).join(" · ")),
      ),
      el(
        "span",
        { class: "steps" },
        el("button", { type: "button", "aria-label": "The one before", title: "The one before (←)", on: { click: () => step(-1) } }, "←"),
        el("button", { type: "button", "aria-label": "The one after", title: "The one after (→)", on: { click: () => step(1) } }, "→"),
        close(),
      ),
    ),
    el("div", { class: "large" }, triplet(run, alert, (plane) => el("span", { class: "caption" }, caption(alert, plane)))),
    el(
      "div",
      { class: "verdict" },
      el(
        "div",
        {},
        el("p", { class: "big" }, el("b", {}, score(alert.score)), el("span", {}, verdict(alert))),
        el("p", { class: "dim" }, `log-odds ${alert.logit.toFixed(2).replace("-", "−")}${spread(alert)} · ${alert.classifier}`),
        known ? el("p", { class: "dim truth" }, known) : null,
      ),
      el("div", { class: "classes" }, bars(alert.classes), bars(alert.kinds)),
    ),
    alert.flags.length ? el("ul", { class: "flags" }, alert.flags.map((flag) => el("li", {}, chips([flag]), ` ${FLAGS[flag] ?? ""}`))) : null,
    el("dl", { class: "facts" }, facts(alert).flatMap(([name, ...value]) => [el("dt", {}, name), el("dd", {}, ...value)])),
    section("Nearest by embedding", el("p", { class: "note" }, "by cosine similarity, among the alerts that are held"), neighbours(alert)),
    ...alert.annotations.map((rows, i) => section(i ? "Annotation, earlier" : "Annotation", table(rows.map(dated)))),
    section("Packet", searchable(alert.fields)),
  ].filter(Boolean);
}

function spread(alert) {
  return alert.spread === null ? "" : `, spread ${alert.spread.toFixed(2)}`;
}

function bars(shares) {
  const sorted = Object.entries(shares).sort((one, other) => other[1] - one[1]);
  return el("ul", {}, sorted.map(([label, share]) => el("li", {}, el("span", {}, label.replaceAll("_", " ")), gauge(share), el("span", { class: "number" }, score(share)))));
}

function caption(alert, plane) {
  const shape = alert.shapes[plane];
  const missing = alert.missing_pixels[plane];
  return `${plane}${shape ? ` ${shape[1]} × ${shape[0]}` : ""}${missing ? `, ${count(missing)} without a value` : ""}`;
}

function facts(alert) {
  const rows = [];
  if (alert.ra !== null && alert.dec !== null) {
    rows.push(["Position", `${hours(alert.ra)} ${degrees(alert.dec)}`, el("small", {}, `${alert.ra.toFixed(6)}°, ${alert.dec.toFixed(6).replace("-", "−")}°`)]);
  }
  if (alert.mjd_tai !== null) rows.push(["Exposure", `MJD ${alert.mjd_tai.toFixed(5)}`, el("small", {}, "TAI, its middle")]);
  if (alert.negative !== null) rows.push(["Sign", alert.negative ? "fainter than the template" : "brighter than the template"]);
  rows.push(["Written", utc(alert.written_ms), el("small", {}, alert.latency_s === null ? "UTC" : `UTC, ${alert.latency_s.toFixed(2)} s after it was published`)]);
  rows.push(["Source", el("code", {}, alert.source)], ["Output", el("code", {}, alert.output), el("small", {}, `${count(alert.bytes)} bytes`)]);
  return rows;
}

function section(title, ...content) {
  return el("section", {}, el("h3", {}, title), ...content);
}

function neighbours(alert) {
  if (!alert.neighbours.length) return el("p", { class: "dim" }, "No other alert that is held has an embedding of the same model.");
  return el(
    "div",
    { class: "near" },
    alert.neighbours.map((other) =>
      el(
        "button",
        {
          type: "button",
          class: "card",
          "aria-label": `${other.object_id ?? other.alert_id}, similarity ${other.similarity.toFixed(3)}, score ${score(other.score)}`,
          on: { click: () => open(run, other.number) },
        },
        triplet(run, other),
        gauge(other.score),
        el("span", { class: "line" }, el("span", { class: "score" }, score(other.score)), el("span", { class: "label" }, (other.kind || other.label).replaceAll("_", " ")), el("span", { class: "similarity", title: "cosine similarity" }, other.similarity.toFixed(3))),
        el("span", { class: "line dim" }, el("span", { class: "name" }, other.object_id ?? other.alert_id), el("span", {}, other.survey)),
        truth(other) ? el("span", { class: "line dim truth" }, truth(other)) : null,
      ),
    ),
  );
}

// The annotation's one time, microseconds since 1970.
const dated = ([name, value]) => [name, name === "classified_at" ? `${utc(Number(value) / 1000)} UTC` : value];

function table(rows) {
  return el("table", { class: "fields" }, el("tbody", {}, rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: value === null ? "null" : "" }, value ?? "null")))));
}

function searchable(rows) {
  const body = table(rows);
  const find = el("input", {
    type: "search",
    class: "find-field",
    placeholder: `find among ${rows.length} fields`,
    "aria-label": "Find a field",
    spellcheck: "false",
    on: {
      input: () => {
        const text = find.value.trim().toLowerCase();
        for (const row of body.querySelectorAll("tr")) row.hidden = !row.firstChild.textContent.toLowerCase().includes(text);
      },
    },
  });
  return [find, body];
}

dialog.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
