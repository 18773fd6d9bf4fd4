"""What clients send, as types: the current event model of the OpenAI Realtime API, and its beta form."""
