// Photos: a frame of the camera's video stream or, where that is not available, the phone's app.

import { encode } from "./image.js";

const dialog = document.querySelector("dialog"), video = document.querySelector("video");

/** Let `button` take photos for `onPhoto`, or call `onMissing` where the page has no camera. */
export function addCamera(button, onPhoto, onMissing) {
  button.addEventListener("click", async () => {
    if (!navigator.mediaDevices) return onMissing();
    try {
      const constraints = { facingMode: "environment", width: { ideal: 1920 } };
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: constraints });
      dialog.showModal();
    } catch {
      onMissing("The browser does not give this page a camera. Allow it, or choose an image.");
    }
  });
  dialog.querySelector(".leave").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => video.srcObject?.getTracks().forEach((track) => track.stop()));
  dialog.querySelector(".shoot").addEventListener("click", async () => {
    const frame = await createImageBitmap(video);
    dialog.close();
    onPhoto(new File([await encode(frame)], "photo.png", { type: "image/png" }));
  });
}
