"""Tests of the engines on Kyutai's models; they need torch and moshi, and run from an environment of their own."""
