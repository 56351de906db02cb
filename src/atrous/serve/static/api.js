// Requests to the server, and their errors in the words of a person.

const MESSAGES = {
  401: () => "The server asks for its token. Reload the page and enter it as the password.",
  408: () => "The upload took too long. Try a smaller image or a faster connection.",
  413: () => "The image is too large for this server. Make it smaller.",
  415: () => "This is not an image the server can read. Use JPEG, PNG or WebP.",
  422: () => "The image seems to be damaged. Save it again, or choose another.",
  429: (response) => `The server is busy. Try again in ${count(response.headers.get("Retry-After") ?? 1, "second")}.`,
  503: () => "The server is starting or stopping. Try again shortly.",
  504: () => "This took longer than the server allows. Use a smaller image, or try again later.",
};
const FAILED = () => "Something went wrong on the server. Its log has the details.";

export const count = (number, noun) => `${number} ${noun}${Number(number) === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;

/** Request a path. Its error is a sentence, except for AbortError. */
export async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond. Is it still running?");
  }
  if (!response.ok) throw Object.assign(new Error((MESSAGES[response.status] ?? FAILED)(response)), { status: response.status });
  return response;
}

export function segment(blob, model, parameters, signal) {
  const path = `v1/segment?model=${encodeURIComponent(model)}&${parameters}`;
  return request(path, { method: "POST", body: blob, signal });
}

/** Fetch models and limits; wait while the models are loading. */
export async function fetchModels(onWait) {
  for (;;) {
    try {
      return await (await request("v1/models")).json();
    } catch (error) {
      if (error.status !== 503) throw error;
    }
    onWait();
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
