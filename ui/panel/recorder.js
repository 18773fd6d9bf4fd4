// Records both voices as they were heard here, mixed in time. It never leaves the browser unless it is saved.
const TYPES = ['audio/webm;codecs=opus', 'audio/mp4', 'audio/ogg;codecs=opus'];

export class Recorder {
  constructor() {
    this.recording = null;
    this.file = null;
  }

  static get supported() {
    return Boolean(window.MediaRecorder);
  }

  get active() {
    return this.recording !== null;
  }

  start(call) {
    const mixed = call.context.createMediaStreamDestination();
    const gate = call.context.createGain();
    this.onMuted = () => {
      gate.gain.value = call.muted ? 0 : 1;
    };
    this.onMuted();
    call.addEventListener('muted', this.onMuted);
    call.source?.connect(gate).connect(mixed);
    call.playback.connect(mixed);
    const type = TYPES.find((one) => MediaRecorder.isTypeSupported(one));
    const pieces = [];
    this.recording = new MediaRecorder(mixed.stream, type ? { mimeType: type } : {});
    this.recording.ondataavailable = ({ data }) => data.size && pieces.push(data);
    this.finished = new Promise((resolve) => {
      this.recording.onstop = () => resolve(new Blob(pieces, { type: this.recording?.mimeType ?? type }));
    });
    // In pieces, so that what was recorded is there even if the page's audio breaks off.
    this.recording.start(1000);
    this.release = () => {
      call.removeEventListener('muted', this.onMuted);
      gate.disconnect();
    };
  }

  // Returns the recording (a Blob), and keeps it as `file`.
  async stop() {
    if (!this.recording) return this.file;
    if (this.recording.state !== 'inactive') this.recording.stop();
    this.file = await this.finished;
    this.release();
    this.recording = null;
    return this.file;
  }
}

export function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
