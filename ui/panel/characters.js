// The characters: cards to choose from, each with a sample to hear, and what the visitor changes about them.
import { icon, make } from './dom.js';
import { base, languageName, Voices } from './voices.js';

// Far enough apart to tell faces from each other, and none that shouts.
const HUES = [285, 20, 230, 60, 330, 180, 255, 40, 305, 150];
const APPLY_SECONDS = 0.6;
// What stands in for the characters until they are known.
const GHOSTS = 4;

export class Characters {
  // `onChange()` is called when the session's settings change; `onProblem(message)` when a sample cannot be had.
  constructor(root, ui, preferences, { onChange, onProblem }) {
    Object.assign(this, { root, ui, preferences, onChange, onProblem });
    this.list = [];
    ui.characters.append(...Array.from({ length: GHOSTS }, () => make('div', { class: 'um-ghost' })));
    this.audio = new Audio();
    this.audio.onended = () => this.stopSample();
    this.voices = new Voices(root, ui.voice, ui.credit);
    ui.instructions.value = preferences.get('instructions');
    ui.language.onchange = () => this.keep('language', ui.language.value);
    ui.voice.onchange = () => {
      this.voices.choose(ui.voice.value, this.current?.attribution);
      this.keep('voice', ui.voice.value);
    };
    ui.instructions.oninput = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.keep('instructions', ui.instructions.value.trim()), APPLY_SECONDS * 1000);
    };
    ui.characters.onkeydown = (event) => this.onKey(event);
  }

  get current() {
    return this.list.find(({ id }) => id === this.preferences.get('character')) ?? this.list[0];
  }

  async load() {
    const response = await fetch(new URL('api/characters', this.root));
    if (!response.ok) throw await response.json();
    const everyone = await response.json();
    await this.voices.load(everyone);
    // Whoever speaks a language that the mesh has no voice for cannot be talked with here.
    this.list = everyone.filter(({ languageCode }) => this.voices.speaks(languageCode));
    this.fillLanguages();
    this.draw();
    this.onChange({ first: true });
  }

  // The settings of a session, in protobuf's JSON.
  session() {
    const { preferences, current, ui } = this;
    const languageCode = ui.language.value || undefined;
    const text = preferences.get('instructions');
    const instructions = text ? { text } : current ? { preset: { characterId: current.id } } : {};
    // In another language than its own a character is given a voice that speaks it.
    const own = !languageCode || !current?.languageCode || base(languageCode) === base(current.languageCode);
    const voiceId = ui.voice.value || (own && current?.voiceId) || undefined;
    return {
      instructions: { ...instructions, languageCode },
      ...(voiceId && { voiceId }),
      ...(languageCode && { languageCodes: [languageCode] }),
    };
  }

  choose(id) {
    if (id === this.current?.id) return;
    // Whoever chooses a character wants that character, not what was written for another.
    this.ui.instructions.value = '';
    this.preferences.set('instructions', '');
    this.preferences.set('character', id);
    this.draw();
    this.onChange({ first: false });
  }

  keep(name, value) {
    this.preferences.set(name, value);
    this.onChange({ first: false });
  }

  fillLanguages() {
    const names = this.voices.languages.map((code) => [code, languageName(code)]);
    const options = [['', 'As it comes'], ...names].map(([value, text]) => make('option', { value, text }));
    this.ui.language.replaceChildren(...options);
    this.ui.language.value = this.preferences.get('language');
    // What was kept from another mesh may not be there.
    if (this.ui.language.selectedIndex < 0) this.ui.language.value = '';
  }

  draw() {
    const focused = this.ui.characters.contains(document.activeElement);
    const cards = this.list.map((character, index) => this.card(character, index));
    this.ui.characters.replaceChildren(...cards);
    this.ui.characters.removeAttribute('aria-busy');
    if (focused) this.ui.characters.querySelector('[aria-checked="true"]')?.focus();
    this.voices.choose(this.preferences.get('voice'), this.current?.attribution);
  }

  card(character, index) {
    const chosen = character === this.current;
    const about = character.about || character.languageCode;
    const face = make('span', { class: 'um-face', style: `--hue:${HUES[index % HUES.length]}`, 'aria-hidden': 'true', text: character.name[0] });
    const words = make(
      'span',
      { class: 'um-card-words' },
      make('span', { class: 'um-name', text: character.name }),
      make('span', { class: 'um-about', text: about }),
    );
    const name = { role: 'radio', 'aria-checked': String(chosen), tabindex: chosen ? '0' : '-1', 'data-character': character.id };
    const choose = make('button', { type: 'button', class: 'um-pick', ...name }, face, words);
    choose.onclick = () => this.choose(character.id);
    const label = `Hear ${character.name}`;
    const sample = make('button', { type: 'button', class: 'um-sample', 'aria-label': label, title: label }, icon('play'));
    sample.onclick = () => this.playSample(character, sample);
    return make('div', { class: 'um-person', title: character.attribution || undefined }, choose, sample);
  }

  onKey(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step || !event.target.matches('.um-pick')) return;
    event.preventDefault();
    const index = this.list.indexOf(this.current) + step;
    this.choose(this.list[(index + this.list.length) % this.list.length].id);
  }

  async playSample(character, button) {
    const again = this.sampling === button;
    this.stopSample();
    if (again) return;
    this.sampling = button;
    button.classList.add('um-busy');
    try {
      const path = `api/characters/${encodeURIComponent(character.id)}/sample.wav`;
      const response = await fetch(new URL(path, this.root));
      if (!response.ok) throw await response.json();
      const file = await response.blob();
      if (this.sampling !== button) return;
      this.audio.src = URL.createObjectURL(file);
      await this.audio.play();
      button.replaceChildren(icon('stop'));
    } catch (error) {
      if (this.sampling === button) this.stopSample();
      this.onProblem(`The sample cannot be played. ${error.message ?? ''}`);
    } finally {
      button.classList.remove('um-busy');
    }
  }

  stopSample() {
    this.audio.pause();
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute('src');
    this.sampling?.replaceChildren(icon('play'));
    this.sampling?.classList.remove('um-busy');
    this.sampling = undefined;
  }
}
