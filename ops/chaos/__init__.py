"""`antiphon chaos` and `antiphon soak`: a stack of their own under load, hurt by a seeded schedule."""
