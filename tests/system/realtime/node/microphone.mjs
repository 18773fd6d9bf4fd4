// A microphone that is always on: what is to be said, else silence, 40 ms at a time.
import { readFileSync } from 'node:fs';

const FRAME = 24_000 * 2 * 0.04;

export class Microphone {
  #saying = Buffer.alloc(0);
  #timer;

  constructor(send) {
    this.#timer = setInterval(() => {
      const frame = Buffer.alloc(FRAME);
      this.#saying.copy(frame, 0, 0, FRAME);
      this.#saying = this.#saying.subarray(FRAME);
      send(frame);
    }, 40);
  }

  // `path` holds mono 16-bit PCM at 24 kHz without a header.
  say(path) {
    this.#saying = Buffer.concat([this.#saying, readFileSync(path)]);
  }

  stop() {
    clearInterval(this.#timer);
  }
}

// Events as they come, and promises of those to come.
export class Log {
  events = [];
  #waiting = [];

  add(event) {
    this.events.push(event);
    this.#waiting = this.#waiting.filter(({ matches, resolve }) => !matches(event) || resolve(event));
  }

  until(type, matches = () => true, after = 0) {
    const wanted = (event) => event.type === type && matches(event);
    const found = this.events.slice(after).find(wanted);
    if (found) return Promise.resolve(found);
    return new Promise((resolve) => this.#waiting.push({ matches: wanted, resolve }));
  }

  of(type) {
    return this.events.filter((event) => event.type === type);
  }
}

// The audio of all deltas so far, as bytes.
export function audio(log) {
  return Buffer.concat(log.of('response.output_audio.delta').map((event) => Buffer.from(event.delta, 'base64')));
}
