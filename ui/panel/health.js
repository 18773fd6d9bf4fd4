// Is the mesh ready? Asked until it is, and while it is not, the page shows what is still loading.
import { make } from './dom.js';

const NAMES = {
  stt: 'Speech to text',
  tts: 'Text to speech',
  llm: 'Language model',
  orchestrator: 'Conversations',
};
const STATES = { ready: 'ready', loading: 'loading', down: 'not reachable' };
const POLL_SECONDS = 1.5;

export class Health {
  // `onChange(status)` hears `ready`, `services` and `seconds` waited; `status.server` is false when nothing answers.
  constructor(root, onChange) {
    Object.assign(this, { root, onChange });
  }

  watch() {
    if (this.timer !== undefined) return;
    this.since = performance.now();
    this.timer = 0;
    this.poll();
  }

  async poll() {
    const status = await this.ask();
    status.seconds = (performance.now() - this.since) / 1000;
    this.timer = status.ready ? undefined : setTimeout(() => this.poll(), POLL_SECONDS * 1000);
    this.onChange(status);
  }

  async ask() {
    try {
      const response = await fetch(new URL('api/health', this.root), { cache: 'no-store' });
      if (response.ok) return { server: true, ...(await response.json()) };
    } catch {
      // Told below.
    }
    return { server: false, ready: false, services: {} };
  }
}

// Returns the list of services with their states.
export function serviceList(services, seconds) {
  const rows = Object.entries(services).map(([name, state]) =>
    make(
      'li',
      { class: `um-service um-is-${state}` },
      make('span', { class: 'um-service-name', text: NAMES[name] ?? name }),
      make('span', { text: state === 'loading' && seconds >= 1 ? `loading, ${Math.round(seconds)} s` : (STATES[state] ?? state) }),
    ),
  );
  const ready = Object.values(services).filter((state) => state === 'ready').length;
  const bar = make('progress', { max: rows.length || 1, value: ready, 'aria-label': 'Services that are ready' });
  return make('div', { class: 'um-health' }, bar, make('ul', {}, ...rows));
}

export const serviceName = (name) => NAMES[name] ?? name;
