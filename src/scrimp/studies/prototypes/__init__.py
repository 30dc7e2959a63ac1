"""The study prototypes: `study.yaml`, `claims.yaml`, its card `README.md`, and what it probes and draws."""
