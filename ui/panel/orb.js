// The one thing to look at: a soft shape that breathes, swells with the assistant's voice, and is ringed by the user's.
const POINTS = 160;
const TURN = 2 * Math.PI;
const CALM = window.matchMedia('(prefers-reduced-motion: reduce)');

export class Orb {
  // `look()` returns { state, user, assistant }; the last two are AnalyserNodes or null.
  constructor(canvas, look) {
    Object.assign(this, { canvas, look });
    this.pen = canvas.getContext('2d');
    this.levels = { user: 0, assistant: 0 };
    this.energy = 0;
    this.time = 0;
    this.bands = new Float32Array(7);
    this.samples = new Float32Array(1024);
    this.spectrum = new Uint8Array(512);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    this.resize();
    const frame = (now) => {
      if (!canvas.isConnected) return;
      if (!document.hidden) this.draw(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  recolour() {
    const style = getComputedStyle(this.canvas);
    const names = ['voice', 'voice-2', 'voice-3', 'user', 'idle', 'idle-2'];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--um-${name}`).trim()]));
  }

  resize() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.size = Math.min(this.canvas.clientWidth, this.canvas.clientHeight) || 300;
    this.canvas.width = this.canvas.clientWidth * ratio;
    this.canvas.height = this.canvas.clientHeight * ratio;
    this.ratio = ratio;
    this.recolour();
  }

  listen({ state, user, assistant }) {
    for (const [name, node] of [['user', user], ['assistant', assistant]]) {
      const target = node ? Math.min(1, loudness(node, this.samples) * 5) : 0;
      const speed = target > this.levels[name] ? 0.45 : 0.12;
      this.levels[name] += (target - this.levels[name]) * speed;
    }
    this.energy += ((state === 'live' ? 1 : state === 'idle' ? 0 : 0.35) - this.energy) * 0.06;
    if (assistant) assistant.getByteFrequencyData(this.spectrum);
    else this.spectrum.fill(0);
    for (let i = 0; i < this.bands.length; i++) {
      const value = this.spectrum[2 + Math.round(2 ** (i * 0.9))] / 255;
      this.bands[i] += (value - this.bands[i]) * 0.25;
    }
  }

  draw(now) {
    const look = this.look();
    this.listen(look);
    const moved = Math.min(50, now - (this.last ?? now)) / 1000;
    this.last = now;
    this.time += moved * (CALM.matches ? 0.15 : 0.5 + this.levels.assistant * 1.6);
    const { pen, size, ratio } = this;
    pen.setTransform(ratio, 0, 0, ratio, this.canvas.width / 2, this.canvas.height / 2);
    pen.clearRect(-size, -size, 2 * size, 2 * size);
    const radius = size * (0.255 + 0.045 * this.levels.assistant + 0.006 * Math.sin(this.time * 1.8));
    this.halo(radius);
    this.rings(radius);
    this.body(radius);
    if (['connecting', 'reconnecting', 'waiting'].includes(look.state)) this.wait(radius, now);
  }

  halo(radius) {
    const { pen, colours, size } = this;
    const reach = Math.min(size / 2, radius * (1.65 + 0.2 * this.levels.assistant));
    const glow = pen.createRadialGradient(0, 0, radius * 0.8, 0, 0, reach);
    // Colours are #rrggbb: the same one, clear, so that the edge does not turn grey.
    glow.addColorStop(0, colours['voice-2']);
    glow.addColorStop(1, `${colours['voice-2']}00`);
    pen.globalAlpha = 0.08 + 0.14 * this.energy + 0.3 * this.levels.assistant;
    pen.fillStyle = glow;
    circle(pen, reach);
    pen.fill();
    pen.globalAlpha = 1;
  }

  // The user's voice: rings around the shape that open with what the microphone hears.
  rings(radius) {
    const { pen, colours } = this;
    const level = this.levels.user;
    pen.strokeStyle = colours.user;
    for (let ring = 0; ring < 3; ring++) {
      const open = Math.max(0, level - ring * 0.18);
      pen.globalAlpha = this.energy * Math.min(0.95, (ring ? 0 : 0.28) + open * 1.5) * (1 - ring * 0.25);
      if (pen.globalAlpha < 0.02) continue;
      pen.lineWidth = 1.5 + 3 * open;
      this.contour(radius * (1.17 + ring * 0.12 + open * 0.16), 0.012 + open * 0.03, ring * 2.1, 5 + ring);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  body(radius) {
    const { pen, colours, energy } = this;
    const layers = [
      [1.05, 0.055, 0, colours['voice-3'], 0.35],
      [1.0, 0.045, 2.4, colours['voice-2'], 0.6],
      [0.94, 0.035, 4.1, colours.voice, 1],
    ];
    for (const [scale, wobble, seed, colour, alpha] of layers) {
      const size = radius * scale;
      this.contour(size, wobble * (0.35 + 0.65 * energy) + 0.05 * this.levels.assistant, seed, 3, this.levels.assistant);
      const fill = pen.createLinearGradient(-size * 0.6, -size, size * 0.6, size);
      fill.addColorStop(0, colours['idle-2']);
      fill.addColorStop(1, colours.idle);
      pen.globalAlpha = alpha;
      pen.fillStyle = fill;
      pen.fill();
      pen.globalAlpha = alpha * energy;
      const lit = pen.createLinearGradient(-size * 0.7, -size, size * 0.7, size);
      lit.addColorStop(0, colours['voice-2']);
      lit.addColorStop(1, colour);
      pen.fillStyle = lit;
      pen.fill();
    }
    const shine = pen.createRadialGradient(-radius * 0.35, -radius * 0.45, 0, -radius * 0.35, -radius * 0.45, radius * 1.1);
    shine.addColorStop(0, 'rgba(255,255,255,.5)');
    shine.addColorStop(1, 'rgba(255,255,255,0)');
    pen.globalAlpha = 0.8;
    pen.fillStyle = shine;
    pen.fill();
    pen.globalAlpha = 1;
  }

  // A smooth closed path around the centre; `voice` lets the spectrum push it outwards.
  contour(radius, wobble, seed, waves, voice = 0) {
    const { pen, time } = this;
    pen.beginPath();
    for (let i = 0; i <= POINTS; i++) {
      const angle = (i / POINTS) * TURN;
      const slow = Math.sin(angle * waves + time * 1.3 + seed) + 0.6 * Math.sin(angle * (waves - 1) - time * 0.9 + seed * 2);
      const reach = radius * (1 + wobble * slow * 0.6 + voice * this.band(angle + seed) * 0.16);
      pen.lineTo(reach * Math.cos(angle - Math.PI / 2), reach * Math.sin(angle - Math.PI / 2));
    }
    pen.closePath();
  }

  // How much the voice has at an angle, between the bands of the spectrum without a corner.
  band(angle) {
    const { bands } = this;
    const place = (0.5 - 0.5 * Math.cos(angle)) * (bands.length - 1.001);
    const low = Math.floor(place);
    const mix = 0.5 - 0.5 * Math.cos(Math.PI * (place - low));
    return bands[low] * (1 - mix) + bands[low + 1] * mix;
  }

  wait(radius, now) {
    const { pen, colours } = this;
    const at = (now / 900) * TURN;
    pen.strokeStyle = colours.voice;
    pen.lineWidth = 2.5;
    pen.lineCap = 'round';
    pen.beginPath();
    pen.arc(0, 0, radius * 1.28, at, at + 1.3);
    pen.stroke();
  }
}

function circle(pen, radius) {
  pen.beginPath();
  pen.arc(0, 0, radius, 0, TURN);
}

// Root mean square of what sounds now.
export function loudness(node, samples) {
  node.getFloatTimeDomainData(samples);
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / samples.length);
}
