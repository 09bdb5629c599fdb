"""What an image file says of itself, one file a format, read before an image library sees it."""
