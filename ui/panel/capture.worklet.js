// The microphone: 20 ms frames of 16-bit PCM at the rate that the connection asks for. Muted, it sends silence.
import { Resampler } from './resampler.js';

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.sink = null;
    this.muted = false;
    this.closed = false;
    this.port.onmessage = ({ data }) => {
      if (data.sink) this.connect(data.sink);
      if ('muted' in data) this.muted = data.muted;
      if (data.close) this.closed = true;
    };
  }

  connect(port) {
    port.onmessage = ({ data }) => {
      // No rate: nobody listens.
      this.sink = data.rate ? port : null;
      if (!data.rate) return;
      this.resampler = new Resampler(sampleRate, data.rate);
      this.frame = new Int16Array(data.rate / 50);
      this.filled = 0;
    };
  }

  process(inputs, outputs) {
    if (this.sink) {
      // Without a microphone there is no channel: the conversation still needs its clock.
      const channel = inputs[0][0];
      const silent = this.muted || !channel;
      this.write(this.resampler.push(silent ? new Float32Array(outputs[0][0].length) : channel));
    }
    return !this.closed;
  }

  write(samples) {
    for (const sample of samples) {
      // What the resampler still holds of before is silenced too.
      const value = this.muted ? 0 : Math.max(-1, Math.min(1, sample));
      this.frame[this.filled++] = value * 32767;
      if (this.filled === this.frame.length) {
        const full = this.frame;
        this.frame = new Int16Array(full.length);
        this.filled = 0;
        this.sink.postMessage({ pcm: full }, [full.buffer]);
      }
    }
  }
}

registerProcessor('unmute-capture', Capture);
