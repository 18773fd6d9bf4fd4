// For developers: state, the pause probability over time, and the events as they come.
import { make } from './dom.js';

const SPAN_SECONDS = 20;
const BREAK_MS = 600;
const MAX_EVENTS = 150;
const QUIET = new Set(['turnPrediction', 'outputTextDelta', 'inputTranscriptInterim']);

export class Developer {
  constructor(panel, facts, canvas, events) {
    Object.assign(this, { panel, facts, canvas, events });
    this.values = new Map();
    this.points = [];
    this.began = performance.now();
  }

  get shown() {
    return !this.panel.hidden;
  }

  show(shown) {
    this.panel.hidden = !shown;
    if (shown) this.draw();
  }

  set(name, value) {
    let cell = this.values.get(name);
    if (!cell) {
      cell = make('dd');
      this.values.set(name, cell);
      this.facts.append(make('div', {}, make('dt', { text: name }), cell));
    }
    cell.textContent = value;
  }

  apply(event) {
    const kind = Object.keys(event).find((name) => !['eventId', 'sequence', 'causedByEventId'].includes(name));
    if (event.turnPrediction) this.predict(event.turnPrediction.pauseProbability ?? 0);
    if (event.sessionCreated) this.set('session', event.sessionCreated.sessionId ?? '');
    if (kind && !QUIET.has(kind)) this.log(kind, event[kind]);
  }

  log(kind, body) {
    const at = ((performance.now() - this.began) / 1000).toFixed(2);
    const line = make('li', {}, make('time', { text: at }), make('b', { text: kind }), make('code', { text: brief(body) }));
    this.events.prepend(line);
    while (this.events.childElementCount > MAX_EVENTS) this.events.lastElementChild.remove();
  }

  predict(probability) {
    const now = performance.now();
    this.points.push([now, probability]);
    while (this.points.length && now - this.points[0][0] > SPAN_SECONDS * 1000) this.points.shift();
    if (this.shown) this.draw();
  }

  draw() {
    const { canvas } = this;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext('2d');
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    pen.strokeStyle = style.getPropertyValue('--um-line');
    for (const level of [0, 0.5, 1]) line(pen, [[0, y(level, height)], [width, y(level, height)]]);
    const now = performance.now();
    const x = (at) => width - ((now - at) / (SPAN_SECONDS * 1000)) * width;
    pen.strokeStyle = style.getPropertyValue('--um-voice');
    pen.lineWidth = 1.75;
    pen.lineJoin = 'round';
    for (const run of runs(this.points)) {
      line(pen, run.map(([at, value]) => [x(at), y(value, height)]));
    }
  }
}

// Parts without a break: nothing is predicted while the assistant speaks.
function runs(points) {
  const found = [];
  points.forEach((point, index) => {
    if (!index || point[0] - points[index - 1][0] > BREAK_MS) found.push([]);
    found.at(-1).push(point);
  });
  return found;
}

const y = (value, height) => 3 + (1 - value) * (height - 6);

function line(pen, points) {
  pen.beginPath();
  points.forEach(([left, top]) => pen.lineTo(left, top));
  pen.stroke();
}

function brief(body) {
  const text = JSON.stringify(body, (key, value) => (key === 'session' ? undefined : value)) ?? '';
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
