// Audio packets to and from samples: Opus through WebCodecs, or plain 16-bit PCM.
export const PCM = 1;
export const OPUS = 2;
const OPUS_RATE = 48000;
const PCM_RATE = 24000;
// The first 6.5 ms that come out of an Opus decoder belong to no input.
const LOOKAHEAD = 312;

const ENCODER = {
  codec: 'opus',
  sampleRate: OPUS_RATE,
  numberOfChannels: 1,
  bitrate: 32000,
  opus: { frameDuration: 20000, application: 'voip', usedtx: false },
};
const DECODER = { codec: 'opus', sampleRate: OPUS_RATE, numberOfChannels: 1 };

// Returns the names of the codecs that this browser has beside PCM.
export async function supportedCodecs() {
  try {
    if (!self.AudioEncoder || !self.AudioDecoder) return [];
    const [encoder, decoder] = await Promise.all([
      AudioEncoder.isConfigSupported(ENCODER),
      AudioDecoder.isConfigSupported(DECODER),
    ]);
    return encoder.supported && decoder.supported ? ['opus'] : [];
  } catch {
    return [];
  }
}

// Frames of 20 ms of Int16 samples to packets; `send(codec, frame, bytes)` gets each with its place in the stream.
export function makeEncoder(codec, send, fail) {
  if (codec !== 'opus') {
    return { rate: PCM_RATE, encode: (pcm, frame) => send(PCM, frame, new Uint8Array(pcm.buffer)), close() {} };
  }
  const encoder = new AudioEncoder({
    output(chunk) {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      send(OPUS, Math.round(chunk.timestamp / 20000), bytes);
    },
    error: fail,
  });
  encoder.configure(ENCODER);
  return {
    rate: OPUS_RATE,
    encode(pcm, frame) {
      if (encoder.state !== 'configured') return;
      const timestamp = frame * 20000;
      const shape = { format: 's16', sampleRate: OPUS_RATE, numberOfFrames: pcm.length, numberOfChannels: 1 };
      const data = new AudioData({ ...shape, timestamp, data: pcm });
      encoder.encode(data);
      data.close();
    },
    close: () => encoder.state !== 'closed' && encoder.close(),
  };
}

// The packets of one track to samples; `play(samples, rate)` gets a Float32Array.
export function makeDecoder(codec, play, fail) {
  return codec === OPUS ? new OpusTrack(play, fail) : new PcmTrack(play);
}

class PcmTrack {
  constructor(play) {
    this.play = play;
  }

  decode(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const samples = new Float32Array(bytes.byteLength >> 1);
    for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
    this.play(samples, PCM_RATE);
  }

  async end() {}

  close() {}
}

class OpusTrack {
  constructor(play, fail) {
    this.skip = LOOKAHEAD;
    this.count = 0; // packets that went in
    this.returned = 0; // and came out
    this.decoder = new AudioDecoder({ output: (data) => this.output(data, play), error: fail });
    this.decoder.configure(DECODER);
  }

  output(data, play) {
    let samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
    data.close();
    const skipped = Math.min(this.skip, samples.length);
    this.skip -= skipped;
    if (skipped) samples = samples.slice(skipped);
    if (samples.length) play(samples, OPUS_RATE);
    this.returned++;
    if (this.returned === this.count) this.whole?.();
  }

  decode(bytes) {
    if (this.decoder.state !== 'configured') return;
    this.decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp: 20000 * this.count++, data: bytes }));
  }

  // Resolves when all samples have been handed over.
  async end() {
    if (this.decoder.state === 'configured' && this.returned < this.count) {
      const whole = new Promise((resolve) => (this.whole = resolve));
      // A flush alone may take longer than what is left to play.
      await Promise.race([whole, this.decoder.flush().catch(() => {})]);
    }
    this.close();
  }

  close() {
    if (this.decoder.state !== 'closed') this.decoder.close();
  }
}
