// The loudspeaker: a jitter buffer of numbered tracks. It waits for a little audio before it begins, waits again (and
// for a little more) when it runs dry, holds when told to, and drops what was cleared.
import { Resampler } from './resampler.js';

const TRACK_RATE = 24000;
const FIRST_WAIT = 0.06;
const LONGEST_WAIT = 0.3;
const FADE = 0.005;
const REPORT_SECONDS = 0.05;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.offset = 0; // in the first chunk
    this.queued = 0;
    this.wait = FIRST_WAIT;
    this.running = false;
    this.held = false;
    this.gain = 1;
    this.last = 0;
    this.track = 0;
    this.played = 0;
    this.dropouts = 0;
    this.waitBefore = 0; // it ran dry, and nothing came since: what the wait was
    this.sinceReport = 0;
    this.closed = false;
    this.port.onmessage = ({ data }) => {
      if (data.source) this.connect(data.source);
      if (data.close) this.closed = true;
    };
  }

  connect(port) {
    this.out = port;
    port.onmessage = ({ data }) => {
      if (data.pcm) this.add(data);
      else if (data.end) this.queue.push({ track: data.end, total: data.samples });
      else if (data.clear) this.clear(data.clear);
      else if ('held' in data) this.held = data.held;
    };
  }

  add({ track, pcm, rate }) {
    if (this.source?.track !== track) this.source = { track, resampler: new Resampler(rate, sampleRate) };
    const samples = this.source.resampler.push(pcm);
    if (!samples.length) return;
    this.waitBefore = 0;
    this.queue.push({ track, samples });
    this.queued += samples.length;
  }

  clear(tracks) {
    const cut = tracks.includes(this.track);
    this.queue = this.queue.filter((chunk, index) => {
      const keep = !tracks.includes(chunk.track);
      if (!keep && chunk.samples) this.queued -= chunk.samples.length - (index === 0 ? this.offset : 0);
      if (!keep && index === 0) this.offset = 0;
      return keep;
    });
    this.held = false;
    if (cut) {
      this.running = false;
      this.report({ stopped: true });
      this.track = 0;
    }
  }

  process(_, outputs) {
    const output = outputs[0][0];
    const ended = this.queue.some((chunk) => !chunk.samples);
    if (!this.running && this.queue.length && (ended || this.queued >= this.wait * sampleRate)) this.running = true;
    let filled = 0;
    if (this.running) filled = this.fill(output);
    this.smooth(output, filled);
    this.sinceReport += output.length / sampleRate;
    if (this.running && this.sinceReport >= REPORT_SECONDS) this.report({});
    return !this.closed;
  }

  // Plays what is there, and nothing while held; returns how many samples of `output` are set.
  fill(output) {
    let filled = 0;
    while (filled < output.length && !(this.held && this.gain === 0)) {
      const chunk = this.queue[0];
      if (!chunk) {
        // Not at the end of the last track: nothing is missing there.
        if (this.running) this.runDry();
        break;
      }
      if (chunk.track !== this.track) this.begin(chunk.track);
      if (!chunk.samples) {
        this.finish(chunk);
        continue;
      }
      const count = Math.min(output.length - filled, chunk.samples.length - this.offset);
      filled = this.copy(chunk.samples, count, output, filled);
      if (this.offset >= chunk.samples.length) {
        this.queue.shift();
        this.offset = 0;
      }
    }
    return filled;
  }

  copy(samples, count, output, filled) {
    const change = (this.held ? -1 : 1) / (FADE * sampleRate);
    for (let i = 0; i < count; i++) {
      if (this.held && this.gain === 0) return filled;
      this.gain = Math.max(0, Math.min(1, this.gain + change));
      output[filled++] = samples[this.offset++] * this.gain;
      this.played++;
      this.queued--;
    }
    return filled;
  }

  begin(track) {
    this.track = track;
    this.played = 0;
    this.gain = 1;
    this.out?.postMessage({ started: track });
    this.report({});
  }

  finish(chunk) {
    this.queue.shift();
    // All of it had been played, and only the word that it was all came late: that was no drop-out.
    if (this.waitBefore) {
      this.wait = this.waitBefore;
      this.dropouts--;
    }
    this.waitBefore = 0;
    this.wait = Math.max(FIRST_WAIT, this.wait * 0.9);
    this.report({ played: chunk.total, stopped: true, dropouts: this.dropouts });
    if (!this.queue.length) this.running = false;
  }

  runDry() {
    this.running = false;
    this.dropouts++;
    this.waitBefore = this.wait;
    this.wait = Math.min(LONGEST_WAIT, this.wait * 1.5);
    this.report({ dropouts: this.dropouts });
  }

  // A cut would click: it dies away instead.
  smooth(output, filled) {
    if (filled) this.last = output[filled - 1];
    for (let i = filled; i < output.length; i++) {
      this.last *= 0.97;
      output[i] = Math.abs(this.last) > 1e-4 ? this.last : 0;
    }
  }

  report(more) {
    this.sinceReport = 0;
    const scale = TRACK_RATE / sampleRate;
    this.out?.postMessage({
      progress: {
        track: this.track,
        played: Math.floor(this.played * scale),
        queued: Math.max(0, Math.round(this.queued * scale)),
        wait: this.wait,
        ...more,
      },
    });
  }
}

registerProcessor('unmute-playback', Playback);
