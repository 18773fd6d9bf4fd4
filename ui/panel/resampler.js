// Changes the rate of a live mono stream with a windowed sinc; any ratio, no delay but the window's half.
const PHASES = 256;

export class Resampler {
  constructor(sourceRate, targetRate) {
    this.same = sourceRate === targetRate;
    this.step = sourceRate / targetRate;
    const cutoff = Math.min(1, 1 / this.step) * 0.94;
    this.span = Math.ceil((this.step > 1 ? 16 : 12) / cutoff);
    this.taps = 2 * this.span + 1;
    this.kernel = this.same ? null : makeKernel(this.span, this.taps, cutoff);
    this.buffer = new Float32Array(this.span * 2 + 16384);
    this.length = this.span;
    this.position = this.span;
  }

  // Returns the samples (Float32Array) that are ready after `samples`.
  push(samples) {
    if (this.same) return samples;
    this.append(samples);
    const ready = [];
    while (this.position + this.span + 1 < this.length) {
      const whole = Math.floor(this.position);
      const phase = Math.round((this.position - whole) * PHASES) * this.taps;
      const from = whole - this.span;
      let sum = 0;
      for (let i = 0; i < this.taps; i++) sum += this.buffer[from + i] * this.kernel[phase + i];
      ready.push(sum);
      this.position += this.step;
    }
    return Float32Array.from(ready);
  }

  append(samples) {
    const used = Math.floor(this.position) - this.span;
    if (this.length + samples.length > this.buffer.length) {
      const kept = this.buffer.subarray(used, this.length);
      const needed = kept.length + samples.length;
      const target = needed > this.buffer.length ? new Float32Array(needed * 2) : this.buffer;
      if (target === this.buffer) target.copyWithin(0, used, this.length);
      else target.set(kept);
      this.buffer = target;
      this.length -= used;
      this.position -= used;
    }
    this.buffer.set(samples, this.length);
    this.length += samples.length;
  }
}

function makeKernel(span, taps, cutoff) {
  const kernel = new Float32Array((PHASES + 1) * taps);
  for (let phase = 0; phase <= PHASES; phase++) {
    let sum = 0;
    for (let i = 0; i < taps; i++) {
      const t = i - span - phase / PHASES;
      const x = Math.PI * t * cutoff;
      const window = Math.abs(t) <= span ? 0.5 + 0.5 * Math.cos((Math.PI * t) / (span + 1)) : 0;
      const value = (x === 0 ? 1 : Math.sin(x) / x) * window;
      kernel[phase * taps + i] = value;
      sum += value;
    }
    for (let i = 0; i < taps; i++) kernel[phase * taps + i] /= sum;
  }
  return kernel;
}
