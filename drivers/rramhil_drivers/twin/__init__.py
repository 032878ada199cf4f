"""`rramhil twin`: fit the emulated chip to measurements, and check it against them."""
