// The voices of the mesh, the languages that they speak, and whom they were made from.
import { make } from './dom.js';

// What a mesh may speak that does not say so.
const USUAL = ['en', 'fr', 'de', 'es', 'pt'];

export class Voices {
  constructor(root, select, credit) {
    Object.assign(this, { root, select, credit });
    this.list = [];
  }

  // Where the mesh does not tell its voices, those of the characters do.
  async load(characters) {
    const own = [...new Set(characters.map(({ voiceId }) => voiceId).filter(Boolean))].sort();
    this.list = (await this.ask()) ?? own.map((id) => ({ id, name: id, languageCodes: [] }));
    const groups = new Map();
    for (const voice of this.list) {
      const language = voice.languageCodes.length === 1 ? base(voice.languageCodes[0]) : '';
      groups.set(language, [...(groups.get(language) ?? []), make('option', { value: voice.id, text: voice.name })]);
    }
    const options = [...groups].map(([language, voices]) =>
      groups.size > 1 ? make('optgroup', { label: language ? languageName(language) : 'Several languages' }, ...voices) : voices,
    );
    this.select.replaceChildren(make('option', { value: '', text: "The character's own" }), ...options.flat());
  }

  async ask() {
    try {
      const response = await fetch(new URL('api/voices', this.root));
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }

  // The languages that the voices name.
  get spoken() {
    return [...new Set(this.list.flatMap(({ languageCodes }) => languageCodes.map(base)))];
  }

  // Whether those are all: a voice may speak many, or not say which.
  get known() {
    return this.spoken.length > 0 && !this.spoken.includes('mul');
  }

  get languages() {
    return this.known ? this.spoken : USUAL;
  }

  speaks(languageCode) {
    return !languageCode || !this.known || this.spoken.includes(base(languageCode));
  }

  // `id` is empty for the voice of the character itself, whose attribution is `own`.
  choose(id, own = '') {
    const voice = this.list.find((one) => one.id === id);
    this.select.value = voice?.id ?? '';
    this.credit.textContent = (voice ? voice.attribution : own) ?? '';
    this.credit.hidden = !this.credit.textContent;
  }
}

export const base = (code) => code.split('-')[0].toLowerCase();

// In the language itself: whoever speaks it finds it.
export function languageName(code) {
  try {
    const name = new Intl.DisplayNames([code], { type: 'language' }).of(code);
    return name[0].toLocaleUpperCase(code) + name.slice(1);
  } catch {
    return code;
  }
}
