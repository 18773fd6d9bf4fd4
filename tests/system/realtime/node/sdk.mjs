// The official `openai` package: a spoken question, an interruption, a truncation, and typed text. Prints one JSON object.
import { writeFileSync } from 'node:fs';
import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { audio, Log, Microphone } from './microphone.mjs';

const [url, apiKey, question, interruption, saved] = process.argv.slice(2);
const log = new Log();
const realtime = new OpenAIRealtimeWS({ model: 'unmute' }, new OpenAI({ baseURL: url, apiKey }));
const errors = [];
realtime.on('error', (error) => errors.push(error.message));
realtime.on('event', (event) => log.add(event));

await log.until('session.created');
realtime.send({ type: 'session.update', session: { type: 'realtime', instructions: 'Answer with a long story.' } });
await log.until('session.updated');
const microphone = new Microphone((frame) =>
  realtime.send({ type: 'input_audio_buffer.append', audio: frame.toString('base64') }),
);

microphone.say(question);
const first = await log.until('response.output_item.added');
await log.until('response.output_audio_transcript.delta');
microphone.say(interruption);
const cut = await log.until('response.done');
realtime.send({ type: 'conversation.item.truncate', item_id: first.item.id, content_index: 0, audio_end_ms: 300 });
await log.until('conversation.item.truncated', (event) => event.audio_end_ms === 300);
const here = log.events.length;
await log.until('response.done', () => true, here);
microphone.stop();

const content = [{ type: 'input_text', text: 'How do bees make honey?' }];
realtime.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
realtime.send({ type: 'response.create', response: { output_modalities: ['text'] } });
const written = await log.until('response.output_text.done');
const done = await log.until('response.done', (event) => event.response.id === written.response_id);
realtime.close();

writeFileSync(saved, audio(log));
console.log(
  JSON.stringify({
    cut: [cut.response.status, cut.response.status_details.reason],
    interrupted: log.of('input_audio_buffer.speech_started').length,
    written: written.text,
    status: done.response.status,
    errors,
  }),
);
