"""One child process: it imports the applications of one generation and serves them."""
