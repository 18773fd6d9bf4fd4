// Puts the panel together: the call, what is shown of it, and what can be done.
import { Call } from './call.js';
import { Characters } from './characters.js';
import { Developer } from './developer.js';
import { icon, make, parts } from './dom.js';
import { Health } from './health.js';
import { Latency } from './latency.js';
import { loudness, Orb } from './orb.js';
import { Preferences } from './preferences.js';
import { Problems } from './problems.js';
import { Recorder, save } from './recorder.js';
import { bindShortcuts } from './shortcuts.js';
import { Theme } from './theme.js';
import { Transcript } from './transcript.js';

const TOAST_SECONDS = 6;
const STATUS = {
  idle: 'Not connected',
  connecting: 'Connecting',
  reconnecting: 'Reconnecting',
  waiting: 'Waiting for a place',
  listening: 'Listening',
  hearing: 'Hearing you',
  thinking: 'Thinking',
  speaking: 'Speaking',
};
// In place of subtitles, before the first word.
const INVITATIONS = { idle: 'Press Connect and say hello.', live: 'Go ahead, I am listening.' };

// Called by the page once Gradio has put the panel's markup into `element`; `root` is the page's address.
export async function mount(element, root) {
  const panel = element.querySelector('.um');
  if (panel.dataset.mounted) return;
  panel.dataset.mounted = 'yes';
  await loadStyle();
  panel.hidden = false;
  window.unmute = new Panel(panel, root);
}

function loadStyle() {
  const link = make('link', { rel: 'stylesheet', href: new URL('panel.css', import.meta.url).href });
  return new Promise((resolve) => {
    link.onload = link.onerror = resolve;
    document.head.append(link);
  });
}

class Panel {
  constructor(panel, root) {
    this.panel = panel;
    this.ui = parts(panel);
    this.preferences = new Preferences();
    this.call = new Call(root);
    this.recorder = new Recorder();
    this.theme = new Theme(panel, this.preferences, () => {
      this.orb?.recolour();
      this.developer?.draw();
    });
    this.orb = new Orb(this.ui.orb, () => this.look());
    this.transcript = new Transcript(this.ui.log, this.ui.empty, (entry) => this.showCaption(entry));
    this.latency = new Latency(this.ui.latency, this.ui['latency-plot'], this.ui['latency-legend'], this.ui['latency-last']);
    this.developer = new Developer(this.ui['developer-panel'], this.ui.facts, this.ui.pause, this.ui.events);
    this.problems = new Problems(this.ui.card, {
      retry: () => this.connect(),
      type: () => this.ui.text.focus(),
      stop: () => this.call.disconnect(),
    });
    const onProblem = (message) => this.toast(message);
    this.characters = new Characters(root, this.ui, this.preferences, { onChange: (how) => this.configure(how), onProblem });
    this.health = new Health(root, (status) => this.onHealth(status));
    this.activity = 'listening';
    this.bindControls();
    this.bindCall();
    this.applyPreferences();
    this.showState('idle');
    this.health.watch();
  }

  // ---------------------------------------------------------------- what people can do

  bindControls() {
    const { ui } = this;
    const actions = {
      connect: () => (this.call.state === 'idle' ? this.connect() : this.call.disconnect()),
      mute: () => this.call.state === 'live' && this.call.mute(!this.call.muted),
      interrupt: () => this.call.state === 'live' && this.call.interrupt(),
      subtitles: () => this.toggle('subtitles'),
      developer: () => this.toggle('developer'),
      help: () => ui.shortcuts.showModal(),
      theme: () => this.theme.toggle(),
      record: () => this.record(),
    };
    for (const [name, action] of Object.entries(actions)) ui[name].onclick = action;
    bindShortcuts(actions, ui.keys);
    ui.composer.onsubmit = (event) => {
      event.preventDefault();
      this.say(ui.text.value.trim());
    };
    ui.device.onchange = () => this.preferences.set('device', ui.device.value);
    ui['save-text'].onclick = () => save(new Blob([this.transcript.toText()], { type: 'text/plain' }), stamp('txt'));
    ui['save-audio'].onclick = () => this.saveRecording();
    ui.record.hidden = !Recorder.supported;
  }

  connect(options = {}) {
    this.characters.stopSample();
    this.problems.hide();
    return this.call.connect(() => this.characters.session(), { deviceId: this.preferences.get('device'), ...options });
  }

  async say(text) {
    if (!text) return;
    this.ui.text.value = '';
    if (this.call.state === 'idle') {
      // Who writes first may not want the microphone at all.
      this.pending = text;
      await this.connect({ microphone: false });
    } else if (this.call.state === 'live') this.call.say(text);
    else this.pending = text;
  }

