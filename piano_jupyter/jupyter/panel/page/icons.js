// The icons of buttons, drawn with the colour of the text.

const SHAPES = {
  threads: "M2 4h12M2 8h12M2 12h8",
  plus: "M8 3v10M3 8h10",
  more: "M3 8h.01M8 8h.01M13 8h.01",
  settings:
    "M2 4h6M12 4h2M2 8h2M8 8h6M2 12h7M13 12h1M8 4a2 2 0 1 0 4 0a2 2 0 1 0-4 0M4 8a2 2 0 1 0 4 0a2 2 0 1 0-4 0M9 12a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
  down: "M4 6l4 4l4-4",
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [attribute, value] of Object.entries({ viewBox: "0 0 16 16", "aria-hidden": "true", class: "piano-icon" }))
    svg.setAttribute(attribute, value);
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}
