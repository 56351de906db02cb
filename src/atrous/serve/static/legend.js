// The classes of a result: hidden by their square, alone by a click, highlighted under the pointer.

import { isBlack } from "./mask.js";
import { redraw } from "./viewer.js";

const list = document.querySelector(".classes");

/** List the classes of a result, those with the largest share first. */
export function showLegend(result) {
  const found = new Set(result.annotations.map(({ category_id }) => category_id));
  const here = result.classes.filter(({ index }) => found.has(index)).sort((one, other) => other.share - one.share);
  list.replaceChildren(...here.map((one) => buildRow(one, result)));
  update(result);
  const absent = result.classes.filter(({ index }) => !found.has(index)).map(({ name }) => name);
  document.querySelector(".absent").textContent = absent.length ? `Not in this image: ${absent.join(", ")}.` : "";
}

function buildRow({ index, name, share }, result) {
  const row = document.querySelector(".row-of-class").content.cloneNode(true).firstChild;
  const box = row.querySelector("input"), button = row.querySelector("button"), color = result.colors[index];
  row.style.setProperty("--share", `${100 * share}%`);
  row.style.setProperty("--color", isBlack(color) ? "transparent" : `rgb(${color})`);
  row.querySelector(".name").textContent = name;
  row.querySelector(".share").textContent = share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
  row.dataset.index = index;
  box.setAttribute("aria-label", `Show ${name}`);
  box.addEventListener("change", () => {
    if (box.checked) result.hidden.delete(index);
    else result.hidden.add(index);
    result.solo = null;
    update(result);
  });
  button.addEventListener("click", () => {
    result.solo = result.solo === index ? null : index;
    update(result);
  });
  for (const [event, hovered] of [["pointerenter", index], ["pointerleave", null]]) {
    row.addEventListener(event, ({ pointerType }) => pointerType === "mouse" && redraw({ hovered }));
  }
  return row;
}

function update({ hidden, solo }) {
  for (const row of list.children) {
    const index = Number(row.dataset.index);
    row.querySelector("button").ariaPressed = String(index === solo);
    row.querySelector("input").checked = !hidden.has(index);
    row.classList.toggle("faded", solo === null ? hidden.has(index) : index !== solo);
  }
  redraw({ hovered: null });
}
