// Listens on both ends of the page's audio graph at once, on one clock: the microphone's source, and the loudspeaker.
// Tells when a sound begins and ends: {side: 0 microphone or 1 loudspeaker, on, at: seconds}.
(() => {
  const WORKLET = `
  const LOUD = 0.02;
  const HOLD = 0.003; // seconds: longer than any tone is near zero
  registerProcessor('probe', class extends AudioWorkletProcessor {
    constructor() { super(); this.ends = [0, 0].map(() => ({ on: false, last: 0 })); }
    process(inputs) {
      inputs.forEach((input, side) => input[0]?.forEach((sample, index) => {
        const end = this.ends[side], at = (currentFrame + index) / sampleRate;
        if (Math.abs(sample) > LOUD) {
          if (!end.on) this.port.postMessage({ side, on: end.on = true, at });
          end.last = at;
        } else if (end.on && at - end.last > HOLD) {
          this.port.postMessage({ side, on: end.on = false, at: end.last });
        }
      }));
      return true;
    }
  });`;

  // A microphone that is silent but for the sounds that are asked of it.
  let speech;
  navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext();
    const out = context.createMediaStreamDestination();
    const voice = new OscillatorNode(context, { frequency: 330 });
    const level = new GainNode(context, { gain: 0 });
    voice.connect(level).connect(out);
    voice.start();
    speech = { context, gain: level.gain };
    return out.stream;
  };

  // `sounds` are [start, end] in seconds from now.
  window.speak = (sounds) => {
    for (const [start, end] of sounds) {
      speech.gain.setValueAtTime(0.4, speech.context.currentTime + start);
      speech.gain.setValueAtTime(0, speech.context.currentTime + end);
    }
  };

  window.heard = [];
  window.probe = async () => {
    const { call } = window.unmute;
    const { context } = call;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: 'text/javascript' })));
    const probe = new AudioWorkletNode(context, 'probe', { numberOfInputs: 2 });
    probe.port.onmessage = ({ data }) => window.heard.push(data);
    call.source.connect(probe, 0, 0);
    call.playback.connect(probe, 0, 1);
    probe.connect(context.destination);
    window.stats = {};
    call.addEventListener('stats', ({ detail }) => (window.stats = detail));
  };

  // Keeps the page busy for `busy` of every `period` milliseconds.
  window.disturb = (busy, period) => setInterval(() => {
    const end = performance.now() + busy;
    while (performance.now() < end);
  }, period);
})();
