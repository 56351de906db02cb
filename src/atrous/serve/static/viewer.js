// The stage: an image with its classes, zoomed, panned and compared, and the class under the pointer.

import { drawLayer, isBlack } from "./mask.js";

const find = (selector) => document.querySelector(selector);
const stage = find(".stage"), canvas = find("canvas"), wipe = find(".wipe"), spot = find(".spot"), tip = find(".tip");
const MAX_ZOOM = 32, WIPE_THUMB_PX = 44;
const view = { zoom: 1, x: 0.5, y: 0.5 }; // zoom relative to the fitted image, and its centre
const style = { opacity: 0.5, outlines: false, hovered: null };
let image = null, result = null, layer = null, pointed = null, frame = 0;

/** Show an image and, when available, its result. The view stays if the size does. */
export function show(nextImage, nextResult) {
  if (nextImage?.width !== image?.width || nextImage?.height !== image?.height) Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  [image, result, style.hovered] = [nextImage, nextResult, null];
  layer = image && result && new OffscreenCanvas(image.width, image.height);
  canvas.hidden = !image;
  spot.hidden = true;
  wipe.hidden = !result || find(".compare").ariaPressed !== "true";
  redraw();
}

/** Draw the classes again, after a change of `style` or of the visible classes. */
export function redraw(changes = {}) {
  Object.assign(style, changes);
  if (layer) drawLayer(layer, result, weigh, style.outlines);
  repaint();
}

function weigh(index) {
  const { hovered } = style, { solo, hidden, colors } = result;
  if (index === hovered || hovered === null && index === solo) return 1;
  if (isBlack(colors[index])) return 0; // such as a background, which would hide the image
  if (hovered !== null) return hidden.has(index) ? 0 : 0.2;
  return solo === null && !hidden.has(index) ? 1 : 0;
}

export function setOpacity(opacity) {
  style.opacity = opacity;
  repaint();
}

/** Return the image with its classes as a canvas, without zoom. */
export function renderOverlay() {
  const copy = new OffscreenCanvas(image.width, image.height);
  drawBoth(copy.getContext("2d"));
  return copy;
}

function drawBoth(context, left = 0) {
  context.drawImage(image, 0, 0);
  if (!layer) return;
  context.beginPath();
  context.rect(left, 0, image.width - left, image.height);
  context.clip();
  context.globalAlpha = style.outlines ? Math.min(1, 2 * style.opacity) : style.opacity;
  context.drawImage(layer, 0, 0);
}

// Geometry: `place` maps pixels of the image to those of the stage

function place() {
  const width = stage.clientWidth, height = stage.clientHeight;
  const scale = view.zoom * Math.min(width / image.width, height / image.height);
  const clamp = (centre, shown, size) => {
    const half = Math.min(0.5, shown / (2 * size));
    return Math.min(1 - half, Math.max(half, centre));
  };
  view.x = clamp(view.x, width, image.width * scale);
  view.y = clamp(view.y, height, image.height * scale);
  return { scale, left: width / 2 - view.x * image.width * scale, top: height / 2 - view.y * image.height * scale, width, height };
}

/** Return the position on the stage of a point of the image, both as shares of its size. */
export function toStage(x, y) {
  const { scale, left, top } = place();
  return [left + x * image.width * scale, top + y * image.height * scale];
}

function toImage(stageX, stageY) {
  const { scale, left, top } = place();
  return [(stageX - left) / (image.width * scale), (stageY - top) / (image.height * scale)];
}

/** Zoom around a point of the stage, by default its centre. */
export function zoom(factor, stageX = stage.clientWidth / 2, stageY = stage.clientHeight / 2) {
  if (!image) return;
  const [x, y] = toImage(stageX, stageY);
  view.zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
  const { scale, width, height } = place();
  view.x = x - (stageX - width / 2) / (image.width * scale);
  view.y = y - (stageY - height / 2) / (image.height * scale);
  repaint();
}

function pan(deltaX, deltaY) {
  const { scale } = place();
  view.x -= deltaX / (image.width * scale);
  view.y -= deltaY / (image.height * scale);
  repaint();
}

