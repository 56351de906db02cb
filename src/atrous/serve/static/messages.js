// What the page says.

const status = document.querySelector(".status"), box = document.querySelector(".error");

export function say(text) { status.textContent = text; }

/** Show an error over the image; an empty text hides it. */
export function showError(text) {
  box.querySelector("p").textContent = text;
  box.hidden = !text;
}

box.querySelector("button").addEventListener("click", () => showError(""));
