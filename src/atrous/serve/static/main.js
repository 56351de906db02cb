// The controls of the page.

import { request, segment } from "./api.js";
import { addCamera } from "./camera.js";
import { saveFile } from "./image.js";
import { addFiles, cancel, open, segmentAgain, shown } from "./images.js";
import { say, showError } from "./messages.js";
import { chooseModel, loadModels, picker } from "./model.js";
import { redraw, renderOverlay, setOpacity, show, zoom } from "./viewer.js";

const find = (selector) => document.querySelector(selector);

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

// Downloads

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

const chooser = find(".file");
find(".cancel").addEventListener("click", cancel);
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

// The model and examples

picker.addEventListener("change", () => {
  chooseModel(picker.value);
  open(shown);
  segmentAgain();
});
find(".copy").addEventListener("click", async ({ currentTarget: button }) => {
  getSelection().selectAllChildren(find(".api code")); // where the clipboard is not available
  await navigator.clipboard?.writeText(find(".api code").textContent);
  button.textContent = navigator.clipboard ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

function addExample(name, index) {
  const button = document.createElement("button"), thumbnail = new Image();
  button.type = "button";
  button.className = "tile";
  thumbnail.src = `examples/${index}`;
  thumbnail.alt = `Example ${name}`;
  button.append(thumbnail);
  button.addEventListener("click", async () => {
    try {
      const blob = await (await request(thumbnail.src)).blob();
      addFiles([new File([blob], name, { type: blob.type })]);
    } catch (error) {
      showError(error.message);
    }
  });
  find(".examples").append(button);
}

try {
  await loadModels(() => say("The models are loading …"));
  open(null);
  const examples = await (await request("examples")).json();
  examples.forEach(addExample);
  find(".examples").hidden = !examples.length;
} catch (error) {
  showError(error.message);
}
