// The page's clockwork: it asks every two seconds, and holds still while someone looks.

import { get } from "./api.js";
import { brush, histogram, trace } from "./charts.js";
import * as detail from "./detail.js";
import { byId, el, setText } from "./dom.js";
import { count, short } from "./format.js";
import * as rejected from "./rejected.js";
import * as wall from "./wall.js";

const PERIOD_MS = 2000;
const PAGE = 60;
const BINS = 40;
const NO_FLAG = "-";
const ANY_FLAG = "*";

const form = byId("filter");
let run = "";
let most = PAGE;
let paused = false;
let view = "wall";
let held = [];

// ---- how the stream does ----

function showState(state) {
  if (run && run !== state.run) wall.clear();
  run = state.run;
  held = state.scores;
  setText(byId("where"), state.where);
  if (state.complaint) health("bad", state.complaint);
  else if (beingLookedAt()) health("good", "live · held");
  else health("good", "live");
  const length = state.rate.series.length;

  reading("rate", short(state.rate.now));
  trace(plot("rate"), state.rate.series, { length });
  const { scored, degraded, rejected: dead } = state.totals;
  foot("rate", `${count(scored)} scored, ${count(degraded)} flagged, ${count(dead)} rejected in 10 min`);

  reading("lag", state.lag.now === null ? "–" : count(state.lag.now));
  trace(plot("lag"), state.lag.series, { length });
  const partitions = Object.entries(state.lag.partitions).sort((one, other) => other[1] - one[1]);
  const [worst] = partitions;
  foot("lag", !state.lag.known ? "not known: no topics given" : !worst ? "cannot be read now" : worst[1] ? `most on ${worst[0]}` : `on none of ${count(partitions.length)} partitions`);

  reading("latency", short(state.latency.p50));
  trace(plot("latency"), state.latency.series50, { length, faint: state.latency.series99, unit: " s" });
  foot("latency", state.latency.p99 === null ? "from published to annotated" : `99 % within ${short(state.latency.p99)} s, published to annotated`);

  reading("scores", count(state.held));
  setText(byId("tab-wall").querySelector(".count"), count(state.held));
  setText(byId("tab-rejected").querySelector(".count"), count(state.rejected));
  choices(form.elements.class, { ...state.classes, ...state.kinds }, [["", "any"]]);
  choices(form.elements.survey, state.surveys, [["", "any"]]);
  choices(form.elements.flag, state.flags, [["", "any or none"], [NO_FLAG, "none"], [ANY_FLAG, "at least one"]]);
}

const plot = (id) => byId(id).querySelector(".plot");
const reading = (id, text) => setText(byId(id).querySelector(".reading b"), text);
const foot = (id, text) => setText(byId(id).querySelector(".foot"), text);

function health(kind, words) {
  byId("health").dataset.kind = kind;
  setText(byId("health").querySelector(".words"), words);
}

function choices(select, counts, first) {
  const wanted = [...first, ...Object.entries(counts).map(([name, number]) => [name, `${name} (${count(number)})`])];
  if (select.value && !wanted.some(([value]) => value === select.value)) wanted.push([select.value, `${select.value} (0)`]);
  const known = [...select.options].map((option) => option.value + option.text).join("\n");
  if (known === wanted.map(([value, text]) => value + text).join("\n")) return;
  const { value } = select;
  select.replaceChildren(...wanted.map(([name, text]) => el("option", { value: name }, text)));
  select.value = value;
}

// ---- the wall ----

function wish() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) query.set(name, value.trim());
  return query;
}

function showWall(answer) {
  const picked = wish().size - (wish().has("order") ? 1 : 0) > 0;
  histogram(plot("scores"), held, answer.scores);
  setText(byId("matched"), picked ? `${count(answer.matched)} of ${count(answer.held)}` : "");
  wall.show(answer.run, answer.alerts);
  byId("more").hidden = answer.alerts.length >= answer.matched || answer.alerts.length < most;
  byId("nothing").hidden = answer.matched > 0;
  setText(byId("nothing"), answer.held ? "No alert that is held fits the filter." : "No alerts yet: they show here as they are annotated.");
}

