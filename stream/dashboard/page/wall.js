// The wall: one card per alert, kept while it is shown, so that nothing flickers and the focus stays where it is.

import { byId, el, setText } from "./dom.js";
import { ago, score } from "./format.js";
import { chips, gauge, triplet, truth, verdict } from "./stamps.js";

const wall = byId("wall");
const cards = new Map();
let onOpen = () => {};
let current = null;

export const opens = (listener) => {
  onOpen = listener;
};

export const numbers = () => [...wall.children].map((card) => Number(card.dataset.number));

export function clear() {
  cards.clear();
  wall.replaceChildren();
  current = null;
}

export function show(run, alerts) {
  const wanted = new Set(alerts.map((alert) => alert.number));
  const had = cards.size > 0;
  for (const [number, card] of cards) {
    if (!wanted.has(number)) {
      card.remove();
      cards.delete(number);
    }
  }
  alerts.forEach((alert, place) => {
    let card = cards.get(alert.number);
    if (!card) {
      card = make(run, alert);
      if (had) card.classList.add("fresh");
      cards.set(alert.number, card);
    }
    if (wall.children[place] !== card) wall.insertBefore(card, wall.children[place] ?? null);
  });
  for (const card of wall.children) setText(card.querySelector(".age"), ago(Number(card.dataset.written)));
  if (!cards.has(current)) current = alerts[0]?.number ?? null;
  for (const [number, card] of cards) card.tabIndex = number === current ? 0 : -1;
}

function make(run, alert) {
  const name = alert.object_id ?? alert.alert_id;
  const known = truth(alert);
  return el(
    "button",
    {
      type: "button",
      class: "card",
      "data-number": alert.number,
      "data-written": alert.written_ms,
      "aria-label": `${name}, ${alert.survey}, score ${score(alert.score)}, ${verdict(alert)}${alert.flags.length ? `, flags ${alert.flags.join(", ")}` : ""}`,
      on: { click: () => onOpen(alert.number), focus: () => settle(alert.number) },
    },
    triplet(run, alert),
    gauge(alert.score),
    el(
      "span",
      { class: "line" },
      el("span", { class: "score" }, score(alert.score)),
      el("span", { class: "label" }, verdict(alert)),
      el("span", { class: "chips" }, chips(alert.flags)),
    ),
    el(
      "span",
      { class: "line dim" },
      el("span", { class: "name" }, name),
      el("span", {}, alert.survey),
      el("span", { class: "age" }),
    ),
    known ? el("span", { class: "line dim truth" }, known) : null,
  );
}

function settle(number) {
  cards.get(current)?.setAttribute("tabindex", "-1");
  current = number;
  cards.get(current)?.setAttribute("tabindex", "0");
}

export function focus(number = current) {
  cards.get(number)?.focus();
}

wall.addEventListener("keydown", (event) => {
  const all = [...wall.children];
  const here = all.indexOf(document.activeElement);
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const columns = all.filter((card) => card.offsetTop === all[0].offsetTop).length;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -here, End: all.length - 1 - here };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const there = all[here + moves[event.key]];
  there?.focus();
  there?.scrollIntoView({ block: "nearest" });
});
