// The official `@openai/agents-realtime` package: an agent with a function of its own. Prints one JSON object.
import { writeFileSync } from 'node:fs';
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from '@openai/agents-realtime';
import { z } from 'zod';
import { audio, Log, Microphone } from './microphone.mjs';

const [url, question, saved] = process.argv.slice(2);
const asked = [];
const weather = tool({
  name: 'weather',
  description: 'Tells the weather of a city.',
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    asked.push(city);
    return `It is sunny in ${city}.`;
  },
});
const agent = new RealtimeAgent({ name: 'Weather', instructions: 'You tell the weather.', tools: [weather] });
const session = new RealtimeSession(agent, { transport: new OpenAIRealtimeWebSocket({ url }) });
const log = new Log();
const errors = [];
session.on('error', (error) => errors.push(String(error.error?.message ?? error)));
session.on('transport_event', (event) => log.add(event));

await session.connect({ apiKey: 'none' });
const microphone = new Microphone((frame) =>
  session.sendAudio(frame.buffer.slice(frame.byteOffset, frame.byteOffset + frame.length)),
);
microphone.say(question);
const called = await log.until('response.done', ({ response }) => response.output[0]?.type === 'function_call');
const said = await log.until('response.done', ({ response }) => response.output[0]?.type === 'message');
microphone.stop();

// Typed, and interrupted by hand while the answer is spoken.
let here = log.events.length;
session.sendMessage('And in Rome?');
await log.until('response.output_audio_transcript.delta', () => true, here);
session.interrupt();
const cut = await log.until('response.done', ({ response }) => response.status === 'cancelled', here);
session.close();

writeFileSync(saved, audio(log));
console.log(
  JSON.stringify({
    asked,
    called: called.response.status,
    said: said.response.output[0].content[0].transcript,
    cut: cut.response.status,
    errors,
  }),
);
process.exit(0);
