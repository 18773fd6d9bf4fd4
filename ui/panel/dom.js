// Elements made by name and text. Nothing that somebody said or wrote is ever parsed as HTML.
const SVG = 'http://www.w3.org/2000/svg';

export function make(name, { text, ...attributes } = {}, ...children) {
  return fill(document.createElement(name), text, attributes, children);
}

export function makeSvg(name, { text, ...attributes } = {}, ...children) {
  return fill(document.createElementNS(SVG, name), text, attributes, children);
}

export function icon(name) {
  return makeSvg('svg', { 'aria-hidden': 'true' }, makeSvg('use', { href: `#um-${name}` }));
}

function fill(element, text, attributes, children) {
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined && value !== null) element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

// Returns an object that gives the panel's elements by their data-id.
export function parts(panel) {
  return Object.fromEntries([...panel.querySelectorAll('[data-id]')].map((part) => [part.dataset.id, part]));
}

export function seconds(duration) {
  return duration === undefined ? undefined : Number.parseFloat(duration);
}
