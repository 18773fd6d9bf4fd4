// One conversation from the page's side: microphone, loudspeaker, worker, and what state it is in.
// Events: `state`, `event` (a ConverseResponse), `problem`, `notice`, `rtt`, `started`, `stopped`, `playback`, `stats`.
import { supportedCodecs } from './codecs.js';

const CONNECT_SECONDS = 12;
const RETRY_DELAYS = [0.5, 1, 2, 4, 8, 8, 8];

export class Call extends EventTarget {
  constructor(root) {
    super();
    this.root = root;
    this.state = 'idle'; // idle, connecting, live, reconnecting, waiting
    this.begun = false; // a conversation was live since Connect was pressed
    this.muted = false;
    this.microphone = null;
    this.generation = 0;
  }

  // `session()` returns the settings to begin with; `microphone: false` is for people who only type.
  async connect(session, { microphone = true, deviceId = '' } = {}) {
    if (this.state !== 'idle') return;
    this.session = session;
    const generation = ++this.generation;
    this.setState('connecting');
    try {
      checkBrowser();
      await this.openAudio(microphone, deviceId, generation);
      await this.openSocket(generation);
    } catch (error) {
      if (generation !== this.generation) return;
      this.disconnect();
      this.emit('problem', asProblem(error));
    }
  }

  disconnect() {
    this.generation++;
    clearTimeout(this.retryTimer);
    this.worker?.terminate();
    for (const node of [this.capture, this.playback]) node?.port.postMessage({ close: true });
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close().catch(() => {});
    this.wakeLock?.release().catch(() => {});
    this.worker = this.capture = this.playback = this.stream = this.context = this.wakeLock = null;
    this.voice = this.microphone = null;
    this.muted = this.begun = false;
    if (this.state !== 'idle') this.setState('idle');
  }

  mute(muted) {
    this.muted = muted;
    this.capture?.port.postMessage({ muted });
    this.emit('muted', muted);
  }

  interrupt() {
    this.worker?.postMessage({ interrupt: true });
  }

  request(request) {
    this.worker?.postMessage({ request });
  }

  say(text) {
    this.request({ itemCreate: { item: { message: { role: 'ROLE_USER', content: [{ text }] } } } });
    this.request({ responseCreate: {} });
  }

  async openAudio(wantMicrophone, deviceId, generation) {
    // Made inside the click, which is what lets it sound.
    this.context = new AudioContext({ latencyHint: 'interactive' });
    const context = this.context;
    const names = ['capture', 'playback'];
    const modules = Promise.all(
      names.map((name) => context.audioWorklet.addModule(new URL(`${name}.worklet.js`, import.meta.url))),
    );
    // Without a microphone nobody waits for them, and closing the context breaks them off.
    modules.catch(() => {});
    const stream = wantMicrophone ? await openMicrophone(deviceId) : null;
    if (generation !== this.generation) {
      stream?.getTracks().forEach((track) => track.stop());
      throw new DOMException('left', 'AbortError');
    }
    this.stream = stream;
    await modules;
    await context.resume();
    this.capture = new AudioWorkletNode(context, 'unmute-capture', { outputChannelCount: [1] });
    this.playback = new AudioWorkletNode(context, 'unmute-playback', { numberOfInputs: 0, outputChannelCount: [1] });
    this.voice = analyser(context);
    this.playback.connect(this.voice).connect(context.destination);
    // Its output is silence: it is connected so that it runs.
    this.capture.connect(context.destination);
    if (stream) this.listenTo(stream);
    this.onVisible = () => this.becomeVisible();
    document.addEventListener('visibilitychange', this.onVisible);
  }

  listenTo(stream) {
    this.source = this.context.createMediaStreamSource(stream);
    this.microphone = analyser(this.context);
    this.source.connect(this.microphone);
    this.source.connect(this.capture);
    stream.getAudioTracks()[0].onended = () => {
      this.disconnect();
      this.emit('problem', { code: 'unplugged', message: 'The microphone was unplugged.', retry: true });
    };
  }

  async openSocket(generation) {
    const token = await fetchToken(this.root);
    const codecs = localStorage.getItem('unmute.codec') === 'pcm' ? [] : await supportedCodecs();
    if (generation !== this.generation) return;
    if (!this.worker) this.openWorker();
    const url = new URL('converse', this.root);
    url.protocol = url.protocol.replace('http', 'ws');
    this.worker.postMessage({ open: { url: url.href, hello: { token, codecs, session: this.session() } } });
    clearTimeout(this.connectTimer);
    this.connectTimer = setTimeout(() => {
      if (generation === this.generation && this.state !== 'live') this.lost({ code: 'timeout', retry: true });
    }, CONNECT_SECONDS * 1000);
  }

