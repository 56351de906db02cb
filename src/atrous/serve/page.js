// With page_overlay.js the body of a function that gradio calls once, with `element` (page.html),
// `props` and `server` (the functions of page.py). One picture at a time: `file` is where it came
// from, `shown` is what is on the canvas, and an answer counts only while it is its `turn`.

const root = element.firstElementChild;
const find = (selector) => root.querySelector(selector);
const { models, examples, max_pixels, max_bytes } = props.settings;
const canvas = find("canvas"), picker = find("select"), slider = find(".opacity input");
const chooser = find(".file"), spot = find(".spot"), tip = find(".tip");
const MAX_SIDE_PX = 2048; // what is looked at; the mask keeps its own size
let file = null, shown = null, turn = 0;

// A picture in

async function takePicture(next) {
  if (!next) return;
  const mine = ++turn;
  showError("");
  say(`Looking at ${next.name} …`);
  root.setAttribute("aria-busy", "true");
  try {
    const bitmap = await readBitmap(next), picture = await scale(bitmap);
    if (mine !== turn) return;
    file = next;
    showPicture(picture);
    const answer = await ask("segment_picture", { model: picker.value, name: file.name, picture: await encode(file) });
    if (mine !== turn) return;
    if (answer.error) throw new Error(answer.error);
    await showAnswer(answer);
  } catch (error) {
    if (mine === turn) showError(error.message);
  } finally {
    if (mine === turn) root.removeAttribute("aria-busy");
  }
}

async function ask(name, argument) {
  const answer = await server[name](argument).catch(() => null);
  if (!answer) throw new Error("The server gave no answer. Try again in a while.");
  return answer;
}

async function readBitmap(blob) {
  const { name, size } = blob;
  const refuse = (what, most) => { throw new Error(`${name} is too large: ${what}, where at most ${most} are taken. Make it smaller.`); };
  if (size > max_bytes) refuse(`${(size / 1e6).toFixed(1)} MB`, `${(max_bytes / 1e6).toFixed(1)} MB`);
  const bitmap = await createImageBitmap(blob).catch(() => {
    throw new Error(`${name} is not a picture that this browser can show. Take a JPEG, PNG or WebP.`);
  });
  if (bitmap.width * bitmap.height > max_pixels) refuse(`${bitmap.width} × ${bitmap.height} pixels`, `${max_pixels / 1e6} million`);
  return bitmap;
}

function scale(bitmap) {
  const factor = Math.min(1, MAX_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * factor)));
  return createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

const encode = (blob) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(",")[1]);
  reader.readAsDataURL(blob);
});

const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function inflate(text) {
  const stream = new Blob([decode(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
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

function switchClasses() {
  const boxes = [...root.querySelectorAll(".classes input")];
  shown.hidden = new Set(boxes.filter((box) => !box.checked).map((box) => Number(box.value)));
  tintClasses();
}

function switchAll(on) {
  root.querySelectorAll(".classes input").forEach((box) => { box.checked = on; });
  switchClasses();
}

slider.addEventListener("input", () => {
  find(".opacity output").textContent = `${slider.value} %`;
  requestAnimationFrame(paint);
});
find(".classes").addEventListener("change", switchClasses);
find(".all").addEventListener("click", () => switchAll(true));
find(".none").addEventListener("click", () => switchAll(false));
find(".save-mask").addEventListener("click", () => save(shown.maskPng, "_mask.png"));
find(".save-overlay").addEventListener("click", () => canvas.toBlob((blob) => save(blob, "_overlay.png")));
find(".choose").addEventListener("click", () => choose(null));
chooser.addEventListener("change", () => {
  takePicture(chooser.files[0]);
  chooser.value = "";
});
picker.addEventListener("change", () => {
  nameClasses();
  takePicture(file);
});

function choose(capture) {
  if (capture) chooser.setAttribute("capture", capture);
  else chooser.removeAttribute("capture");
  chooser.click();
}

function nameClasses() {
  const { names } = models[picker.value];
  find(".known").textContent = `This model knows ${names.length} classes: ${names.join(", ")}.`;
}

// Drop and paste, anywhere

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  root.classList.add("dropping");
});
document.addEventListener("dragleave", () => root.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  root.classList.remove("dropping");
  const [dropped] = event.dataTransfer.files;
  if (dropped) takePicture(dropped);
  else showError("What was dropped is no file. Save the picture first, then drop its file.");
});
document.addEventListener("paste", (event) => takePicture(event.clipboardData?.files[0]));

// The camera: a picture of the stream, or where there is none, what the phone's own app takes

const camera = find("dialog"), video = find("video");

find(".take").addEventListener("click", async () => {
  if (!navigator.mediaDevices) return choose("environment");
  try {
    const wish = { facingMode: "environment", width: { ideal: 1280 } };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wish });
    camera.showModal();
  } catch {
    showError("There is no camera that this page may use. Allow it in the browser, or choose a picture.");
  }
});
find(".cancel").addEventListener("click", () => camera.close());
camera.addEventListener("close", () => video.srcObject?.getTracks().forEach((track) => track.stop()));
find(".shoot").addEventListener("click", async () => {
  const still = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  still.getContext("2d").drawImage(video, 0, 0);
  camera.close();
  const blob = await still.convertToBlob({ type: "image/png" });
  takePicture(new File([blob], "camera.png", { type: blob.type }));
});

// Models and examples

for (const name of Object.keys(models)) picker.add(new Option(name));
find(".model").hidden = picker.length < 2;
nameClasses();

examples.forEach(({ name, thumbnail }, index) => {
  const button = document.createElement("button"), image = new Image();
  button.type = "button";
  image.src = `data:image/jpeg;base64,${thumbnail}`;
  image.alt = `Example ${name}`;
  button.append(image);
  button.addEventListener("click", () => ask("fetch_example", index).then(
    (content) => takePicture(new File([decode(content)], name)), (error) => showError(error.message)));
  find(".examples").append(button);
});
find(".examples").hidden = !examples.length;
