// The page: images wait in line, are sent one at a time, and stay in the strip with their results.

import { count, fetchModels, request, segment } from "./api.js";
import { addCamera } from "./camera.js";
import { draw, readConfidence, readImage, saveFile } from "./image.js";
import { showLegend } from "./legend.js";
import { decodeMask, findBorders, parseColor } from "./mask.js";
import { redraw, renderOverlay, setOpacity, show, zoom } from "./viewer.js";

const find = (selector) => document.querySelector(selector);
const picker = find("select"), chooser = find(".file"), strip = find(".strip");
let models = [], limits = {}, shown = null, running = null;
const waiting = [];

// Segmenting

async function addFiles(files) {
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
      else if (shown === image) choose([...image.results.keys()].at(-1));
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

function choose(model) {
  picker.value = model;
  describeModel();
}

/** Show an image with its result, or while it is segmented. */
function open(image) {
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

function cancel() {
  waiting.splice(0).filter(({ results }) => !results.size).forEach(drop);
  running?.controller.abort();
}

function addTile(image) {
  const tile = image.tile = find(".tile-of-image").content.cloneNode(true).firstChild;
  const side = 144, scale = side / Math.min(image.bitmap.width, image.bitmap.height);
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [side, side];
  const [width, height] = [image.bitmap.width * scale, image.bitmap.height * scale];
  picture.getContext("2d").drawImage(image.bitmap, (side - width) / 2, (side - height) / 2, width, height);
  const [button, remove] = tile.children;
  button.append(picture);
  button.setAttribute("aria-label", image.name);
  button.title = image.name;
  button.addEventListener("click", () => {
    open(image);
    if (!image.results.has(picker.value)) segmentAgain();
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

/** Segment the shown image with the chosen model, unless that is under way. */
function segmentAgain() {
  if (!shown || waiting.includes(shown) || running?.image === shown) return;
  waiting.push(shown);
  if (!running) work();
}

// Messages

function say(text) { find(".status").textContent = text; }

function showError(text) {
  find(".error p").textContent = text;
  find(".error").hidden = !text;
}

find(".error button").addEventListener("click", () => showError(""));
find(".cancel").addEventListener("click", cancel);

// Controls of the view

const press = (button, on) => { button.ariaPressed = String(on); };

find(".zoom-in").addEventListener("click", () => zoom(1.5));
find(".zoom-out").addEventListener("click", () => zoom(1 / 1.5));
find(".zoom-fit").addEventListener("click", () => zoom(0));
for (const [selector, outlines] of [[".fill", false], [".outline", true]]) {
  find(selector).addEventListener("click", () => {
    press(find(".fill"), !outlines);
    press(find(".outline"), outlines);
    redraw({ outlines });
  });
}
find(".compare").addEventListener("click", ({ currentTarget: button }) => {
  press(button, button.ariaPressed !== "true");
  show(shown.bitmap, shown.results.get(picker.value));
});
find(".opacity input").addEventListener("input", ({ target }) => {
  find(".opacity output").textContent = `${target.value} %`;
  setOpacity(target.value / 100);
});

const nameOf = (ending) => shown.name.replace(/\.[^.]*$/, "") + ending;

find(".save-mask").addEventListener("click", async () => {
  const name = nameOf("_mask.png");
  try {
    saveFile(await (await segment(shown.blob, picker.value, "format=mask")).blob(), name);
  } catch (error) {
    showError(error.message);
  }
});
find(".save-overlay").addEventListener("click", async () => saveFile(await renderOverlay().convertToBlob({ type: "image/png" }), nameOf("_overlay.png")));
find(".save-json").addEventListener("click", () => {
  const { json } = shown.results.get(picker.value);
  saveFile(new Blob([JSON.stringify(json)], { type: "application/json" }), nameOf(".json"));
});

// Ways to give images

find(".drop").addEventListener("click", () => chooser.click());
find(".add").addEventListener("click", () => chooser.click());
chooser.addEventListener("change", () => {
  addFiles([...chooser.files]);
  chooser.value = "";
});
addCamera(find(".take"), (file) => addFiles([file]), (message) => {
  if (message) return showError(message);
  chooser.setAttribute("capture", "environment");
  chooser.click();
  chooser.removeAttribute("capture");
});
const drag = (on) => find(".stage").classList.toggle("dropping", on);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drag(true);
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? drag(false));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drag(false);
  const files = [...event.dataTransfer.files];
  if (files.length) addFiles(files);
  else showError("This is not a file. Save the image first, then drop its file.");
});
document.addEventListener("paste", (event) => event.clipboardData?.files.length && addFiles([...event.clipboardData.files]));

// Models and examples

function describeModel() {
  const { name, architecture, engine, classes } = models.find((model) => model.name === picker.value);
  find(".served").textContent = `${name}: ${architecture}, ${engine}`;
  find(".known").replaceChildren(...classes.map((one) => {
    const item = document.createElement("li");
    item.style.setProperty("--color", one.color === "#000000" ? "transparent" : one.color);
    item.textContent = one.name;
    return item;
  }));
  const query = models.length > 1 ? `?model=${encodeURIComponent(name)}` : "";
  find(".api code").textContent = `curl --data-binary @photo.jpg \\\n  '${new URL(`v1/segment${query}`, document.baseURI)}' \\\n  > mask.png`;
}

picker.addEventListener("change", () => {
  describeModel();
  open(shown);
  if (shown && !shown.results.has(picker.value)) segmentAgain();
});
find(".copy").addEventListener("click", async ({ currentTarget: button }) => {
  getSelection().selectAllChildren(find(".api code")); // where the clipboard is not available
  await navigator.clipboard?.writeText(find(".api code").textContent);
  button.textContent = navigator.clipboard ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

function addExample(name, index) {
  const button = document.createElement("button"), picture = new Image();
  button.type = "button";
  button.className = "tile";
  picture.src = `examples/${index}`;
  picture.alt = `Example ${name}`;
  button.append(picture);
  button.addEventListener("click", async () => {
    try {
      const blob = await (await request(picture.src)).blob();
      addFiles([new File([blob], name, { type: blob.type })]);
    } catch (error) {
      showError(error.message);
    }
  });
  find(".examples").append(button);
}

try {
  ({ models, limits } = await fetchModels(() => say("The models are loading …")));
  for (const { name } of models) picker.add(new Option(name));
  picker.disabled = models.length < 2;
  find(".api").hidden = false;
  describeModel();
  open(null);
  const examples = await (await request("examples")).json();
  examples.forEach(addExample);
  find(".examples").hidden = !examples.length;
} catch (error) {
  showError(error.message);
}
