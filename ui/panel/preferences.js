// What a visitor chose, kept in this browser. A browser that keeps nothing works too.
const KEY = 'unmute.preferences';
const DEFAULTS = {
  character: '',
  instructions: '',
  language: '',
  voice: '',
  device: '',
  theme: '',
  subtitles: true,
  developer: false,
};

export class Preferences {
  constructor() {
    this.values = { ...DEFAULTS };
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? '{}');
      for (const name of Object.keys(DEFAULTS)) {
        if (typeof kept[name] === typeof DEFAULTS[name]) this.values[name] = kept[name];
      }
    } catch {
      // Unreadable: the defaults do.
    }
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // Private windows may refuse; it lasts as long as the page then.
    }
  }
}
