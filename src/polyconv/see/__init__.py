"""See it: any layer drawn from its own geometry, as SVG, film or page."""
