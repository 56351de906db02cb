for (const slider of document.querySelectorAll("input[data-mix]")) {
  const apply = () => {
    document.getElementById(slider.dataset.mix).style.setProperty("--mix", slider.value / 100);
    slider.setAttribute("aria-valuetext", slider.value + " percent");
  };
  slider.addEventListener("input", apply);
  apply();
}
const rows = [...document.querySelectorAll(".row")];
const dialog = document.querySelector("dialog.large");
const home = document.createComment("row");
let shown = -1;
function putBack() {
  if (shown >= 0) home.replaceWith(rows[shown]);
}
function enlarge(index) {
  putBack();
  shown = (index + rows.length) % rows.length;
  const images = rows[shown].closest(".images");
  rows[shown].replaceWith(home);
  dialog.querySelector(".keys").innerHTML = images.querySelector(".keys").innerHTML;
  dialog.querySelector(".keys").before(rows[shown]);
  if (dialog.parentNode !== images) {
    dialog.close();
    images.append(dialog);
  }
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
for (const [index, row] of rows.entries()) {
  row.addEventListener("click", (event) => {
    if (!dialog.open && event.target.closest("button, .overlay")) enlarge(index);
  });
}
if (dialog) {
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // it has moved to the images of another run
    const row = rows[shown];
    putBack();
    shown = -1;
    row.querySelector("button").focus();
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.dataset.step;
    if (step) enlarge(shown + Number(step));
    else if (event.target === dialog || event.target.matches(".close")) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (step) enlarge(shown + step);
  });
}
