// Keys, quiet while somebody types.
import { make } from './dom.js';

const KEYS = [
  ['c', 'C', 'Connect or disconnect', 'connect'],
  ['m', 'M', 'Mute or unmute', 'mute'],
  ['escape', 'Esc', 'Interrupt the assistant', 'interrupt'],
  ['s', 'S', 'Subtitles', 'subtitles'],
  ['d', 'D', 'Developer panel', 'developer'],
  ['?', '?', 'This list', 'help'],
];

// `actions` has a function for each of the names above. Returns a function that takes the keys away again.
export function bindShortcuts(actions, list) {
  for (const [, key, text] of KEYS) {
    list.append(make('div', {}, make('dt', {}, make('kbd', { text: key })), make('dd', { text })));
  }
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing || isTyping(event)) return;
    if (document.querySelector('dialog[open]')) return;
    const found = KEYS.find(([key]) => key === event.key.toLowerCase());
    if (!found) return;
    event.preventDefault();
    actions[found[3]]();
  };
  document.addEventListener('keydown', onKey);
  return () => document.removeEventListener('keydown', onKey);
}

function isTyping({ target }) {
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}
