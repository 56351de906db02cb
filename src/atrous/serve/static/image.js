// Image files: reading them in the browser, and what is sent to the server.

const MAX_SIDE_PX = 2048; // of the image on the page; the server gets all pixels
const SENT_UNCHANGED = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff"];

/** Read an image file for the page and for the server. Its error is a sentence for a person. */
export async function readImage(file, limits) {
  const refuse = (what, most) => { throw new Error(`${file.name} is too large: ${what}. This server takes up to ${most}.`); };
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  if (file.size > limits.max_body_bytes) refuse(megabytes(file.size), megabytes(limits.max_body_bytes));
  const whole = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} is not an image the browser can read. Use JPEG, PNG or WebP.`);
  });
  const { width, height } = whole;
  if (width * height > limits.max_pixels) refuse(`${width} × ${height} pixels`, `${+(limits.max_pixels / 1e6).toPrecision(3)} million`);
  const blob = SENT_UNCHANGED.includes(file.type) ? file : await encode(whole);
  if (blob.size > limits.max_body_bytes) refuse(`${megabytes(blob.size)} as PNG`, megabytes(limits.max_body_bytes));
  const factor = Math.min(1, MAX_SIDE_PX / Math.max(width, height));
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(1, Math.round(side * factor)));
  const bitmap = await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  whole.close();
  return { name: file.name, blob, bitmap };
}

export function draw(source, width = source.width, height = source.height) {
  const copy = new OffscreenCanvas(width, height);
  copy.getContext("2d").drawImage(source, 0, 0, width, height);
  return copy;
}

export const encode = (source) => draw(source).convertToBlob({ type: "image/png" });

/** Decode the confidence of each pixel, 255 for 1, at another size. */
export async function readConfidence(base64, width, height) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const options = { colorSpaceConversion: "none", resizeWidth: width, resizeHeight: height, resizeQuality: "pixelated" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), options);
  const pixels = draw(bitmap).getContext("2d").getImageData(0, 0, width, height).data;
  return pixels.filter((_, at) => at % 4 === 0);
}

export function saveFile(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
