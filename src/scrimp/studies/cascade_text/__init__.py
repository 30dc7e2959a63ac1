"""The study cascade-text: the cascade study's measurements, on texts."""
