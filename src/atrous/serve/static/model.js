// The served models, and the one that is used.

import { fetchModels } from "./api.js";
import { isBlack, parseColor } from "./mask.js";

const find = (selector) => document.querySelector(selector);
export const picker = find("select");
export let models = [], limits = {};

export async function loadModels(onWait) {
  ({ models, limits } = await fetchModels(onWait));
  for (const { name } of models) picker.add(new Option(name));
  picker.disabled = models.length < 2;
  find(".api").hidden = false;
  chooseModel(models[0].name);
}

/** Use a model; describe it and the command that calls it. */
export function chooseModel(name) {
  picker.value = name;
  const { architecture, engine, classes } = models.find((model) => model.name === name);
  find(".served").textContent = `${name}: ${architecture}, ${engine}`;
  find(".known").replaceChildren(...classes.map(({ name, color }) => {
    const item = document.createElement("li");
    item.style.setProperty("--color", isBlack(parseColor(color)) ? "transparent" : color);
    item.textContent = name;
    return item;
  }));
  const query = models.length > 1 ? `?model=${encodeURIComponent(name)}` : "";
  const url = new URL(`v1/segment${query}`, document.baseURI);
  find(".api code").textContent = `curl --data-binary @photo.jpg \\\n  '${url}' \\\n  > mask.png`;
}