  toggle(name) {
    this.preferences.set(name, !this.preferences.get(name));
    this.applyPreferences();
  }

  async record() {
    if (this.recorder.active) {
      await this.finishRecording();
      return;
    }
    if (this.call.state !== 'live') {
      this.toast('Connect first, then record.');
      return;
    }
    this.ui.consent.returnValue = '';
    this.ui.consent.showModal();
    this.ui.consent.onclose = () => {
      if (this.ui.consent.returnValue !== 'yes' || this.call.state !== 'live') return;
      this.recorder.start(this.call);
      this.showRecording();
    };
  }

  async finishRecording() {
    const file = await this.recorder.stop();
    this.showRecording();
    return file;
  }

  async saveRecording() {
    const file = await this.finishRecording();
    if (file) save(file, stamp(file.type.includes('mp4') ? 'm4a' : file.type.includes('ogg') ? 'ogg' : 'webm'));
  }

  // Settings apply to the conversation that is going on.
  configure({ first }) {
    const { current } = this.characters;
    this.transcript.names.assistant = current?.name ?? 'Assistant';
    this.showWho();
    if (first || this.call.state !== 'live') return;
    const updateMask = 'instructions,voiceId,languageCodes';
    this.call.request({ sessionUpdate: { session: this.characters.session(), updateMask } });
  }

  // ---------------------------------------------------------------- what the call tells

  bindCall() {
    const { call, developer, latency } = this;
    const on = (name, action) => call.addEventListener(name, ({ detail }) => action(detail));
    on('state', (state) => this.showState(state));
    on('muted', (muted) => this.showMuted(muted));
    on('event', (event) => this.onEvent(event));
    on('problem', (problem) => this.onProblem(problem));
    on('notice', (text) => this.transcript.note(text));
    on('started', (track) => {
      latency.started(track);
      this.setActivity('speaking');
    });
    on('stopped', () => this.setActivity('listening'));
    on('rtt', (rtt) => {
      latency.rtt = rtt;
      developer.set('round trip', `${Math.round(rtt)} ms`);
    });
    on('playback', ({ queued, wait }) => {
      developer.set('queued audio', `${Math.round(queued / 24)} ms`);
      developer.set('jitter buffer', `${Math.round(wait * 1000)} ms`);
    });
    on('stats', ({ sent, received, dropouts, skipped }) => {
      developer.set('sent / received', `${Math.round(sent / 1024)} / ${Math.round(received / 1024)} KiB`);
      developer.set('drop-outs', `${dropouts} heard, ${skipped} sent`);
    });
  }

  onEvent(event) {
    this.transcript.apply(event);
    this.developer.apply(event);
    this.ui['save-text'].disabled = this.transcript.entries.size === 0;
    if (event.speechStarted) this.setActivity('hearing');
    if (event.inputAudioCommitted || event.responseCreated) this.setActivity('thinking');
    if (event.speechStopped && this.activity === 'hearing') this.setActivity('thinking');
    if (event.outputAudioPaused) this.setActivity('hearing');
    if (event.outputAudioResumed) this.setActivity('speaking');
    if (event.interrupted) this.flash();
    if (event.responseDone) this.onResponseDone(event.responseDone.response);
    if (event.error) this.toast(event.error.message);
    if (event.goAway) this.toast('The server restarts soon; this conversation will then begin anew.');
  }

  onResponseDone(response) {
    this.latency.done(response);
    if (response.status === 'RESPONSE_STATUS_FAILED' && response.error) this.toast(response.error.message);
    if (this.activity === 'thinking' && response.status !== 'RESPONSE_STATUS_COMPLETED') this.setActivity('listening');
  }

  onProblem(problem) {
    this.pending = undefined;
    // While the mesh is not ready, what is loading says more than the call that failed.
    if (problem.code === 'down' && !problem.retrying) this.health.watch();
    this.problems.show(problem);
  }

  async onHealth(status) {
    for (const [name, state] of Object.entries(status.services)) this.developer.set(name, state);
    if (!status.ready) {
      if (this.call.state === 'idle') this.problems.showHealth(status);
      return;
    }
    if (this.problems.kind === 'health' || this.problems.kind === 'down') this.problems.hide();
    try {
      await this.characters.load();
      await this.listDevices();
    } catch (problem) {
      this.toast(problem.message ?? 'The characters cannot be listed.');
    }
  }

  // ---------------------------------------------------------------- what is shown

