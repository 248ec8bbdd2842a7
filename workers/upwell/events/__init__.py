"""Contracts of every topic as msgspec structs, their codecs, and validation. Bytes in, structs out, and back."""
