// The three stamps of an alert, and what stands in for one that is not there.

import { el } from "./dom.js";

const PLANES = ["science", "template", "difference"];

export function triplet(run, alert, describe = () => null) {
  return el(
    "span",
    { class: "triplet" },
    PLANES.map((plane) =>
      el(
        "span",
        { class: "plane" },
        alert.planes[plane]
          ? el("span", { class: "absent" }, alert.planes[plane].replaceAll("_", " "))
          : el("img", { src: `/stamps/${run}/${alert.number}/${plane}`, alt: plane, draggable: "false", decoding: "async" }),
        describe(plane),
      ),
    ),
  );
}

export const gauge = (score) => {
  const bar = el("span", { class: "gauge", "aria-hidden": "true" }, el("span"));
  bar.firstChild.style.width = `${100 * score}%`;
  return bar;
};

export const chips = (flags) => flags.map((flag) => el("span", { class: "chip" }, flag));

export const verdict = (alert) => (alert.kind ? `${alert.label}: ${alert.kind.replaceAll("_", " ")}` : alert.label);

export function truth(alert) {
  if (!("real" in alert.truth)) return null;
  const what = alert.truth.real ? ["real", alert.truth.kind] : ["bogus", alert.truth.cause];
  return `simulated: ${what.filter(Boolean).join(", ").replaceAll("_", " ")}`;
}
