// What went wrong, in words that help, and what can be done about it.
import { icon, make } from './dom.js';
import { serviceList, serviceName } from './health.js';

const TEXTS = {
  refused: ['The microphone is blocked', "Allow it in the browser's address bar and try again, or write instead."],
  missing: ['No microphone found', 'Plug one in and try again, or write instead.'],
  busy: ['The microphone is in use', 'Close the program that uses it and try again, or write instead.'],
  insecure: ['The microphone needs a secure page', 'Open this page over HTTPS or on localhost, or write instead.'],
  unplugged: ['The microphone was unplugged', 'Plug it in again and reconnect.'],
  browser: ['This browser is too old', 'Talking needs a recent Chrome, Edge, Firefox or Safari.'],
  gone: ['The server is gone', 'The connection was lost. Check your network, or whether the server is running.'],
  timeout: ['The server takes too long', 'It did not answer in time.'],
  full: ['Everyone is talking', 'All places are taken. One will be free soon.'],
  draining: ['The server restarts', 'It will be back in a moment.'],
  idle: ['Still there?', 'The conversation ended, as nothing was said for a while.'],
  ended: ['The conversation has ended', 'Connect again to start a new one.'],
  token: ['This page is out of date', 'Please reload it.'],
};

// What a service said, without its name before it.
function sentence(message) {
  const text = message.replace(/^\w+ service: /, '');
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

export class Problems {
  // `actions` has `retry`, `type` and `stop`.
  constructor(card, actions) {
    Object.assign(this, { card, actions });
  }

  hide() {
    this.card.hidden = true;
    this.card.replaceChildren();
    this.kind = undefined;
    clearInterval(this.counting);
  }

  show(problem) {
    const [title, text] = this.describe(problem);
    const buttons = [];
    if (problem.retrying) {
      buttons.push(this.button('Stop trying', this.actions.stop, false));
    } else if (problem.code === 'token') {
      buttons.push(this.button('Reload', () => location.reload(), true));
    } else if (problem.code !== 'browser') {
      buttons.push(this.button(problem.code === 'ended' || problem.code === 'idle' ? 'Connect' : 'Try again', this.actions.retry, true));
    }
    if (problem.typing) buttons.push(this.button('Write instead', this.actions.type, false));
    const extra = problem.retrying ? this.countDown(problem.delay) : null;
    this.open(problem.code, icon('alert'), title, text, extra, buttons);
    this.card.dataset.code = problem.code;
  }

  // Says when the next attempt is made; a screen reader is spared each second of it.
  countDown(seconds) {
    const note = make('p', { class: 'um-card-note', 'aria-live': 'off' });
    let left = Math.ceil(seconds);
    const tell = () => {
      note.textContent = left > 0 ? `Trying again in ${left} s` : 'Trying again …';
      left--;
    };
    tell();
    clearInterval(this.counting);
    this.counting = setInterval(tell, 1000);
    return note;
  }

  describe(problem) {
    if (problem.code === 'down') {
      const whole = !problem.service || problem.service === 'orchestrator';
      return [`${whole ? 'The mesh' : serviceName(problem.service)} is down`, 'The conversation cannot go on without it. It may be back in a moment.'];
    }
    if (problem.code === 'limited') return ['A limit is reached', sentence(problem.message)];
    return TEXTS[problem.code] ?? ['Something went wrong', problem.message];
  }

  showHealth(status) {
    const title = status.server ? 'The mesh is getting ready' : 'The server is gone';
    const text = status.server
      ? 'Models are being loaded. You can talk as soon as all of them are there.'
      : 'It does not answer. Trying again …';
    const extra = status.server ? serviceList(status.services, status.seconds) : null;
    this.open('health', null, title, text, extra, []);
    this.card.dataset.code = status.server ? 'health' : 'gone';
  }

  open(kind, symbol, title, text, extra, buttons) {
    this.kind = kind;
    if (!extra?.matches('.um-card-note')) clearInterval(this.counting);
    const actions = buttons.length ? make('div', { class: 'um-actions' }, ...buttons) : null;
    this.card.replaceChildren(
      ...[symbol, make('h2', { text: title }), make('p', { text }), extra, actions].filter(Boolean),
    );
    this.card.hidden = false;
  }

  button(text, action, strong) {
    const button = make('button', { type: 'button', class: `um-button${strong ? ' um-strong' : ''}`, text });
    button.onclick = action;
    return button;
  }
}
