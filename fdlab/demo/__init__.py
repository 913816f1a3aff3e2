"""A page to play with the method in a browser: photos and a prompt in, a picture out."""
