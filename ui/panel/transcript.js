// The transcript: what both said, as it is said; the assistant's words are those that were heard.
import { make } from './dom.js';

export class Transcript {
  constructor(log, empty, onChange) {
    this.log = log;
    this.empty = empty;
    this.onChange = onChange;
    this.entries = new Map();
    this.names = { user: 'You', assistant: 'Assistant' };
  }

  // Returns the entry that speaks now, for subtitles.
  get latest() {
    return this.spoken;
  }

  apply(event) {
    const { inputTranscriptInterim: interim, inputTranscriptDelta: delta, inputTranscriptDone: done } = event;
    const { itemAdded, itemTruncated, outputTextDelta: word, interrupted, toolArgumentsDone: tool } = event;
    if (interim) this.write(interim.itemId, 'user', { interim: interim.text ?? '' });
    if (delta) this.write(delta.itemId, 'user', { more: delta.text?.text ?? '', interim: '' });
    if (done) this.finish(done.itemId, done.transcript ?? '');
    if (itemAdded) this.addItem(itemAdded.item);
    if (word) this.write(word.ref.itemId, 'assistant', { more: word.text?.text ?? '' });
    if (itemTruncated) this.truncate(itemTruncated.itemId, itemTruncated.transcript ?? '');
    if (interrupted?.itemId) this.cut(interrupted.itemId);
    if (tool) this.note(`Used ${tool.name}`);
  }

  addItem(item) {
    const message = item?.message;
    const text = message?.content?.map((part) => part.text ?? '').join(' ');
    if (message?.role === 'ROLE_USER' && text) this.write(item.id, 'user', { text });
  }

  write(id, speaker, { more = '', interim, text }) {
    const entry = this.entries.get(id) ?? this.begin(id, speaker);
    entry.text = text ?? entry.text + more;
    if (interim !== undefined) entry.interim = interim;
    this.show(entry);
    this.spoken = entry;
  }

  begin(id, speaker) {
    const words = make('p', { class: 'um-said' });
    const head = make('p', { class: 'um-speaker', text: this.names[speaker] });
    const element = make('article', { class: `um-entry um-${speaker}` }, head, words);
    const entry = { id, speaker, name: this.names[speaker], text: '', interim: '', at: new Date(), element, words };
    this.entries.set(id, entry);
    this.append(element);
    return entry;
  }

  show(entry) {
    const final = entry.text.trimStart();
    const interim = entry.interim ? make('span', { class: 'um-interim', text: ` ${entry.interim.trim()}` }) : '';
    const mark = entry.cut ? make('span', { class: 'um-cut', text: 'interrupted' }) : '';
    // The space lets the mark begin a line of its own at its edge.
    this.keepAtEnd(() => entry.words.replaceChildren(final, interim, mark && ' ', mark));
    this.onChange(entry);
  }

  finish(id, transcript) {
    const text = transcript.trim();
    if (text) this.write(id, 'user', { text, interim: '' });
    else this.remove(id);
  }

  truncate(id, transcript) {
    const entry = this.entries.get(id);
    if (!entry) return;
    entry.text = transcript;
    entry.cut = true;
    if (transcript.trim()) this.show(entry);
    else this.remove(id);
  }

  cut(id) {
    const entry = this.entries.get(id);
    if (!entry) return;
    entry.cut = true;
    this.show(entry);
  }

  remove(id) {
    const entry = this.entries.get(id);
    entry?.element.remove();
    this.entries.delete(id);
    if (this.spoken === entry) this.spoken = undefined;
    this.onChange(undefined);
  }

  // A remark between the lines: a new conversation, a tool.
  note(text) {
    this.entries.set(Symbol('note'), { note: text });
    this.append(make('p', { class: 'um-note', text }));
  }

  append(element) {
    this.empty.hidden = true;
    this.keepAtEnd(() => this.log.append(element));
  }

  // Follows the talk unless the reader has scrolled up.
  keepAtEnd(change) {
    const { log } = this;
    const following = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    change();
    if (following) log.scrollTop = log.scrollHeight;
  }

  toText() {
    const lines = [...this.entries.values()].map((entry) => {
      if (entry.note) return `--- ${entry.note} ---`;
      const text = `${entry.text} ${entry.interim}`.trim();
      return `[${entry.at.toLocaleTimeString()}] ${entry.name}: ${text}${entry.cut ? ' — (interrupted)' : ''}`;
    });
    return `${lines.join('\n\n')}\n`;
  }
}
