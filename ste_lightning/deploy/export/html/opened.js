// From a file's bytes to a network that runs, or a sentence that says why not.

async function openedNetwork(bytes) {
  try {
    return networkOf(await readPacked(bytes));
  } catch (error) {
    if (error instanceof Refusal) throw error;
    return refuse(`it does not fit together (${error.message})`);
  }
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
