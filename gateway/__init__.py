"""The OpenAI Realtime API over WebSockets and HTTP: a translation of Converse, and nothing more."""
