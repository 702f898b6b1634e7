// Diagrams of Mermaid, where the front end draws them; else they stay code.
//
// The front end's own renderer makes an image of the drawing; only this image is shown, in which no script runs.
import { make } from "./elements.js";

const MARKDOWN = "text/markdown"; // Notebook 7 draws diagrams in Markdown only
const DRAWING = "data:image/svg+xml";

const drawings = new Map(); // by their text: an answer is sent again when it has ended, and is to stay as it is

// put the drawing above each block of Mermaid code in a piece of the page; `keepingItsEnd` wraps what changes heights
export function drawDiagrams(panel, root) {
  for (const code of root.querySelectorAll("code.language-mermaid")) {
    const block = code.closest("pre");
    const text = code.textContent;
    if (drawings.has(text)) block.before(drawings.get(text).cloneNode());
    else
      drawing(panel, text).then((image) => {
        if (!image) return;
        drawings.set(text, image);
        panel.log.keepingItsEnd(() => block.before(image.cloneNode()));
      });
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
    const image = make("img", { src: drawn.src, className: "piano-diagram", alt: `Diagram: ${text}` });
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