export function repaint() {
  frame ||= requestAnimationFrame(paint);
}

function paint() {
  frame = 0;
  if (!image) return;
  const { scale, left, top, width, height } = place(), ratio = devicePixelRatio;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
  context.imageSmoothingEnabled = scale * ratio < 3; // enlarged pixels stay sharp
  const border = WIPE_THUMB_PX / 2 + (wipe.value / 1000) * (width - WIPE_THUMB_PX);
  drawBoth(context, wipe.hidden ? 0 : Math.max(0, (border - left) / scale));
  canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y"; // the page scrolls while all is seen
  stage.classList.toggle("zoomed", view.zoom > 1);
  if (!spot.hidden) moveSpot();
}

new ResizeObserver(repaint).observe(stage);
wipe.addEventListener("input", repaint);

// The class under the pointer

function point(x, y, speak = false) {
  if (!result) return;
  pointed = [x, y].map((part) => Math.min(1, Math.max(0, part)));
  const [column, row] = [pointed[0] * image.width, pointed[1] * image.height].map(Math.floor);
  const at = Math.min(image.height - 1, row) * image.width + Math.min(image.width - 1, column);
  const name = result.classes[result.mask[at]]?.name ?? "ignored";
  tip.textContent = result.confidence ? `${name}, ${describe(result.confidence[at] / 255)}` : name;
  spot.hidden = false;
  moveSpot();
  if (speak) find(".spoken").textContent = tip.textContent;
}

function moveSpot() {
  const [left, top] = toStage(...pointed), half = tip.offsetWidth / 2;
  spot.style.translate = `${left}px ${top}px`;
  spot.classList.toggle("below", top < 50);
  tip.style.left = `${Math.max(half + 4 - left, Math.min(0, stage.clientWidth - half - 4 - left))}px`;
}

const describe = (confidence) => `confidence ${confidence > 0.99 ? "over 99" : Math.round(100 * confidence)} %`;
const hideSpot = () => { spot.hidden = true; };

function pointAt(event) {
  const [x, y] = toImage(event.offsetX, event.offsetY);
  if (x < 0 || y < 0 || x > 1 || y > 1) hideSpot();
  else point(x, y);
}

// Mouse, touch and keyboard

const fingers = new Map(); // position of each pressed pointer

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
  pointAt(event);
});
canvas.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId), now = [event.offsetX, event.offsetY];
  if (!before) return pointAt(event);
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  fingers.set(event.pointerId, now);
  pan((now[0] - before[0]) / fingers.size, (now[1] - before[1]) / fingers.size);
  if (!other) return;
  hideSpot();
  const distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
  zoom(distance(now) / Math.max(1, distance(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideSpot());
canvas.addEventListener("dblclick", (event) => zoom(view.zoom > 1 ? 1 / MAX_ZOOM : 4, event.offsetX, event.offsetY));
canvas.addEventListener("wheel", (event) => {
  if (event.deltaY > 0 && view.zoom === 1) return; // nothing to zoom out of: the page scrolls
  event.preventDefault();
  zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) / 250), event.offsetX, event.offsetY);
}, { passive: false });

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOMS = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 1 / MAX_ZOOM };

canvas.addEventListener("blur", hideSpot);
canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && point(view.x, view.y, true));
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = STEPS[event.key], size = (event.shiftKey ? 0.1 : 0.01) / view.zoom;
  if (ZOOMS[event.key]) zoom(ZOOMS[event.key], ...(spot.hidden ? [] : toStage(...pointed)));
  else if (step && result) movePointer(step[0] * size, step[1] * size);
  else return;
  event.preventDefault();
});

/** Move the pointer of the keyboard; the view follows it. */
function movePointer(deltaX, deltaY) {
  const [x, y] = spot.hidden ? [view.x, view.y] : pointed;
  point(x + deltaX, y + deltaY, true);
  const [left, top] = toStage(...pointed), { clientWidth: width, clientHeight: height } = stage;
  if (left < 0 || left > width) pan(width / 2 - left, 0);
  if (top < 0 || top > height) pan(0, height / 2 - top);
}
