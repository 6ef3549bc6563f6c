"""Real servers for the tests: each is started when the first test asks for it and ends with the session."""
