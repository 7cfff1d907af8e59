"""How a video network sees: 3D networks, data to train them on, and what they looked at."""
