"""Drop-ins for other packages' parallel parts; each needs its package and imports it when used."""
