// Diagrams of Mermaid, where the front end draws them; else they stay code.
//
// The front end's own renderer makes an image of the drawing; only this image is shown, in which no script runs. But it
// draws in the page itself, so a text that would load something there (an image in a label, for one) stays code.
import { make } from "./elements.js";

const MARKDOWN = "text/markdown"; // Notebook 7 draws diagrams in Markdown only
const DRAWING = "data:image/svg+xml";
const DIAGRAM = "code.language-mermaid";
const DRAWN = "piano-diagram";

const LOADING = [
  /[<~][a-z][^<>~]*=|<style/i, // HTML with an address in it; a class diagram writes its < as ~
  /\b(url|src|image-set)\s*\((?!\s*\))|@import/i, // styles
  /"icon"\s*:/i, // the picture of somebody in a sequence diagram
  /!\[/, // an image in Markdown
  /\\(?!n)/, // another way to write the letters of all these, in styles, JSON and YAML
  /\S[^\S\n]*%%\{|\}%%[^\S\n]*\S/, // a directive, which is taken out, in the middle of a word
];
const DECODED = 5; // times at most

const drawings = new Map(); // by their text: an answer is sent again when it has ended, and is to stay as it is

// put the drawing above each block of Mermaid code in a piece that the log is about to show; one that is drawn later
// finds the blocks that the log shows then, because a piece that is like what is there does not come into the page
export function drawDiagrams(panel, piece) {
  for (const code of piece.querySelectorAll(DIAGRAM)) {
    const text = code.textContent;
    if (mayLoad(text)) continue;
    if (drawings.has(text)) place(piece, text);
    else
      drawing(panel, text).then((image) => {
        if (!image) return;
        drawings.set(text, image);
        panel.log.keepingItsEnd(() => place(panel.log.entries, text));
      });
  }
}

function place(root, text) {
  for (const code of root.querySelectorAll(DIAGRAM)) {
    const block = code.closest("pre");
    if (code.textContent !== text || block.previousElementSibling?.matches(`.${DRAWN}`)) continue;
    block.before(drawings.get(text).cloneNode());
  }
}

// return an image, or null where the front end draws none, or the text is no diagram
async function drawing(panel, text) {
  try {
    const model = { data: { [MARKDOWN]: fenced(text) }, metadata: {}, trusted: false, setData() {} };
    const renderer = panel.model.widget_manager.rendermime.createRenderer(MARKDOWN);
    await renderer.renderModel(model);
    const drawn = renderer.node.querySelector("img");
    renderer.dispose();
    if (!drawn?.src.startsWith(DRAWING)) return null;
    const image = make("img", { src: drawn.src, className: DRAWN, alt: `Diagram: ${text}` });
    if (drawn.hasAttribute("width")) image.width = drawn.getAttribute("width");
    return image;
  } catch {
    return null;
  }
}

// as a block of code that nothing in the text ends: outside of it, an address of an image would be loaded
function fenced(text) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}mermaid\n${text}\n${fence}`;
}

// return whether drawing a text may load something: as it stands, or once what stands for a sign is that sign
function mayLoad(text) {
  for (let times = 0; times < DECODED; times++) {
    if (LOADING.some((each) => each.test(text))) return true;
    if (text.includes("@{") && /\bimg\b/i.test(text)) return true; // a shape that is an image
    const decoded = decode(text);
    if (decoded === text) return false;
    text = decoded;
  }
  return true;
}

// HTML's entities, and Mermaid's, as in #lt; or #60;
function decode(text) {
  const decoder = make("textarea");
  decoder.innerHTML = text.replace(/&?#(x?)(\w+);/gi, (_, x, name) =>
    x || /^\d+$/.test(name) ? `&#${x}${name};` : `&${name};`,
  );
  return decoder.value;
}