// Newest first, the wall runs on; it must not run away under a pointer or from a reader.
const beingLookedAt = () =>
  detail.isOpen() || (matchMedia("(hover: hover)").matches && byId("wall").matches(":hover")) || byId("wall").matches(":has(:focus-visible)");

async function refresh({ force = false } = {}) {
  if (!run || (!force && (paused || beingLookedAt()))) return;
  if (view === "rejected") return rejected.show(await get("/api/rejected"));
  const query = wish();
  query.set("most", most);
  showWall(await get(`/api/alerts?${query}`));
}

async function turn() {
  try {
    if (!document.hidden) {
      if (!paused) showState(await get("/api/state"));
      await refresh({ force: !byId("wall").childElementCount });
    }
  } catch (error) {
    health("bad", error.name === "TypeError" ? "the server does not answer" : error.message);
  }
  setTimeout(turn, PERIOD_MS);
}

// ---- the filter ----

const shadeRange = brush(plot("scores"), BINS, (low, high) => {
  form.elements.low.value = low > 0 ? low : "";
  form.elements.high.value = high < 1 ? high : "";
  changed();
});

function remember() {
  const query = wish().toString();
  history.replaceState(null, "", query ? `#${query}` : location.pathname);
}

function recall() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    const field = form.elements[name];
    if (!field) continue;
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) field.append(el("option", { value }, value));
    field.value = value;
  }
}

function changed() {
  most = PAGE;
  shadeRange([Number(form.elements.low.value || 0), Number(form.elements.high.value || 1)]);
  remember();
  refresh({ force: true }).catch((error) => health("bad", error.message));
}

form.addEventListener("input", changed);
form.addEventListener("reset", () => setTimeout(changed));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  wall.focus();
});
form.querySelector(".unfold").addEventListener("click", (event) => {
  const open = event.target.getAttribute("aria-expanded") !== "true";
  event.target.setAttribute("aria-expanded", String(open));
});
byId("more").addEventListener("click", () => {
  most += PAGE;
  refresh({ force: true });
});

// ---- views, theme, pause, keys ----

function choose(name) {
  view = name;
  for (const tab of ["wall", "rejected"]) {
    byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    byId(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  byId("candidates").hidden = name !== "wall";
  byId("rejected").hidden = name !== "rejected";
  refresh({ force: true });
}

function pause() {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  setText(byId("pause"), paused ? "Go on" : "Pause");
  health(paused ? "paused" : "good", paused ? "paused" : "live");
}

const THEMES = ["", "light", "dark"];

function theme(next) {
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("theme", next);
  setText(byId("theme"), `◐ ${next ? next[0].toUpperCase() + next.slice(1) : "Auto"}`);
}

const nextTheme = () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length]);

byId("tab-wall").addEventListener("click", () => choose("wall"));
byId("tab-rejected").addEventListener("click", () => choose("rejected"));
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  choose(view === "wall" ? "rejected" : "wall");
  byId(`tab-${view}`).focus();
});
byId("pause").addEventListener("click", pause);
byId("theme").addEventListener("click", nextTheme);
byId("keys").addEventListener("click", () => byId("help").showModal());

const KEYS = {
  "/": () => {
    choose("wall");
    form.elements.text.select();
    form.elements.text.focus();
  },
  p: pause,
  r: () => choose(view === "wall" ? "rejected" : "wall"),
  t: nextTheme,
  "?": () => byId("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select");
  if (event.key === "Escape" && typing && form.contains(event.target)) {
    form.reset();
    event.target.blur();
    wall.focus();
  } else if (event.key in KEYS && !typing) {
    event.preventDefault();
    KEYS[event.key]();
  } else if (event.key.startsWith("Arrow") && document.activeElement === document.body && view === "wall") {
    event.preventDefault();
    wall.focus();
  }
});

wall.opens((number) => detail.open(run, number).catch((error) => health("bad", error.message)));
// The browser gives the focus back to the card, unless that has gone.
byId("detail").addEventListener("close", () => document.activeElement === document.body && wall.focus());
theme(document.documentElement.dataset.theme ?? "");
recall();
shadeRange([Number(form.elements.low.value || 0), Number(form.elements.high.value || 1)]);
turn();
