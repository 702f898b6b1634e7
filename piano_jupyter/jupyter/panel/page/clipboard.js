// Copying a text. Over plain http there is no clipboard API: then a selection is copied, where the browser still does that.

// return whether it was copied
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const focused = document.activeElement;
  const box = document.createElement("textarea");
  box.value = text;
  box.style.cssText = "position:fixed;top:0;opacity:0";
  document.body.append(box);
  box.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    box.remove();
    focused?.focus({ preventScroll: true });
  }
}

const COPIED = "Copied";
const NOT_COPIED = "Not copied: select it and press Ctrl+C";
const SHOWN_MS = 2500;

// copy what `text` returns, and say on the button whether that worked
export async function copyFrom(panel, button, text) {
  let done = false;
  try {
    done = await copyText(await text());
  } catch {
    // the kernel did not tell the text: not copied
  }
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done ? COPIED : NOT_COPIED;
  panel.announce(button.textContent);
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = setTimeout(() => (button.textContent = label), SHOWN_MS);
}
