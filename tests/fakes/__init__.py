"""In-memory ports: small and obviously right; the behaviour suites hold them to what the adapters do."""
