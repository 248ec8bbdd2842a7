"""Media of items in, arrays of bounded size out; and what was made for users into the media store."""
