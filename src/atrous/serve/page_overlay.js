// What is seen of an answer: the overlay, the legend, the class under the pointer. Goes on from page.js.

function showPicture(picture) {
  shown = { picture };
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.style.setProperty("--ratio", picture.width / picture.height);
  canvas.setAttribute("aria-label", file.name);
  canvas.hidden = false;
  find(".empty").hidden = find(".side").hidden = spot.hidden = true;
  paint();
  canvas.scrollIntoView({ block: "nearest" });
}

async function showAnswer(answer) {
  const { names, colors } = models[picker.value];
  const [mask, percent] = await Promise.all([inflate(answer.mask), inflate(answer.percent)]);
  const counts = new Array(256).fill(0);
  for (const index of mask) counts[index]++;
  Object.assign(shown, { mask, percent, names, colors, width: answer.width, height: answer.height });
  shown.maskPng = new Blob([decode(answer.mask_png)], { type: "image/png" });
  shown.hidden = new Set();
  shrinkMask();
  listClasses(counts);
  tintClasses();
  find(".side").hidden = false;
  find(".known").hidden = true;
  const found = names.filter((_, index) => counts[index]).length;
  say(`${file.name}: ${found} ${found === 1 ? "class" : "classes"}, ${answer.width} × ${answer.height} pixels, ${answer.seconds.toFixed(2)} s.`);
}

/** Put the classes at the canvas's size into `small`, and into `border` where they meet. */
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

function listClasses(counts) {
  const { names, colors, mask } = shown;
  const here = names.map((_, index) => index).filter((index) => counts[index]);
  here.sort((one, other) => counts[other] - counts[one]);
  find(".classes").replaceChildren(...here.map((index) => {
    const share = 100 * counts[index] / mask.length;
    const row = document.createElement("li");
    row.append(find(".row").content.cloneNode(true));
    row.style.setProperty("--share", `${share}%`);
    row.querySelector(".swatch").style.background = isBlack(colors[index]) ? "none" : `rgb(${colors[index]})`;
    row.querySelector(".name").textContent = names[index];
    row.querySelector(".share").textContent = share < 0.1 ? "< 0.1 %" : `${share.toFixed(1)} %`;
    row.querySelector("input").value = index;
    return row;
  }));
  const absent = names.filter((_, index) => !counts[index]);
  find(".absent").textContent = absent.length ? `Not found: ${absent.join(", ")}.` : "";
}

const isBlack = (color) => color.every((channel) => channel === 0);

/** Draw the classes that are switched on as a layer of their own, with lines where they end. */
function tintClasses() {
  const { small, border, colors, hidden } = shown;
  const pack = ([red, green, blue]) => (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  const tints = new Uint32Array(256), lines = new Uint32Array(256); // a black class stays clear
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

function paint() {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.drawImage(shown.picture, 0, 0);
  if (!shown.layer) return;
  context.globalAlpha = slider.value / 100;
  context.drawImage(shown.layer, 0, 0);
}

// What is under the pointer

function point(x, y, speak = false) {
  if (!shown?.mask) return;
  [x, y] = [x, y].map((part) => Math.min(1, Math.max(0, part)));
  shown.spot = { x, y };
  const column = Math.min(shown.width - 1, Math.floor(x * shown.width));
  const row = Math.min(shown.height - 1, Math.floor(y * shown.height));
  const at = row * shown.width + column;
  const sure = shown.percent[at] === 100 ? "over 99" : shown.percent[at]; // rounded, never certain
  const name = shown.names[shown.mask[at]] ?? "void";
  spot.hidden = false;
  tip.textContent = shown.percent.length ? `${name}, ${sure} % sure` : name;
  const left = canvas.offsetLeft + x * canvas.offsetWidth, top = canvas.offsetTop + y * canvas.offsetHeight;
  const half = tip.offsetWidth / 2, right = find(".stage").offsetWidth;
  spot.style.translate = `${left}px ${top}px`;
  spot.classList.toggle("below", top < 50);
  tip.style.left = `${Math.max(half - left, Math.min(0, right - half - left))}px`;
  if (speak) find(".spoken").textContent = tip.textContent;
}

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
