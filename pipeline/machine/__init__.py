"""What one machine gives to whoever runs on it, on AWS and on the laptop: processes, signals, files; a floor below both."""
