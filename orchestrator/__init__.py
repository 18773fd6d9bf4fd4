"""One spoken conversation: speech to text, a language model and text to speech, chained."""