  openWorker() {
    this.worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    const [up, down] = [new MessageChannel(), new MessageChannel()];
    this.capture.port.postMessage({ sink: up.port1 }, [up.port1]);
    this.playback.port.postMessage({ source: down.port1 }, [down.port1]);
    const ports = { capture: up.port2, playback: down.port2 };
    this.worker.postMessage({ ports }, [ports.capture, ports.playback]);
    this.worker.onmessage = ({ data }) => this.onWorker(data);
    this.worker.onerror = () => this.lost({ code: 'worker', message: 'The page could not start its worker.' });
  }

  onWorker(message) {
    if (message.ready) this.codec = message.ready.codec;
    if (message.event?.sessionCreated) this.becomeLive();
    if (message.problem) this.lastProblem = message.problem;
    if (message.closed) this.lost(this.lastProblem ?? closeProblem(message.closed));
    for (const name of ['event', 'rtt', 'started', 'stopped', 'playback', 'stats']) {
      if (name in message) this.emit(name, message[name]);
    }
  }

  becomeLive() {
    clearTimeout(this.connectTimer);
    const again = this.begun;
    this.begun = true;
    this.attempt = 0;
    this.lastProblem = null;
    this.capture.port.postMessage({ muted: this.muted });
    this.setState('live');
    if (again) this.emit('notice', 'Connected again. A new conversation begins.');
    this.holdScreen();
  }

  // The connection ended, or never began: try again while that may help, and say what is wrong meanwhile.
  lost(problem) {
    clearTimeout(this.connectTimer);
    this.lastProblem = null;
    const full = problem.code === 'full' || problem.code === 'limited';
    this.attempt = (this.attempt ?? 0) + 1;
    const delay = Math.max(problem.delay ?? 0, RETRY_DELAYS[this.attempt - 1] ?? 0);
    if (!(this.begun || full) || !problem.retry || problem.code === 'idle' || this.attempt > RETRY_DELAYS.length) {
      this.attempt = 0;
      this.disconnect();
      this.emit('problem', problem);
      return;
    }
    this.setState(full ? 'waiting' : 'reconnecting');
    this.emit('problem', { ...problem, delay, retrying: true });
    const generation = this.generation;
    this.retryTimer = setTimeout(async () => {
      try {
        await this.openSocket(generation);
      } catch (error) {
        if (generation === this.generation) this.lost(asProblem(error));
      }
    }, delay * 1000);
  }

  async holdScreen() {
    try {
      this.wakeLock = await navigator.wakeLock?.request('screen');
    } catch {
      this.wakeLock = null; // a battery that is low may refuse it
    }
  }

  becomeVisible() {
    if (document.hidden || this.state === 'idle') return;
    this.context?.resume();
    this.holdScreen();
  }

  setState(state) {
    this.state = state;
    if (state === 'idle') document.removeEventListener('visibilitychange', this.onVisible);
    this.emit('state', state);
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function checkBrowser() {
  const missing = !window.AudioContext || !window.AudioWorkletNode || !window.Worker || !window.WebSocket;
  if (missing) throw { code: 'browser', message: 'This browser is too old to talk with. Please update it.' };
}

async function openMicrophone(deviceId) {
  if (!navigator.mediaDevices) {
    const message = 'Browsers give the microphone to pages on HTTPS or on localhost only.';
    throw { code: 'insecure', message, typing: true };
  }
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
  if (deviceId) wanted.deviceId = { ideal: deviceId };
  return navigator.mediaDevices.getUserMedia({ audio: wanted });
}

async function fetchToken(root) {
  let response;
  try {
    response = await fetch(new URL('api/token', root), { method: 'POST' });
  } catch {
    throw { code: 'gone', message: 'The server does not answer.', retry: true };
  }
  if (!response.ok) throw { code: 'gone', message: `The server refused (${response.status}).`, retry: true };
  return (await response.json()).token;
}

function analyser(context) {
  const node = context.createAnalyser();
  node.fftSize = 1024;
  node.smoothingTimeConstant = 0.6;
  return node;
}

function closeProblem({ code }) {
  if (code === 1000) return { code: 'ended', message: 'The conversation has ended.' };
  return { code: 'gone', message: 'The connection to the server was lost.', retry: true };
}

// What the browser or this page threw, as a problem to show.
function asProblem(error) {
  switch (error.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return { code: 'refused', message: 'The microphone was refused.', typing: true };
    case 'NotFoundError':
    case 'OverconstrainedError':
      return { code: 'missing', message: 'No microphone was found.', typing: true };
    case 'NotReadableError':
      return { code: 'busy', message: 'The microphone is in use by another program.', typing: true };
    default:
      return { code: 'failed', ...error, message: error.message ?? String(error) };
  }
}
