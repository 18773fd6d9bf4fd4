// How long each answer took, by stage: a bar for each turn, the newest at the right.
import { make, makeSvg, seconds } from './dom.js';

const STAGES = [
  ['turn', 'turn end'],
  ['transcript', 'transcript'],
  ['token', 'model'],
  ['audio', 'voice'],
  ['page', 'page'],
];
const TURNS = 12;
const WIDTH = 320;
const HEIGHT = 96;

export class Latency {
  constructor(section, plot, legend, last) {
    Object.assign(this, { section, plot, last });
    this.turns = [];
    this.delays = new Map(); // response id to the page's own share, in ms
    this.rtt = 0;
    legend.append(...STAGES.map(([key, text]) => make('li', { class: `um-stage-${key}`, text })));
  }

  // The first audio of a response sounds, `delay` ms after it arrived.
  started({ responseId, delay }) {
    if (!this.delays.has(responseId)) this.delays.set(responseId, delay);
    const turn = this.turns.find((one) => one.id === responseId);
    if (turn) this.complete(turn);
  }

  done(response) {
    const timing = response?.timing;
    const delays = ['endOfTurnDelay', 'transcriptDelay', 'firstTokenDelay', 'firstAudioDelay'].map((name) =>
      seconds(timing?.[name]),
    );
    if (delays[3] === undefined) return;
    const turn = { id: response.id, stages: {} };
    let before = 0;
    delays.forEach((delay, index) => {
      const until = Math.max(before, (delay ?? before / 1000) * 1000);
      turn.stages[STAGES[index][0]] = until - before;
      before = until;
    });
    this.complete(turn);
    this.turns.push(turn);
    if (this.turns.length > TURNS) this.turns.shift();
    this.draw();
  }

  complete(turn) {
    turn.stages.page = (this.delays.get(turn.id) ?? 0) + this.rtt;
    turn.total = Object.values(turn.stages).reduce((sum, value) => sum + value, 0);
  }

  draw() {
    this.section.hidden = false;
    const longest = Math.max(...this.turns.map((turn) => turn.total), 500);
    const step = niceStep(longest);
    const top = Math.ceil(longest / step) * step;
    const y = (value) => HEIGHT - (value / top) * (HEIGHT - 6);
    const lines = [];
    for (let value = 0; value <= top; value += step) {
      lines.push(makeSvg('line', { x1: 34, x2: WIDTH, y1: y(value), y2: y(value), class: 'um-grid' }));
      lines.push(makeSvg('text', { x: 28, y: y(value) + 3.5, class: 'um-axis', text: (value / 1000).toFixed(step < 500 ? 2 : 1) }));
    }
    const width = (WIDTH - 40) / TURNS;
    const bars = this.turns.map((turn, index) => bar(turn, 38 + index * width, width - 6, y));
    const newest = this.turns.at(-1);
    const label = `Seconds to answer for ${this.turns.length} turns; the last took ${(newest.total / 1000).toFixed(2)} s`;
    const svg = { viewBox: `0 0 ${WIDTH} ${HEIGHT + 6}`, role: 'img', 'aria-label': label };
    this.plot.replaceChildren(makeSvg('svg', svg, ...lines, ...bars));
    this.last.textContent = `${(newest.total / 1000).toFixed(2)} s`;
  }
}

function bar(turn, x, width, y) {
  let reached = 0;
  const described = STAGES.map(([key, text]) => `${text} ${Math.round(turn.stages[key] ?? 0)} ms`).join(', ');
  const parts = STAGES.filter(([key]) => turn.stages[key] > 0).map(([key]) => {
    const from = reached;
    reached += turn.stages[key];
    const shape = { x, width, y: y(reached), height: Math.max(1, y(from) - y(reached) - 1), rx: 1.5 };
    return makeSvg('rect', { ...shape, class: `um-stage-${key}` });
  });
  return makeSvg('g', {}, makeSvg('title', { text: described }), ...parts);
}

function niceStep(longest) {
  return [250, 500, 1000, 2000, 5000, 10000].find((step) => longest / step <= 4) ?? 30000;
}