  look() {
    const { call } = this;
    const level = call.microphone && call.state === 'live' && !call.muted ? Math.min(1, loudness(call.microphone, this.orb.samples) * 6) : 0;
    this.ui.mute.style.setProperty('--level', level.toFixed(3));
    return { state: call.state, user: call.muted ? null : call.microphone, assistant: call.voice };
  }

  showState(state) {
    const { ui, call } = this;
    const live = state === 'live';
    this.panel.dataset.state = state;
    ui.mute.disabled = ui.interrupt.disabled = !live;
    ui.connect.replaceChildren(icon(state === 'idle' ? 'call' : 'end'));
    const label = state === 'idle' ? 'Connect' : live ? 'Disconnect' : 'Cancel';
    ui.connect.setAttribute('aria-label', label);
    ui['connect-label'].textContent = label;
    this.showMuted(call.muted);
    this.activity = 'listening';
    this.showStatus();
    this.showCaption();
    this.developer.set('state', state);
    this.developer.set('codec', live ? (call.codec ?? '') : '');
    if (live) this.becomeLive();
    if (state === 'idle' && this.recorder.active) this.finishRecording();
  }

  becomeLive() {
    this.problems.hide();
    this.listDevices();
    if (this.pending) this.call.say(this.pending);
    this.pending = undefined;
  }

  setActivity(activity) {
    this.activity = activity;
    this.showStatus();
  }

  showStatus() {
    const state = this.call.state === 'live' ? this.activity : this.call.state;
    this.panel.dataset.activity = state;
    this.ui.status.textContent = STATUS[state];
    this.developer.set('activity', STATUS[state]);
    this.showWho();
  }

  showWho() {
    const name = this.characters?.current?.name ?? '';
    this.ui.who.textContent = this.call.state === 'live' ? `${name} · ${STATUS[this.activity].toLowerCase()}` : name;
  }

  showMuted(muted) {
    const { mute } = this.ui;
    mute.setAttribute('aria-pressed', String(muted));
    mute.setAttribute('aria-label', muted ? 'Unmute' : 'Mute');
    mute.querySelector('svg').replaceWith(icon(muted ? 'mic-off' : 'mic'));
    this.ui['mute-label'].textContent = muted ? 'Muted' : 'Mute';
  }

  showCaption() {
    const entry = this.transcript.latest;
    const { caption } = this.ui;
    caption.dataset.speaker = entry?.speaker ?? '';
    caption.dataset.cut = String(Boolean(entry?.cut));
    const text = entry ? `${entry.text} ${entry.interim}`.trim() : (INVITATIONS[this.call.state] ?? '');
    // Only its end: subtitles show what is being said.
    caption.textContent = text.length > 150 ? `… ${text.slice(text.indexOf(' ', text.length - 150) + 1)}` : text;
  }

  showRecording() {
    const { active, file } = this.recorder;
    this.ui.record.setAttribute('aria-pressed', String(active));
    this.ui.record.setAttribute('aria-label', active ? 'Stop recording' : 'Record the conversation');
    this.panel.dataset.recording = String(active);
    this.ui['save-audio'].hidden = !active && !file;
  }

  applyPreferences() {
    const [subtitles, developer] = [this.preferences.get('subtitles'), this.preferences.get('developer')];
    this.ui.subtitles.setAttribute('aria-pressed', String(subtitles));
    this.ui.developer.setAttribute('aria-pressed', String(developer));
    this.panel.dataset.subtitles = String(subtitles);
    this.developer.show(developer);
  }

  async listDevices() {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    const microphones = devices.filter(({ kind, deviceId }) => kind === 'audioinput' && deviceId && deviceId !== 'default');
    this.ui.device.replaceChildren(
      make('option', { value: '', text: "The system's" }),
      ...microphones.map(({ deviceId, label }, index) => make('option', { value: deviceId, text: label || `Microphone ${index + 1}` })),
    );
    const kept = this.preferences.get('device');
    this.ui.device.value = microphones.some(({ deviceId }) => deviceId === kept) ? kept : '';
  }

  flash() {
    this.setActivity('hearing');
    this.panel.classList.remove('um-flash');
    void this.panel.offsetWidth; // starts the animation anew
    this.panel.classList.add('um-flash');
  }

  toast(text) {
    const toast = make('p', { class: 'um-toast', text });
    this.ui.toasts.append(toast);
    while (this.ui.toasts.childElementCount > 3) this.ui.toasts.firstElementChild.remove();
    setTimeout(() => toast.remove(), TOAST_SECONDS * 1000);
  }
}

function stamp(extension) {
  return `unmute-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, '-')}.${extension}`;
}
