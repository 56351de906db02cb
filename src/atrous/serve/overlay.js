// The overlay, the legend, and the class under the pointer.

export const root = document.querySelector(".atrous");
export const find = (selector) => root.querySelector(selector);
export const canvas = find("canvas");
export const classBoxes = () => [...root.querySelectorAll(".classes input")];
export let shown = null; // the image on the canvas and, when available, its mask

const slider = find(".opacity input"), spot = find(".spot"), tip = find(".tip");

/** Show an image without a mask. */
export function showImage(image, name) {
  shown = { image };
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.style.setProperty("--ratio", image.width / image.height);
  canvas.setAttribute("aria-label", name);
  canvas.hidden = false;
  find(".empty").hidden = find(".side").hidden = spot.hidden = true;
  paint();
}

/** Show the mask of the image on the canvas; return the number of classes in it. */
export function showMask({ width, height, classes, annotations }, confidence) {
  const mask = new Uint8Array(width * height).fill(255);
  for (const { category_id, segmentation } of annotations) fillRuns(mask, width, height, segmentation.counts, category_id);
  const colors = classes.map(({ color }) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
  Object.assign(shown, { mask, confidence, classes, colors, width, height });
  shrinkMask();
  listClasses();
  showClasses();
  find(".side").hidden = false;
  return annotations.length;
}

/** Decode COCO's compressed run lengths of a class: column by column, starting outside of it. */
function fillRuns(mask, width, height, counts, index) {
  const runs = [];
  for (let at = 0, place = 0; at < counts.length;) {
    let run = 0, shift = 0, letter;
    do {
      letter = counts.charCodeAt(at++) - 48;
      run |= (letter & 31) << shift;
      shift += 5;
    } while (letter & 32);
    if (letter & 16) run |= -1 << shift;
    if (runs.length > 2) run += runs.at(-2); // from the third on, relative to the one before last
    runs.push(run);
    const end = place + run;
    if (runs.length % 2) place = end;
    else for (; place < end; place++) mask[(place % height) * width + Math.floor(place / height)] = index;
  }
}

/** Compute the classes at the size of the canvas (`small`) and their borders (`border`). */
function shrinkMask() {
  const { width, height } = canvas, { mask } = shown;
  const reach = Math.max(1, Math.round(0.00125 * Math.sqrt(width * height)));
  const small = new Uint8Array(width * height), border = new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.floor((y + 0.5) * shown.height / height) * shown.width;
    for (let x = 0; x < width; x++) small[at++] = mask[row + Math.floor((x + 0.5) * shown.width / width)];
  }
  for (let y = 0, at = 0; y < height; y++) {
    const up = Math.min(reach, y) * width, down = Math.min(reach, height - 1 - y) * width;
    for (let x = 0; x < width; x++, at++) {
      const left = Math.min(reach, x), right = Math.min(reach, width - 1 - x), index = small[at];
      border[at] = small[at - up] !== index || small[at + down] !== index || small[at - left] !== index || small[at + right] !== index;
    }
  }
  Object.assign(shown, { small, border });
}

function listClasses() {
  const here = shown.classes.filter(({ share, index }) => share > 0 || shown.mask.includes(index));
  here.sort((one, other) => other.share - one.share);
  find(".classes").replaceChildren(...here.map(({ index, name, share }) => {
    const row = document.createElement("li"), color = shown.colors[index];
    row.append(find(".row").content.cloneNode(true));
    row.style.setProperty("--share", `${100 * share}%`);
    row.querySelector(".swatch").style.background = isBlack(color) ? "none" : `rgb(${color})`;
    row.querySelector(".name").textContent = name;
    row.querySelector(".share").textContent = share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
    row.querySelector("input").value = index;
    return row;
  }));
  const absent = shown.classes.filter((one) => !here.includes(one)).map(({ name }) => name);
  find(".absent").textContent = absent.length ? `Not found: ${absent.join(", ")}.` : "";
}

const isBlack = (color) => color.every((channel) => channel === 0);

/** Draw the layer of the visible classes, with lines along their borders. */
export function showClasses() {
  const { small, border, colors } = shown;
  const hidden = new Set(classBoxes().filter((box) => !box.checked).map((box) => Number(box.value)));
  const pack = ([red, green, blue]) => (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  const tints = new Uint32Array(256), lines = new Uint32Array(256); // a black class is transparent
  colors.forEach((color, index) => {
    if (isBlack(color) || hidden.has(index)) return;
    tints[index] = pack(color);
    lines[index] = pack(color.map((channel) => Math.round(0.35 * channel + 0.65 * 255)));
  });
  const image = new ImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = (border[at] ? lines : tints)[small[at]];
  shown.layer ??= new OffscreenCanvas(canvas.width, canvas.height);
  shown.layer.getContext("2d").putImageData(image, 0, 0);
  paint();
}

export function paint() {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.drawImage(shown.image, 0, 0);
  if (!shown.layer) return;
  context.globalAlpha = slider.value / 100;
  context.drawImage(shown.layer, 0, 0);
}

// The class under the pointer

function point(x, y, speak = false) {
  if (!shown?.mask) return;
  [x, y] = [x, y].map((part) => Math.min(1, Math.max(0, part)));
  shown.spot = { x, y };
  const column = Math.min(shown.width - 1, Math.floor(x * shown.width));
  const row = Math.min(shown.height - 1, Math.floor(y * shown.height));
  const at = row * shown.width + column;
  const name = shown.classes[shown.mask[at]]?.name ?? "ignored";
  spot.hidden = false;
  tip.textContent = shown.confidence ? `${name}, ${describe(shown.confidence[at] / 255)}` : name;
  const left = canvas.offsetLeft + x * canvas.offsetWidth, top = canvas.offsetTop + y * canvas.offsetHeight;
  const half = tip.offsetWidth / 2, right = find(".stage").offsetWidth;
  spot.style.translate = `${left}px ${top}px`;
  spot.classList.toggle("below", top < 50);
  tip.style.left = `${Math.max(half - left, Math.min(0, right - half - left))}px`;
  if (speak) find(".spoken").textContent = tip.textContent;
}

const describe = (confidence) => `confidence ${confidence > 0.99 ? "over 99" : Math.round(100 * confidence)} %`;
const hideSpot = () => { spot.hidden = true; };
const pointAt = (event) => point(event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight);
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("pointermove", pointAt);
canvas.addEventListener("pointerdown", pointAt);
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideSpot());
canvas.addEventListener("blur", hideSpot);
canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && point(0.5, 0.5, true));
canvas.addEventListener("keydown", (event) => {
  const step = STEPS[event.key], size = event.shiftKey ? 0.1 : 0.01;
  if (!step || !shown?.mask) return;
  event.preventDefault();
  const { x, y } = shown.spot ?? { x: 0.5, y: 0.5 };
  point(x + step[0] * size, y + step[1] * size, true);
});
