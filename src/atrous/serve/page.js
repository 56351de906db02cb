// Sends images to the server and shows the results with overlay.js. One image at a time: a result
// is shown only if its `turn` is still the newest.

import { canvas, classBoxes, find, paint, root, showImage, showMask, shown, showClasses } from "./overlay.js";

const picker = find("select"), slider = find(".opacity input"), chooser = find(".file");
const MAX_SIDE_PX = 2048; // of the image on the canvas; the mask keeps its own size
const SENT_UNCHANGED = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff"];
let models = [], limits = {}, file = null, turn = 0;

// Segmenting an image

async function takeImage(next) {
  if (!next || !models.length) return;
  const mine = ++turn, start = performance.now();
  showError("");
  say(`Segmenting ${next.name} …`);
  root.setAttribute("aria-busy", "true");
  try {
    const bitmap = await readBitmap(next), image = await scale(bitmap);
    const content = SENT_UNCHANGED.includes(next.type) ? next : await encode(bitmap);
    if (mine !== turn) return;
    if (!shown?.mask) showImage(image, next.name); // a result stays until the next one is ready
    const result = await (await post(content, "format=json&confidence=true")).json();
    const confidence = result.confidence && await readConfidence(result);
    if (mine !== turn) return;
    file = { name: next.name, content };
    showImage(image, next.name);
    const count = showMask(result, confidence);
    find(".known").hidden = true;
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    say(`${file.name}: ${count} ${count === 1 ? "class" : "classes"}, ${result.width} × ${result.height} pixels, ${seconds} s.`);
  } catch (error) {
    if (mine === turn) showError(error.message);
  } finally {
    if (mine === turn) root.removeAttribute("aria-busy");
  }
}

async function post(body, parameters) {
  const url = `v1/segment?model=${encodeURIComponent(picker.value)}&${parameters}`;
  return check(await fetch(url, { method: "POST", body }).catch(() => null));
}

async function check(response) {
  if (response?.ok) return response;
  const { error } = await response?.json().catch(() => ({})) ?? {};
  throw new Error(error ?? "The server does not respond. Try again later.");
}

async function readBitmap(blob) {
  const { name, size } = blob;
  const refuse = (what, most) => { throw new Error(`${name} is too large: ${what}; the limit is ${most}. Make it smaller.`); };
  if (size > limits.max_body_bytes) refuse(`${(size / 1e6).toFixed(1)} MB`, `${(limits.max_body_bytes / 1e6).toFixed(1)} MB`);
  const bitmap = await createImageBitmap(blob).catch(() => {
    throw new Error(`${name} is not an image that this browser can read. Use JPEG, PNG or WebP.`);
  });
  if (bitmap.width * bitmap.height > limits.max_pixels) refuse(`${bitmap.width} × ${bitmap.height} pixels`, `${limits.max_pixels / 1e6} million`);
  return bitmap;
}

function scale(bitmap) {
  const factor = Math.min(1, MAX_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * factor)));
  return createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

function draw(source, width, height) {
  const copy = new OffscreenCanvas(width, height);
  copy.getContext("2d").drawImage(source, 0, 0);
  return copy;
}

const encode = (bitmap) => draw(bitmap, bitmap.width, bitmap.height).convertToBlob({ type: "image/png" });

/** Return the confidence of each pixel, 255 for 1. */
async function readConfidence({ confidence, width, height }) {
  const bytes = Uint8Array.from(atob(confidence), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const pixels = draw(bitmap, width, height).getContext("2d").getImageData(0, 0, width, height).data;
  return pixels.filter((_, at) => at % 4 === 0);
}

// Controls

function say(text) { find(".status").textContent = text; }

function showError(text) {
  find(".error").textContent = text;
  find(".error").hidden = !text;
  if (text) say("");
}

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = file.name.replace(/\.[^.]*$/, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function switchAll(on) {
  classBoxes().forEach((box) => { box.checked = on; });
  showClasses();
}

slider.addEventListener("input", () => {
  find(".opacity output").textContent = `${slider.value} %`;
  requestAnimationFrame(paint);
});
find(".classes").addEventListener("change", showClasses);
find(".all").addEventListener("click", () => switchAll(true));
find(".none").addEventListener("click", () => switchAll(false));
find(".save-mask").addEventListener("click", () => post(file.content, "format=mask")
  .then((response) => response.blob())
  .then((blob) => save(blob, "_mask.png"), (error) => showError(error.message)));
find(".save-overlay").addEventListener("click", () => canvas.toBlob((blob) => save(blob, "_overlay.png")));
find(".choose").addEventListener("click", () => choose(null));
chooser.addEventListener("change", () => {
  takeImage(chooser.files[0]);
  chooser.value = "";
});
picker.addEventListener("change", () => {
  nameClasses();
  if (file) takeImage(new File([file.content], file.name, { type: file.content.type }));
});

function choose(capture) {
  if (capture) chooser.setAttribute("capture", capture);
  else chooser.removeAttribute("capture");
  chooser.click();
}

function nameClasses() {
  const names = models.find(({ name }) => name === picker.value).classes.map(({ name }) => name);
  find(".known").textContent = `This model has ${names.length} classes: ${names.join(", ")}.`;
}

// Drop and paste, anywhere on the page

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  root.classList.add("dropping");
});
document.addEventListener("dragleave", () => root.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  root.classList.remove("dropping");
  const [dropped] = event.dataTransfer.files;
  if (dropped) takeImage(dropped);
  else showError("This is not a file. Save the image first, then drop its file.");
});
document.addEventListener("paste", (event) => takeImage(event.clipboardData?.files[0]));

// The camera: a frame of its video stream or, where that is not available, the phone's camera app

const camera = find("dialog"), video = find("video");

find(".take").addEventListener("click", async () => {
  if (!navigator.mediaDevices) return choose("environment");
  try {
    const constraints = { facingMode: "environment", width: { ideal: 1280 } };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: constraints });
    camera.showModal();
  } catch {
    showError("This page has no access to a camera. Allow it in the browser, or choose an image.");
  }
});
find(".cancel").addEventListener("click", () => camera.close());
camera.addEventListener("close", () => video.srcObject?.getTracks().forEach((track) => track.stop()));
find(".shoot").addEventListener("click", async () => {
  const frame = draw(video, video.videoWidth, video.videoHeight);
  camera.close();
  const blob = await frame.convertToBlob({ type: "image/png" });
  takeImage(new File([blob], "camera.png", { type: blob.type }));
});

// Models and examples

function addExample(name, index) {
  const button = document.createElement("button"), image = new Image();
  button.type = "button";
  image.src = `examples/${index}`;
  image.alt = `Example ${name}`;
  button.append(image);
  button.addEventListener("click", () => fetch(image.src).catch(() => null).then(check)
    .then((response) => response.blob())
    .then((blob) => takeImage(new File([blob], name, { type: blob.type })), (error) => showError(error.message)));
  find(".examples").append(button);
}

async function fetchModels() {
  const response = await fetch("v1/models").catch(() => null);
  if (response?.status !== 503) return (await check(response)).json();
  say("The models are loading …");
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return fetchModels();
}

try {
  ({ models, limits } = await fetchModels());
  say("");
  for (const { name } of models) picker.add(new Option(name));
  find(".model").hidden = models.length < 2;
  nameClasses();
  const examples = await (await check(await fetch("examples"))).json();
  examples.forEach(addExample);
  find(".examples").hidden = !examples.length;
} catch (error) {
  showError(error.message);
}
