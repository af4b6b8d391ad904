// Small charts without axes of their own: the reading above and the line below say what they show.

import { el, setText, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 48;
const HEAD = 4;

function canvas(plot) {
  let drawing = plot.querySelector("svg");
  if (!drawing) {
    drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    plot.append(drawing, el("span", { class: "top" }));
  }
  return drawing;
}

// A step line over the last ten minutes, filled to the ground; gaps where nothing is known. What is faint behind it
// may run out at the top: one late alert must not flatten the line.
export function trace(plot, series, { length = series.length, faint = null, unit = "" } = {}) {
  const drawing = canvas(plot);
  const top = Math.max(...series, 0) * (faint ? 1.5 : 1);
  const step = WIDTH / Math.max(1, length);
  const y = (value) => (HEIGHT - 1 - (top ? Math.min(1, value / top) * (HEIGHT - HEAD) : 0)).toFixed(1);
  const shift = length - series.length;
  const line = (values, ground) => {
    let path = "";
    let open = false;
    values.forEach((value, i) => {
      const [left, right] = [(i + shift) * step, (i + shift + 1) * step].map((x) => x.toFixed(1));
      if (value === null) {
        if (open && ground) path += `V${HEIGHT}`;
        open = false;
        return;
      }
      path += open ? `V${y(value)}H${right}` : `M${left} ${ground ? HEIGHT : y(value)}V${y(value)}H${right}`;
      open = true;
    });
    return open && ground ? `${path}V${HEIGHT}` : path;
  };
  const parts = [];
  if (faint) parts.push(svg("path", { class: "faint", d: line(faint, true) }));
  parts.push(svg("path", { class: "area", d: line(series, true) }), svg("path", { class: "line", d: line(series, false) }));
  drawing.replaceChildren(...parts);
  setText(plot.querySelector(".top"), top ? `${top >= 100 ? Math.round(top) : Number(top.toPrecision(2))}${unit}` : "");
}

// Counts of scores between 0 and 1, all that are held and those that are picked, on a logarithmic scale.
export function histogram(plot, held, picked) {
  const drawing = canvas(plot);
  const top = Math.log1p(Math.max(...held, 1));
  const step = WIDTH / held.length;
  const bars = (counts, kind) =>
    counts.flatMap((number, i) => {
      const tall = (Math.log1p(number) / top) * (HEIGHT - HEAD);
      return number
        ? [svg("rect", { class: kind, x: (i * step + 0.4).toFixed(2), y: (HEIGHT - tall).toFixed(2), width: (step - 0.8).toFixed(2), height: tall.toFixed(2) })]
        : [];
    });
  drawing.replaceChildren(...bars(held, "held"), ...bars(picked, "picked"));
}

// Picking a range of scores by dragging; the two number fields do the same by keyboard.
export function brush(plot, bins, changed) {
  const shade = el("span", { class: "shade", hidden: true });
  plot.append(shade);
  let from = null;
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const range = (to) => {
    const [low, high] = [Math.min(from, to), Math.max(from, to)];
    return [Math.floor(low * bins) / bins, Math.ceil(high * bins) / bins];
  };
  const show = ([low, high]) => {
    shade.hidden = low <= 0 && high >= 1;
    shade.style.left = `${100 * low}%`;
    shade.style.width = `${100 * (high - low)}%`;
  };
  plot.addEventListener("pointerdown", (event) => {
    from = at(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (from !== null) show(range(at(event)));
  });
  plot.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const click = Math.abs(at(event) - from) < 0.01;
    changed(...(click ? [0, 1] : range(at(event))));
    from = null;
  });
  plot.addEventListener("pointercancel", () => {
    from = null;
  });
  return show;
}
