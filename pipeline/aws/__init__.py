"""The only room that knows boto3. One file per service; foreign errors are translated in `errors.py`."""
