// Diagrams of Mermaid, where the front end draws them; else they stay code.
//
// The front end's own renderer makes an image of the drawing; only this image is shown, in which no script runs.
import { make } from "./elements.js";

const MERMAID = "text/vnd.mermaid";
const DRAWING = "data:image/svg+xml";

// put the drawing above each block of Mermaid code in a piece of the page; `keepingItsEnd` wraps what changes heights
export function drawDiagrams(panel, root) {
  for (const code of root.querySelectorAll("code.language-mermaid")) {
    const block = code.closest("pre");
    drawing(panel, code.textContent).then((image) => {
      if (image) panel.log.keepingItsEnd(() => block.before(image));
    });
  }
}

// return an image, or null where the front end draws none, or the text is no diagram
async function drawing(panel, text) {
  try {
    const model = { data: { [MERMAID]: text }, metadata: {}, trusted: false, setData() {} };
    const renderer = panel.model.widget_manager.rendermime.createRenderer(MERMAID);
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
