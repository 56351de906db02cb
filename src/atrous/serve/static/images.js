// The images of the page: they wait in line, are sent one at a time, and stay in the strip with
// their results.

import { count, segment } from "./api.js";
import { readConfidence, readImage } from "./image.js";
import { showLegend } from "./legend.js";
import { decodeMask, findBorders, parseColor } from "./mask.js";
import { say, showError } from "./messages.js";
import { chooseModel, limits, models, picker } from "./model.js";
import { show } from "./viewer.js";

const find = (selector) => document.querySelector(selector);
const strip = find(".strip"), waiting = [];
export let shown = null; // the image on the stage
let running = null;

export async function addFiles(files) {
  if (!models.length) return showError("The models are still loading. Try again in a moment.");
  showError("");
  let first = true;
  for (const file of files) {
    try {
      const image = { ...await readImage(file, limits), results: new Map(), before: shown };
      addTile(image);
      waiting.push(image);
      if (first) open(image);
      first = false;
      if (!running) work();
    } catch (error) {
      showError(error.message);
    }
  }
}

/** Segment all waiting images, one after the other. */
async function work() {
  while (waiting.length) {
    const image = waiting.shift(), model = picker.value;
    running = { image, controller: new AbortController(), start: performance.now() };
    const ticking = setInterval(showElapsed, 100);
    open(shown);
    try {
      image.results.set(model, await run(image, model, running.controller.signal));
      image.before = null;
    } catch (error) {
      if (!image.results.size) drop(image);
      else if (shown === image) chooseModel([...image.results.keys()].at(-1));
      if (error.name !== "AbortError") showError(`${image.name}: ${error.message}`);
    } finally {
      clearInterval(ticking);
      running = null;
      open(shown);
      if (shown && !shown.results.has(picker.value) && !waiting.includes(shown)) waiting.push(shown);
    }
  }
}

async function run({ blob, bitmap: { width, height } }, model, signal) {
  const start = performance.now();
  const answer = await (await segment(blob, model, "format=json&confidence=true", signal)).json();
  const { confidence, ...json } = answer;
  const mask = decodeMask(json, width, height);
  return {
    ...json, json, mask, border: findBorders(mask, width, height),
    confidence: confidence && await readConfidence(confidence, width, height),
    colors: json.classes.map(({ color }) => parseColor(color)),
    hidden: new Set(), solo: null, seconds: (performance.now() - start) / 1000,
  };
}

/** Remove an image; the one that was shown before it comes back. */
function drop(image) {
  image.tile.remove();
  if (shown === image) shown = image.before?.tile.isConnected ? image.before : null;
}

/** Show an image with its result, or while it is segmented. */
export function open(image) {
  shown = image;
  const result = image?.results.get(picker.value) ?? null;
  show(image?.bitmap ?? null, result);
  find(".drop").hidden = Boolean(image);
  find(".tools").inert = find(".result").inert = !result;
  find(".result").hidden = !image || !find(".classes").childElementCount && !result;
  find(".about").hidden = Boolean(image) || !models.length;
  find("canvas").setAttribute("aria-label", image?.name ?? "");
  for (const { firstChild } of strip.children) firstChild.setAttribute("aria-current", image?.tile.firstChild === firstChild);
  if (result) showLegend(result);
  if (result) say(`${image.name}: ${count(result.annotations.length, "class")}, ${result.width} × ${result.height} pixels, ${result.seconds.toFixed(2)} s.`);
  else say(image ? `Segmenting ${image.name} …` : "");
  showElapsed();
}

function showElapsed() {
  const busy = Boolean(running);
  find(".stage").setAttribute("aria-busy", busy && shown === running.image);
  find(".busy").hidden = !busy;
  if (!busy) return;
  const seconds = ((performance.now() - running.start) / 1000).toFixed(1);
  const rest = waiting.length ? `, ${count(waiting.length, "image")} waiting` : "";
  find(".busy span").textContent = `Segmenting ${running.image.name} … ${seconds} s${rest}`;
}

export function cancel() {
  waiting.splice(0).filter(({ results }) => !results.size).forEach(drop);
  running?.controller.abort();
}

function addTile(image) {
  const tile = image.tile = find(".tile-of-image").content.cloneNode(true).firstChild;
  const side = 144, scale = side / Math.min(image.bitmap.width, image.bitmap.height);
  const thumbnail = document.createElement("canvas");
  [thumbnail.width, thumbnail.height] = [side, side];
  const [width, height] = [image.bitmap.width * scale, image.bitmap.height * scale];
  thumbnail.getContext("2d").drawImage(image.bitmap, (side - width) / 2, (side - height) / 2, width, height);
  const [button, remove] = tile.children;
  button.append(thumbnail);
  button.setAttribute("aria-label", image.name);
  button.title = image.name;
  button.addEventListener("click", () => {
    open(image);
    segmentAgain();
  });
  remove.setAttribute("aria-label", `Remove ${image.name}`);
  remove.addEventListener("click", () => {
    if (waiting.includes(image)) waiting.splice(waiting.indexOf(image), 1);
    if (running?.image === image) running.controller.abort();
    const next = tile.nextElementSibling ?? tile.previousElementSibling ?? find(".add");
    tile.remove();
    if (next.classList.contains("add")) open(null);
    else if (shown === image) next.firstChild.click();
    (next.querySelector("button") ?? next).focus({ preventScroll: true });
  });
  strip.append(tile);
}

/** Segment the shown image with the chosen model, unless that is done or under way. */
export function segmentAgain() {
  if (!shown || shown.results.has(picker.value) || waiting.includes(shown) || running?.image === shown) return;
  waiting.push(shown);
  if (!running) work();
}
