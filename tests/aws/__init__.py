"""Adapters over fake, moto and ministack."""
