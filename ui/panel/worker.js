// Owns the WebSocket. Audio goes worklet, worker, socket and back, so a busy page disturbs nothing.
import { makeDecoder, makeEncoder } from './codecs.js';

const HEADER = 8;
const MAX_BUFFERED = 65536;
const PROGRESS_SECONDS = 0.25;
const PING_SECONDS = 2;

let socket = null;
let capture = null;
let playback = null;
let encoder = null;
let frame = 0;
let current = 0; // number of the track that sounds
let reportedAt = 0;
const tracks = new Map();
const cleared = new Set(); // responses whose late audio is dropped
const stats = { sent: 0, received: 0, skipped: 0, late: 0, dropouts: 0 };
let dropoutsBefore = 0; // playback counts on when the connection is opened anew

self.onmessage = ({ data }) => {
  if (data.ports) connectAudio(data.ports);
  if (data.open) open(data.open);
  if (data.request) send({ request: data.request });
  if (data.interrupt) interrupt();
  if (data.close) close();
};

setInterval(() => {
  send({ ping: performance.now() });
  if (socket) post({ stats: { ...stats, buffered: socket.bufferedAmount } });
}, PING_SECONDS * 1000);

const post = (message) => self.postMessage(message);

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connectAudio(ports) {
  capture = ports.capture;
  playback = ports.playback;
  capture.onmessage = ({ data }) => encoder?.encode(data.pcm, frame++);
  playback.onmessage = ({ data }) => {
    if (data.started) started(data.started);
    if (data.progress) progress(data.progress);
  };
}

function open({ url, hello }) {
  close();
  dropoutsBefore += stats.dropouts;
  Object.assign(stats, { sent: 0, received: 0, skipped: 0, late: 0, dropouts: 0 });
  const opened = new WebSocket(url);
  socket = opened;
  opened.binaryType = 'arraybuffer';
  opened.onopen = () => send({ hello });
  opened.onmessage = ({ data }) => (typeof data === 'string' ? receive(JSON.parse(data)) : receiveAudio(data));
  opened.onclose = ({ code, reason }) => {
    if (socket !== opened) return;
    stop();
    post({ closed: { code, reason } });
  };
}

function close() {
  const old = socket;
  stop();
  old?.close(1000);
}

function stop() {
  socket = null;
  capture?.postMessage({ rate: 0 });
  encoder?.close();
  encoder = null;
  clear([...tracks.keys()]);
  tracks.clear();
  cleared.clear();
  current = 0;
}

function receive(message) {
  if (message.ready) begin(message.ready.codec);
  else if (message.track) tracks.set(message.track.number, message.track);
  else if (message.track_end) endTrack(message.track_end);
  else if (message.event) onEvent(message.event);
  if ('pong' in message) post({ rtt: performance.now() - message.pong });
  if (message.ready || message.event || message.problem) post(message);
}

function begin(codec) {
  frame = 0;
  const failed = (error) => post({ problem: { code: 'codec', message: error.message, retry: true } });
  encoder = makeEncoder(codec, sendAudio, failed);
  capture?.postMessage({ rate: encoder.rate });
}

function sendAudio(codec, index, bytes) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (socket.bufferedAmount > MAX_BUFFERED) {
    stats.skipped++; // rather a gap than a delay that stays
    return;
  }
  const packet = new Uint8Array(HEADER + bytes.byteLength);
  const view = new DataView(packet.buffer);
  view.setUint8(0, codec);
  view.setUint32(4, index, true);
  packet.set(bytes, HEADER);
  socket.send(packet);
  stats.sent += packet.byteLength;
}

// What has to act on sound at once acts here, before the page hears of it.
function onEvent(event) {
  if (event.interrupted) drop(event.interrupted.responseId);
  if (event.outputAudioPaused) playback?.postMessage({ held: true });
  if (event.outputAudioResumed) playback?.postMessage({ held: false });
}

function interrupt() {
  for (const track of tracks.values()) cleared.add(track.responseId);
  clear([...tracks.keys()]);
  send({ request: { responseCancel: {} } });
}

function drop(responseId) {
  cleared.add(responseId);
  clear([...tracks.values()].filter((track) => track.responseId === responseId).map((track) => track.number));
}

function clear(numbers) {
  for (const number of numbers) tracks.get(number)?.decoder?.close();
  playback?.postMessage({ clear: numbers });
  // The one that sounds is forgotten when playback has said how much of it was heard.
  for (const number of numbers) if (number !== current) tracks.delete(number);
}

function receiveAudio(data) {
  stats.received += data.byteLength;
  const view = new DataView(data);
  const track = tracks.get(view.getUint32(4, true));
  if (!track || cleared.has(track.responseId)) {
    stats.late++;
    return;
  }
  if (!track.decoder) {
    track.arrivedAt = performance.now();
    const { number } = track;
    const play = (pcm, rate) => {
      if (!cleared.has(track.responseId)) playback?.postMessage({ track: number, pcm, rate }, [pcm.buffer]);
    };
    track.decoder = makeDecoder(view.getUint8(0), play, () => stats.late++);
  }
  track.decoder.decode(new Uint8Array(data, HEADER));
}

async function endTrack({ number, samples }) {
  const track = tracks.get(number);
  if (!track) return;
  await track.decoder?.end();
  if (!cleared.has(track.responseId)) playback?.postMessage({ end: number, samples });
}

function started(number) {
  current = number;
  const track = tracks.get(number);
  if (track) post({ started: { ...describe(track), delay: performance.now() - track.arrivedAt } });
}

function progress(report) {
  if ('dropouts' in report) {
    stats.dropouts = Math.max(0, report.dropouts - dropoutsBefore);
    send({ dropouts: stats.dropouts });
  }
  const track = tracks.get(report.track);
  if (!track) return;
  const now = performance.now();
  if (report.stopped || now - reportedAt >= PROGRESS_SECONDS * 1000) {
    reportedAt = now;
    const { itemId, contentIndex } = track;
    const counts = { playedSampleCount: report.played, queuedSampleCount: report.queued };
    send({ request: { playbackProgress: { itemId, contentIndex, ...counts } } });
  }
  post({ playback: { ...describe(track), played: report.played, queued: report.queued, wait: report.wait } });
  if (report.stopped) {
    if (current === track.number) current = 0;
    tracks.delete(track.number);
    post({ stopped: describe(track) });
  }
}

const describe = ({ number, responseId, itemId }) => ({ number, responseId, itemId });
