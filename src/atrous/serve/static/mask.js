// Masks as arrays: from the server's run lengths to the coloured layer over an image.

/** Decode a result to one class per pixel of an image of another size; 255 is ignored. */
export function decodeMask({ width, height, annotations }, toWidth, toHeight) {
  const mask = new Uint8Array(width * height).fill(255);
  for (const { category_id, segmentation } of annotations) fillRuns(mask, width, height, segmentation.counts, category_id);
  const small = new Uint8Array(toWidth * toHeight);
  for (let y = 0, at = 0; y < toHeight; y++) {
    const row = Math.floor((y + 0.5) * height / toHeight) * width;
    for (let x = 0; x < toWidth; x++) small[at++] = mask[row + Math.floor((x + 0.5) * width / toWidth)];
  }
  return small;
}

/** Decode COCO's compressed run lengths of a class: column by column, starting outside of it. */
function fillRuns(mask, width, height, counts, index) {
  const runs = [];
  for (let at = 0, place = 0; at < counts.length;) {
    let run = 0, shift = 0, letter;
    do {
      letter = counts.charCodeAt(at++) - 48;
      run |= (letter & 31) << shift;
      shift += 5;
    } while (letter & 32);
    if (letter & 16) run |= -1 << shift;
    if (runs.length > 2) run += runs.at(-2); // from the third on, relative to the one before last
    runs.push(run);
    const end = place + run;
    if (runs.length % 2) place = end;
    else for (; place < end; place++) mask[(place % height) * width + Math.floor(place / height)] = index;
  }
}

/** Return 1 for the pixels along the borders of classes; the lines are wider in larger masks. */
export function findBorders(mask, width, height) {
  const reach = Math.max(0.5, 0.0008 * Math.sqrt(width * height));
  const before = Math.floor(reach), after = Math.ceil(reach);
  const border = new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const up = Math.min(before, y) * width, down = Math.min(after, height - 1 - y) * width;
    for (let x = 0; x < width; x++, at++) {
      const left = Math.min(before, x), right = Math.min(after, width - 1 - x), index = mask[at];
      border[at] = mask[at - up] !== index || mask[at + down] !== index || mask[at - left] !== index || mask[at + right] !== index;
    }
  }
  return border;
}

export const parseColor = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
export const isBlack = (color) => color.every((channel) => channel === 0);

/** Draw the classes of a mask. `weigh` returns the weight of a class, 0 to 1. */
export function drawLayer(layer, { mask, border, colors }, weigh, outlines) {
  const pack = ([red, green, blue], alpha) => (Math.round(255 * alpha) << 24 | blue << 16 | green << 8 | red) >>> 0;
  const tints = new Uint32Array(256), lines = new Uint32Array(256);
  colors.forEach((color, index) => {
    const light = color.map((channel) => Math.round(0.35 * channel + 0.65 * 255));
    tints[index] = outlines ? 0 : pack(color, weigh(index));
    lines[index] = pack(outlines ? color : light, weigh(index));
  });
  const image = new ImageData(layer.width, layer.height), pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = (border[at] ? lines : tints)[mask[at]];
  layer.getContext("2d").putImageData(image, 0, 0);
}
